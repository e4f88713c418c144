package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// errNoClaim: an idle row's lease_id is empty too, so an empty claim would match it.
var errNoClaim = errors.New("the claim has no id")

// Claim implements [credentials.Store]: one short READ COMMITTED transaction that locks the row, decides and either
// writes the lease or writes nothing.
func (s *Store) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (c credentials.Credential, err error) {
	key, err = key.Normalize()
	if err != nil {
		return c, err
	}
	if claim.ID == "" {
		return c, errNoClaim
	}
	err = s.retry(ctx, "claim "+key.String(), func() error {
		return s.transaction(ctx, func(conn *sqlx.Conn) error {
			c, err = s.one(ctx, conn, s.sql.selectForClaim, keyArgs(key))
			switch {
			case err != nil:
				return err
			case c.Lease.ID == claim.ID && c.Lease.Live():
				return nil // made by an earlier try whose reply to COMMIT was lost
			case c.State(claim.Rejected) != credentials.Claimable:
				return nil
			}
			claimed, err := s.claim(ctx, conn, claim, []credentials.Credential{c})
			if err != nil {
				return err
			}
			c = claimed[0]
			return nil
		})
	})
	if err != nil {
		return credentials.Credential{}, err
	}
	return c, nil
}

// Save implements [credentials.Store]: one statement. Only where that misses, a second one tells an earlier try of the
// same save, whose reply was lost, from a later result.
func (s *Store) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	if fence.Claim == "" {
		return errNoClaim
	}
	args, err := grantArgs(renewal.Grant, renewal.Lifetime, renewal.RefreshLifetime, renewal.DueIn)
	if err != nil {
		return err
	}
	args["row"], args["claim"], args["version"] = fence.Row, fence.Claim, fence.Version
	args["holder"], args["took"] = renewal.By, renewal.Took.Microseconds()
	args["from"] = nil
	if renewal.From != 0 {
		args["from"] = time.Duration(renewal.From).Microseconds()
	}
	return s.retry(ctx, "save", func() error {
		n, err := s.exec(ctx, s.db, s.sql.updateSave, args)
		if err != nil || n > 0 {
			return err
		}
		stored, err := s.one(ctx, s.db, s.sql.selectByRow, map[string]any{"row": fence.Row})
		switch {
		case errors.Is(err, credentials.ErrNotFound):
			return fmt.Errorf("%w: the credential was deleted", credentials.ErrSuperseded)
		case err != nil:
			return err
		case stored.Token.Equal(renewal.Token) && stored.RefreshToken.Equal(renewal.RefreshToken):
			return nil
		}
		return credentials.ErrSuperseded
	})
}

// Fail implements [credentials.Store]: one statement, and a second one where a write since the claim made it miss.
func (s *Store) Fail(ctx context.Context, fence credentials.Fence, failure credentials.Failure) error {
	if fence.Claim == "" {
		return errNoClaim
	}
	args := fenceArgs(fence)
	args["class"], args["code"], args["reason"] = string(failure.Class), failure.Code, failure.Reason
	args["unknown"] = failure.Class == credentials.Unknown
	args["retry_in"] = micros(failure.RetryIn)
	if failure.Class == credentials.Rejected {
		args["retry_in"] = nil
	}
	return s.retry(ctx, "record the failure", func() error {
		n, err := s.exec(ctx, s.db, s.sql.updateFail, args)
		if err != nil || n > 0 {
			return err
		}
		if _, err := s.exec(ctx, s.db, s.sql.updateRelease, fenceArgs(fence)); err != nil {
			return err
		}
		return credentials.ErrSuperseded
	})
}

// Release implements [credentials.Store].
func (s *Store) Release(ctx context.Context, fence credentials.Fence) error {
	if fence.Claim == "" {
		return errNoClaim
	}
	return s.retry(ctx, "release the lease", func() error {
		_, err := s.exec(ctx, s.db, s.sql.updateRelease, fenceArgs(fence))
		return err
	})
}

func fenceArgs(f credentials.Fence) map[string]any {
	return map[string]any{"row": f.Row, "claim": f.Claim, "version": f.Version}
}

// transaction runs f in a READ COMMITTED transaction on a connection of its own, and commits if f returns nil. READ
// COMMITTED, because a locking read that finds no row takes gap locks under REPEATABLE READ.
//
// It sends the statements itself: [database/sql.Tx.Commit] ignores the context and hangs on a server that fell silent.
// https://dev.mysql.com/doc/refman/8.4/en/innodb-transaction-isolation-levels.html
func (s *Store) transaction(ctx context.Context, f func(*sqlx.Conn) error) (err error) {
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			discardUnlessRolledBack(ctx, conn)
		}
		_ = conn.Close()
	}()
	for _, statement := range []string{"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if err := f(conn); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// discardUnlessRolledBack sees to it that no connection goes back to the host's pool with a transaction open, which
// would hold the row's lock. After a lock-wait time-out (1205) only the statement is rolled back, so it always asks.
func discardUnlessRolledBack(ctx context.Context, conn *sqlx.Conn) {
	if ctx.Err() == nil {
		if _, err := conn.ExecContext(ctx, "ROLLBACK"); err == nil {
			return
		}
	}
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}
