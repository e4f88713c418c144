package mysql

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/latchkey-go/latchkey/credentials"
)

// A sealed value is the mark, the name of the write and the AEAD's ciphertext. All values of a row
// are sealed by one write and bear its name, so that a single one that is put back from an earlier
// write does not go with the others. An empty token is stored empty, and the other values are bound
// to its absence (associatedData). The column extra is always sealed, and tells a sealed row from a
// plain one.
const (
	// mark begins with a zero byte, as no plain value does: [credentials.Grant.Validate] refuses
	// such a token, and extra is a JSON object. The mark's last byte is the format's version.
	mark        = "\x00lk\x01"
	writeLength = 16

	// maxValue is how much a column holds. A server that is not in strict mode would cut a longer
	// value off.
	maxValue = 65535
)

// secrets are the values of a row that are sealed.
type secrets struct{ access, refresh, extra []byte }

// byColumn yields each value by the name of its column.
func (v *secrets) byColumn() iter.Seq2[string, *[]byte] {
	return func(yield func(string, *[]byte) bool) {
		_ = yield("access_token", &v.access) && yield("refresh_token", &v.refresh) && yield("extra", &v.extra)
	}
}

// tokens says which tokens there are.
func (v *secrets) tokens() string {
	var there []string
	for column, value := range v.byColumn() {
		if len(*value) > 0 && column != "extra" {
			there = append(there, column)
		}
	}
	return strings.Join(there, " ")
}

// sealed reports whether no value is plain. A token that is not there counts as none; extra is
// always there.
func (v *secrets) sealed() bool {
	for column, value := range v.byColumn() {
		if !begins(*value) && (column == "extra" || len(*value) > 0) {
			return false
		}
	}
	return true
}

// sealer seals the secrets that a store writes, and opens those that it reads.
type sealer struct {
	aead          AEAD // nil: the secrets are written as they are
	deployment    string
	requireSealed bool
	log           *slog.Logger
	unsealed      sync.Once // said that the secrets are written as they are
}

// binding is the place to which the values of a write are bound.
type binding struct {
	key        credentials.Key
	deployment string
	write      []byte
	tokens     string // which there are: a token that somebody empties is missed
}

// associatedData is the place of a column's value. Each part follows its length, so that no two
// places have the same.
func (b binding) associatedData(column string) []byte {
	data := []byte(mark)
	for _, part := range []string{
		column, b.key.Service, b.key.Account, b.deployment, string(b.write), b.tokens,
	} {
		data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	return data
}

// seal returns the secrets as the row of that key is to hold them.
func (s *sealer) seal(key credentials.Key, plain secrets) (sealed secrets, err error) {
	if s.aead == nil {
		s.unsealed.Do(func() {
			s.log.Warn("credentials are stored unsealed, so that whoever reads the table, its backups or " +
				"the server's logs has the tokens; set mysql.Options.AEAD")
		})
		return plain, nil
	}
	if _, err := key.Normalize(); err != nil {
		return secrets{}, fmt.Errorf("seal: %w", err) // a fence that no claim returned
	}
	b := binding{key: key, deployment: s.deployment, write: make([]byte, writeLength), tokens: plain.tokens()}
	_, _ = rand.Read(b.write) // never fails
	for column, value := range plain.byColumn() {
		if len(*value) == 0 {
			continue
		}
		ciphertext, err := guarded(s.aead.Encrypt, *value, b.associatedData(column))
		if err != nil {
			return secrets{}, fmt.Errorf("seal column %s of %s: %w", column, key, err)
		}
		*value = slices.Concat([]byte(mark), b.write, ciphertext)
		if len(*value) > maxValue {
			return secrets{}, fmt.Errorf("seal column %s of %s: the sealed value has %d bytes, the "+
				"column holds %d; the AEAD adds too many", column, key, len(*value), maxValue)
		}
	}
	return plain, nil
}

// open returns the secrets of a row of that key and deployment as they were before they were
// sealed. Rows from before sealing are plain. Errors wrap [credentials.ErrSealed].
func (s *sealer) open(key credentials.Key, deployment string, found secrets) (plain secrets, err error) {
	refuse := func(format string, args ...any) (secrets, error) {
		return secrets{}, fmt.Errorf("%w: "+format, append([]any{credentials.ErrSealed}, args...)...)
	}
	isSealed := begins(found.extra)
	for column, value := range found.byColumn() {
		if len(*value) > 0 && begins(*value) != isSealed {
			return refuse("of %s one column is sealed and another is not (%s, extra): somebody has "+
				"replaced one; put a new grant", key, column)
		}
	}
	switch {
	case !isSealed && s.requireSealed:
		return refuse("the values of %s are not sealed, and Options.RequireSealed refuses plain ones; "+
			"re-seal the table first, or put a new grant", key)
	case !isSealed:
		return found, nil
	case s.aead == nil:
		return refuse("the values of %s are sealed, and this process has no key; set Options.AEAD", key)
	}
	b := binding{key: key, deployment: deployment, tokens: found.tokens()}
	b.write, _, _ = split(found.extra)
	for column, value := range found.byColumn() {
		if len(*value) == 0 {
			continue
		}
		write, ciphertext, ok := split(*value)
		switch {
		case !ok || b.write == nil:
			return refuse("a column of %s was cut off, or sealed by a later version of latchkey "+
				"(%s, or extra)", key, column)
		case !bytes.Equal(write, b.write):
			return refuse("columns %s and extra of %s are from different writes: somebody has "+
				"replaced one; put a new grant", column, key)
		}
		if *value, err = guarded(s.aead.Decrypt, ciphertext, b.associatedData(column)); err != nil {
			return refuse("column %s of %s%s: no key of this process opens it, or the value was damaged, "+
				"or comes from another row, column or deployment: %w",
				column, key, s.sealedBy(ciphertext), err)
		}
	}
	return found, nil
}

// sealedBy names the key of the ciphertext for people.
func (s *sealer) sealedBy(ciphertext []byte) string {
	id, named := keyID(ciphertext)
	if _, names, err := primaryKey(s.aead); !named || err == nil && !names {
		return ""
	}
	return fmt.Sprintf(" is sealed under key %d", id)
}

// begins reports whether the value begins as sealed ones do.
func begins(value []byte) bool { return len(value) > 0 && value[0] == mark[0] }

// split returns the parts of a sealed value.
func split(value []byte) (write, ciphertext []byte, ok bool) {
	rest, ok := bytes.CutPrefix(value, []byte(mark))
	if !ok || len(rest) < writeLength {
		return nil, nil, false
	}
	return rest[:writeLength], rest[writeLength:], true
}

// check reports whether the AEAD opens what it seals.
func (s *sealer) check() error {
	if s.aead == nil {
		return nil
	}
	const probe = "{}"
	key := credentials.Key{Service: "check"}
	sealed, err := s.seal(key, secrets{extra: []byte(probe)})
	if err != nil {
		return err
	}
	switch opened, err := s.open(key, s.deployment, sealed); {
	case err != nil:
		return err
	case string(opened.extra) != probe:
		return errors.New("the AEAD opens a sealed value as another one")
	}
	return nil
}
