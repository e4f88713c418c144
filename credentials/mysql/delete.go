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
		// By its id: a row that is made under the key meanwhile stays.
		return s.onRow(ctx, before.ID, func(conn *sqlx.Conn) error {
			n, err := exec(ctx, conn, s.sql.deleteRow, map[string]any{"row": before.ID})
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
		found, err := s.deleteSome(ctx, "delete credentials of "+service, some, d.DryRun)
		if err != nil {
			return deleted, err
		}
		deleted += len(found)
		for _, one := range found {
			if d.Each != nil {
				d.Each(credentials.Key{Service: service, Account: one.account})
			}
		}
	}
	return deleted, nil
}

// deleteSome deletes those of the rows that are there, and returns them.
func (s *Store) deleteSome(
	ctx context.Context, action string, ids []uint64, dryRun bool,
) (found []rowName, err error) {
	if dryRun {
		err = s.read(ctx, action, func(ctx context.Context, conn *sqlx.Conn) (err error) {
			found, err = findNames(ctx, conn, s.sql.selectNames, ids, s.sealer.deployment)
			return err
		})
		return found, err
	}
	var lost []rowName // what an earlier try deleted whose reply was lost
	err = s.change(ctx, action, func(ctx context.Context, inDoubt bool) error {
		if inDoubt && len(found) > 0 {
			lost = found
		}
		return s.transaction(ctx, manyRows, func(conn *sqlx.Conn) (err error) {
			found, err = findNames(ctx, conn, s.sql.lockNames, ids, s.sealer.deployment)
			if err != nil || len(found) == 0 {
				return err
			}
			sql, values, err := sqlx.In(s.sql.deleteRows.text, idsOf(found))
			if err != nil {
				return err
			}
			_, err = conn.ExecContext(ctx, sql, values...)
			return failed(err)
		})
	})
	if err == nil && len(found) == 0 {
		found = lost // it was committed
	}
	return found, err
}

// rowName is a row's id, and the name of its account.
type rowName struct {
	id      uint64
	account string
}

func idsOf(rows []rowName) []uint64 {
	ids := make([]uint64, len(rows))
	for i, one := range rows {
		ids[i] = one.id
	}
	return ids
}

// findNames returns the names of those of the rows that are there, and are not another
// deployment's.
func findNames(
	ctx context.Context, conn *sqlx.Conn, sql statement, ids []uint64, deployment string,
) (found []rowName, err error) {
	query, values, err := sqlx.In(sql.text, ids, deployment)
	if err != nil {
		return nil, err
	}
	var one rowName
	err = scan(ctx, conn, query, values, []any{&one.id, &one.account}, func() { found = append(found, one) })
	return found, err
}
