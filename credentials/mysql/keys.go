package mysql

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// KeyCount says how many rows of the table need which key.
type KeyCount struct {
	// Rows is how many there are, of all deployments.
	Rows int

	// Plain is how many are not sealed.
	Plain int

	// Keys is how many have a value that was sealed under the key of that id, as Tink has it.
	Keys map[uint32]int

	// Unnamed is how many are sealed, and name no key, or were damaged.
	Unnamed int

	// Primary is the id of the key that seals now; zero if the AEAD's ciphertexts name none, or the
	// store has no AEAD.
	Primary uint32
}

// Others is how many rows are plain, or were sealed under another key than the primary one.
func (c KeyCount) Others() int {
	n := c.Plain + c.Unnamed
	for id, rows := range c.Keys {
		if id != c.Primary {
			n += rows
		}
	}
	return n
}

// countPage is how many rows one statement of CountKeys reads: the beginnings of their values.
const countPage = 5000

// CountKeys counts the rows by the keys that they need, in pages, without a lock and without a key.
// A key that no row needs may be retired, if no process seals with it any more.
func (s *Store) CountKeys(ctx context.Context) (count KeyCount, err error) {
	count.Keys = make(map[uint32]int)
	named := true
	if s.sealer.aead != nil {
		if count.Primary, named, err = primaryKey(s.sealer.aead); err != nil {
			return count, err
		}
	}
	for after := uint64(0); ; {
		page, err := s.beginnings(ctx, after)
		if err != nil || len(page) == 0 {
			return count, err
		}
		for _, one := range page {
			count.add(one.secrets, named)
		}
		after = page[len(page)-1].id
	}
}

// beginning has the first bytes of a row's values.
type beginning struct {
	id uint64
	secrets
}

func (s *Store) beginnings(ctx context.Context, after uint64) (page []beginning, err error) {
	values, err := s.sql.selectBeginnings.values(map[string]any{"after": after, "limit": countPage})
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, "count the keys", func(ctx context.Context, conn *sqlx.Conn) error {
		page = page[:0]
		var one beginning
		targets := []any{&one.id, &one.access, &one.refresh, &one.extra}
		return scan(ctx, conn, s.sql.selectBeginnings.text, values, targets, func() {
			page = append(page, one)
			one.secrets = secrets{}
		})
	})
	return page, err
}

// add counts a row, given the beginnings of its values.
func (c *KeyCount) add(v secrets, named bool) {
	c.Rows++
	keys := make(map[uint32]bool)
	plain, unnamed := false, false
	for _, value := range v.byColumn() {
		if len(*value) == 0 {
			continue
		}
		_, ciphertext, ok := split(*value)
		id, names := keyID(ciphertext)
		switch {
		case !begins(*value):
			plain = true
		case !ok || !named || !names:
			unnamed = true
		default:
			keys[id] = true
		}
	}
	for id := range keys {
		c.Keys[id]++
	}
	switch {
	case plain:
		c.Plain++
	case unnamed:
		c.Unnamed++
	}
}
