package mysql

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Get implements [credentials.Store].
func (s *Store) Get(ctx context.Context, key credentials.Key) (c credentials.Credential, err error) {
	key, err = key.Normalize()
	if err != nil {
		return c, err
	}
	err = s.read(ctx, "read "+key.String(), func(ctx context.Context, conn *sqlx.Conn) error {
		if c, err = s.one(ctx, conn, s.sql.selectByKey, keyArgs(key)); err == nil {
			_ = s.checkClock(ctx, conn, c) // remembered for the claims: a read needs no clock
		}
		return err
	})
	return c, err
}

// maxKeys is how many credentials one statement reads, or claims.
const maxKeys = 500

// GetAll implements [credentials.Store]: one SELECT for every 500 keys.
func (s *Store) GetAll(ctx context.Context, keys []credentials.Key) ([]credentials.Found, error) {
	return allKeys("read", keys, func(some []credentials.Key, answer answerFunc) error {
		return s.getAll(ctx, some, answer)
	})
}

// answerFunc takes what is found under a normalized key.
type answerFunc = func(credentials.Key, credentials.Found)

// allKeys runs do for every 500 of the keys, normalized and by service, and returns its answers in
// the order of keys. A key without an answer is one that is not there.
func allKeys(
	action string, keys []credentials.Key, do func(some []credentials.Key, answer answerFunc) error,
) ([]credentials.Found, error) {
	found := make([]credentials.Found, len(keys))
	places := make(map[credentials.Key][]int, len(keys)) // of each key, in found
	for i, key := range keys {
		key, err := key.Normalize()
		if err != nil {
			found[i].Err = err
			continue
		}
		places[key] = append(places[key], i)
		found[i].Err = fmt.Errorf("%s %s: %w", action, key, credentials.ErrNotFound)
	}
	answer := func(key credentials.Key, answer credentials.Found) {
		for _, i := range places[key] {
			found[i] = answer
		}
	}
	for some := range slices.Chunk(slices.SortedFunc(maps.Keys(places), byService), maxKeys) {
		if err := do(some, answer); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// getAll reads with one statement, and calls answer for the keys that have a row.
func (s *Store) getAll(
	ctx context.Context, keys []credentials.Key, answer answerFunc,
) error {
	condition, values := byKeys(keys)
	action := fmt.Sprintf("read %d credentials", len(keys))
	return s.read(ctx, action, func(ctx context.Context, conn *sqlx.Conn) error {
		var late credentials.Credential // the one that shows most of the server's clock
		err := each(ctx, conn, s.sql.selectAll.text+condition, values, func(r row) {
			c, err := s.credential(r)
			if err != nil {
				answer(c.Key, credentials.Found{Err: fmt.Errorf("read %s: %w", c.Key, err)})
				return
			}
			answer(c.Key, credentials.Found{Credential: c})
			if late.Row == 0 || clockLag(c) > clockLag(late) {
				late = c
			}
		})
		if err == nil && late.Row != 0 {
			_ = s.checkClock(ctx, conn, late) // remembered for the claims, as in Get
		}
		return err
	})
}

func byService(a, b credentials.Key) int {
	return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Account, b.Account))
}

// maxVersions is how many rows one statement asks for: 8 MB of text where all accounts have the
// longest names.
const maxVersions = 5000

// Versions implements [credentials.Store].
func (s *Store) Versions(ctx context.Context, rows map[uint64]credentials.Key) (map[uint64]uint64, error) {
	versions := make(map[uint64]uint64, len(rows))
	names := make([]rowName, 0, len(rows))
	for id, key := range rows {
		names = append(names, rowName{id, key})
	}
	for some := range slices.Chunk(names, maxVersions) {
		query := s.sql.selectVersions.text + byRows(some)
		err := s.read(ctx, "read versions", func(ctx context.Context, conn *sqlx.Conn) error {
			var row, version uint64
			return scan(ctx, conn, query, nil, []any{&row, &version}, func() { versions[row] = version })
		})
		if err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// DueServices implements [credentials.Store].
func (s *Store) DueServices(ctx context.Context) (due map[string]time.Duration, err error) {
	err = s.read(ctx, "read which services are due", func(ctx context.Context, conn *sqlx.Conn) error {
		due = make(map[string]time.Duration)
		var service string
		var micros int64
		return scan(ctx, conn, s.sql.selectDueServices.text, nil, []any{&service, &micros}, func() {
			due[service] = duration(micros)
		})
	})
	if err != nil {
		return nil, err
	}
	return due, nil
}

// one runs a SELECT of rows that finds at most one.
func (s *Store) one(
	ctx context.Context, conn *sqlx.Conn, sql statement, args map[string]any,
) (credentials.Credential, error) {
	found, err := all(ctx, conn, sql, args)
	switch {
	case err != nil:
		return credentials.Credential{}, err
	case len(found) == 0:
		return credentials.Credential{}, credentials.ErrNotFound
	}
	return s.credential(found[0])
}

// find returns the row under the key, also one whose contents cannot be read; the zero row if there
// is none.
func find(ctx context.Context, conn *sqlx.Conn, sql statement, key credentials.Key) (row, error) {
	found, err := all(ctx, conn, sql, keyArgs(key))
	if err != nil || len(found) == 0 {
		return row{}, err
	}
	return found[0], nil
}

func keyArgs(key credentials.Key) map[string]any {
	return map[string]any{"service": key.Service, "account": accountArg(key)}
}

// rowArgs are the values of byRow.
func rowArgs(key credentials.Key, id uint64) map[string]any {
	args := keyArgs(key)
	args["row"] = id
	return args
}

// accountArg is the account's name as a bind variable: see account in sql.go.
func accountArg(key credentials.Key) string { return hex.EncodeToString([]byte(key.Account)) }
