package mysql

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Put stores a grant under key, new or in place of the one there, and revives a credential that the
// provider had declared dead. The result of an exchange that was under way is dropped. An error
// that wraps [credentials.ErrInvalidKey] or [credentials.ErrInvalidGrant] says that nothing was
// written.
//
// After an error that wraps [credentials.ErrUnavailable] nobody knows whether the grant was stored.
// Get the credential before putting the same grant again: if the grant was stored, its refresh
// token may have been exchanged since, and would replace the one that works. An error that wraps
// [credentials.ErrSuperseded] says that something was written meanwhile.
func (s *Store) Put(ctx context.Context, key credentials.Key, g credentials.Grant) error {
	key, err := key.Normalize()
	if err != nil {
		return err
	}
	action := "put " + key.String()
	args, err := s.putArgs(key, g)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	before, err := s.before(ctx, action, key)
	if err != nil {
		return err
	}
	if err := s.owns(before); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return s.change(ctx, action, func(ctx context.Context, inDoubt bool) error {
		return s.transaction(ctx, newRow, func(conn *sqlx.Conn) error {
			if inDoubt || s.caution.on() {
				now, err := find(ctx, conn, s.selectForUpdate(), key)
				written := now.ID != before.ID || now.Version != before.Version
				switch {
				case err != nil:
					return err
				case inDoubt && written:
					return s.whichWrote(now, g)
				}
			}
			_, err := exec(ctx, conn, s.sql.upsertPut, args)
			return err
		})
	})
}

// whichWrote tells, for a put in doubt, its own earlier try from another write.
func (s *Store) whichWrote(now row, g credentials.Grant) error {
	superseded := fmt.Errorf("%w: nobody knows whether this grant was stored before; get the credential",
		credentials.ErrSuperseded)
	if now.ID == 0 {
		return superseded
	}
	return s.unlessHeld(now, g, superseded)
}

// Ensure implements [credentials.Store]: a read, and an INSERT where there is no row.
func (s *Store) Ensure(ctx context.Context, key credentials.Key, g credentials.Grant) error {
	key, err := key.Normalize()
	if err != nil {
		return err
	}
	action := "ensure " + key.String()
	args, err := s.putArgs(key, g)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	before, err := s.before(ctx, action, key)
	if err != nil || before.ID != 0 {
		return err
	}
	return s.write(ctx, action, func(ctx context.Context) error {
		return s.transaction(ctx, newRow, func(conn *sqlx.Conn) error {
			_, err := exec(ctx, conn, s.sql.insertNew, args)
			return err
		})
	})
}

// putArgs are the bind variables of a grant that is put, if the grant is valid.
func (s *Store) putArgs(key credentials.Key, g credentials.Grant) (map[string]any, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	lifetime := cmp.Or(g.Lifetime, credentials.Never)
	if g.AccessToken.IsZero() {
		lifetime = 0
	}
	args, err := s.grantArgs(key, g, lifetime, cmp.Or(g.RefreshLifetime, credentials.Never), g.DueIn())
	if err != nil {
		return nil, err
	}
	args["service"], args["account"] = key.Service, accountArg(key)
	return args, nil
}

// before reads the row that a person's change is about to write; the zero row if there is none.
func (s *Store) before(ctx context.Context, action string, key credentials.Key) (r row, err error) {
	err = s.read(ctx, action, func(ctx context.Context, conn *sqlx.Conn) (err error) {
		r, err = find(ctx, conn, s.sql.selectByKey, key)
		return err
	})
	return r, err
}

// change runs op, which is one transaction, until it succeeds. A try is in doubt if an earlier
// one may have been committed: then the row may hold that one's work, or something later.
func (s *Store) change(
	ctx context.Context, action string, op func(ctx context.Context, inDoubt bool) error,
) error {
	inDoubt := false
	return s.write(ctx, action, func(ctx context.Context) error {
		err := op(ctx, inDoubt)
		inDoubt = inDoubt || mayBeCommitted(err)
		return err
	})
}
