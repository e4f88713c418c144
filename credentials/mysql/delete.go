package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Delete removes the credential, or returns an error that wraps [credentials.ErrNotFound]. The
// result of an exchange that was under way is dropped. The provider is not told:
// [credentials.Disconnect] waits for that exchange and returns the newest refresh token, for
// oauth2refresh.Refresher.Revoke.
func (s *Store) Delete(ctx context.Context, key credentials.Key) error {
	key, err := key.Normalize()
	if err != nil {
		return err
	}
	action := "delete " + key.String()
	before, err := s.before(ctx, action, key)
	if err != nil {
		return err
	}
	if err := s.owns(before); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return s.change(ctx, action, func(ctx context.Context, inDoubt bool) error {
		return s.transaction(ctx, oneRow, func(conn *sqlx.Conn) error {
			// By the key, as every lock is taken first: see sql.go.
			if _, err := find(ctx, conn, s.selectForUpdate(), key); err != nil {
				return err
			}
			// By its id, too: a row that is made under the key meanwhile stays.
			n, err := exec(ctx, conn, s.sql.deleteRow, rowArgs(key, before.ID))
			if err == nil && n == 0 && !inDoubt {
				return credentials.ErrNotFound
			}
			return err
		})
	})
}

// Remove deletes the credential as Delete does, if it is the one that the operator saw. Errors are
// those of Disable.
func (s *Store) Remove(ctx context.Context, ch credentials.Change) error {
	return s.operate(ctx, operation{
		Change: ch, name: "delete", sql: s.sql.deleteSeen, removes: true,
		done: func(now, tried row) bool { return tried.ID != 0 && now.ID != tried.ID },
	})
}

// deleteBatch is how many credentials one transaction deletes.
const deleteBatch = 500

// Deletion asks [Store.DeleteAll] for the credentials of a service.
type Deletion struct {
	// Service is whose credentials are deleted.
	Service string

	// DryRun reads and counts, and writes nothing.
	DryRun bool

	// Each, if set, is called with the name of each credential that was deleted, or would be.
	Each func(credentials.Key)
}

// DeleteAll removes the credentials that the service has when the call begins, and returns how
// many: 500 at most in each transaction, which is committed before Each is told their names. Those
// of another deployment stay, and so does one that is made meanwhile, under a name that was deleted
// too. The results of exchanges that were under way are dropped; the provider is not told. After an
// error, or when ctx has ended, a repeated call goes on with the rest.
func (s *Store) DeleteAll(ctx context.Context, d Deletion) (deleted int, err error) {
	service, err := credentials.NormalizeService(d.Service)
	if err != nil {
		return 0, err
	}
	ids, err := s.ids(ctx, s.sql.selectIDs, service)
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(ids, deleteBatch) {
		found, err := s.deleteSome(ctx, service, some, d.DryRun)
		if err != nil {
			return deleted, err
		}
		deleted += len(found)
		for _, one := range found {
			if d.Each != nil {
				d.Each(one.key)
			}
		}
	}
	return deleted, nil
}

// deleteSome deletes those of the rows that are there, and returns them.
func (s *Store) deleteSome(
	ctx context.Context, service string, ids []uint64, dryRun bool,
) (found []rowName, err error) {
	action := "delete credentials of " + service
	query, values, err := sqlx.In(s.sql.selectNames.text, ids, s.sealer.deployment)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, action, func(ctx context.Context, conn *sqlx.Conn) (err error) {
		found, err = findNames(ctx, conn, query, values, service)
		return err
	})
	if dryRun || err != nil || len(found) == 0 {
		return found, err
	}
	lock := s.sql.lockNames.text + byRows(found) + "\n  AND deployment IN ('', ?)\n" + forUpdate
	var lost []rowName // what an earlier try deleted whose reply was lost
	deleted := found[:0:0]
	err = s.change(ctx, action, func(ctx context.Context, inDoubt bool) error {
		if inDoubt && len(deleted) > 0 {
			lost = deleted
		}
		return s.transaction(ctx, manyRows, func(conn *sqlx.Conn) (err error) {
			deleted, err = findNames(ctx, conn, lock, []any{s.sealer.deployment}, service)
			if err != nil || len(deleted) == 0 {
				return err
			}
			_, err = exec(ctx, conn, s.sql.deleteRows.and(byRows(deleted)), nil)
			return err
		})
	})
	if err == nil && len(deleted) == 0 {
		deleted = lost // it was committed
	}
	return deleted, err
}

// findNames returns the names of the service's rows that the statement finds.
func findNames(
	ctx context.Context, conn *sqlx.Conn, query string, values []any, service string,
) (found []rowName, err error) {
	one := rowName{key: credentials.Key{Service: service}}
	targets := []any{&one.id, &one.key.Account}
	err = scan(ctx, conn, query, values, targets, func() { found = append(found, one) })
	return found, err
}
