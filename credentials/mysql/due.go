package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// DueServices implements [credentials.Store].
func (s *Store) DueServices(ctx context.Context) (due map[string]time.Duration, err error) {
	err = s.retry(ctx, "read which services are due", func() error {
		due = make(map[string]time.Duration)
		found, err := s.db.QueryContext(ctx, s.sql.selectDueServices)
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			var service string
			var micros int64
			if err := found.Scan(&service, &micros); err != nil {
				return err
			}
			due[service] = duration(micros)
		}
		return found.Err()
	})
	if err != nil {
		return nil, err
	}
	return due, nil
}

// farPast is longer than anything has been due.
const farPast = 100 * 365 * 24 * time.Hour

// ClaimDue implements [credentials.Store]: one short READ COMMITTED transaction that locks what it takes and writes all
// the leases in one statement.
//
// A row that cannot be read is left out, and not due again for the length of a lease, so that others are reached: who
// asks for that credential is told why.
func (s *Store) ClaimDue(ctx context.Context, batch credentials.Batch) (claimed []credentials.Credential, err error) {
	service, err := credentials.NormalizeService(batch.Service)
	switch {
	case err != nil:
		return nil, err
	case batch.ID == "":
		return nil, errNoClaim
	case batch.Limit < 1:
		return nil, fmt.Errorf("claim what is due of %s: a limit of %d; it has to be 1 or more", service, batch.Limit)
	}
	longest := batch.Longest
	if longest <= 0 || longest > farPast {
		longest = farPast
	}
	args := map[string]any{
		"service": service,
		"overdue": micros(max(batch.Overdue, 0)),
		"longest": micros(longest),
		"limit":   batch.Limit,
		"claim":   batch.ID,
		"lease":   micros(batch.Lease),
	}
	inDoubt := batch.Repeated // an earlier try may have taken effect
	err = s.retry(ctx, "claim what is due of "+service, func() error {
		if inDoubt {
			found, err := s.all(ctx, s.db, s.sql.selectClaimed, args)
			claimed, _ = readable(found)
			if err == nil && len(claimed) == 0 && !batch.Repeated {
				return errInDoubt
			}
			return err
		}
		committing := false
		err := s.transaction(ctx, func(conn *sqlx.Conn) (err error) {
			claimed, err = s.claimDue(ctx, conn, batch.Claim, args)
			committing = err == nil && len(claimed) > 0
			return err
		})
		inDoubt = committing && err != nil && !rolledBack(err)
		return err
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// errInDoubt: the reply to a COMMIT was lost, and what it claims is not to be seen yet. To claim again would make two
// batches of one.
var errInDoubt = errors.New("nobody knows whether the claims were committed")

// claimDue claims in the transaction that is open on conn.
func (s *Store) claimDue(ctx context.Context, conn *sqlx.Conn, claim credentials.Claim, args map[string]any) ([]credentials.Credential, error) {
	found, err := s.all(ctx, conn, s.sql.lockDue, args)
	if err != nil {
		return nil, err
	}
	due, unreadable := readable(found)
	if len(unreadable) > 0 {
		postpone, values, err := sqlx.In(s.sql.updatePostpone, args["lease"], unreadable)
		if err != nil {
			return nil, err
		}
		if _, err := conn.ExecContext(ctx, postpone, values...); err != nil {
			return nil, err
		}
	}
	claimable := due[:0]
	for _, c := range due {
		if c.State(credentials.Secret{}) == credentials.Claimable {
			claimable = append(claimable, c)
		}
	}
	if len(claimable) == 0 {
		return nil, nil
	}
	return s.claim(ctx, conn, claim, claimable)
}

// readable returns the rows' credentials, and the ids of those that cannot be read.
func readable(rows []row) (good []credentials.Credential, unreadable []uint64) {
	for _, r := range rows {
		c, err := r.credential()
		if err != nil {
			unreadable = append(unreadable, r.ID)
			continue
		}
		good = append(good, c)
	}
	return good, unreadable
}

// claim makes the claim on all of these rows, as they were read, or on none: then errLostRace.
func (s *Store) claim(ctx context.Context, conn *sqlx.Conn, claim credentials.Claim, rows []credentials.Credential) ([]credentials.Credential, error) {
	n, err := s.exec(ctx, conn, s.sql.updateClaim+unchanged(rows), map[string]any{
		"claim":  claim.ID,
		"holder": claim.Holder,
		"lease":  micros(claim.Lease),
	})
	if err != nil {
		return nil, err
	}
	if n != int64(len(rows)) {
		return nil, errLostRace
	}
	claimed := make([]credentials.Credential, len(rows))
	for i, c := range rows {
		claimed[i] = c.Claimed(claim)
	}
	return claimed, nil
}

// unchanged is the condition that a row is one of these, as it was read: "id IN (7, 9) AND (id, version) IN ((7, 3),
// (9, 1))", in digits. The second half would do, but MariaDB reads the whole table for a single pair.
func unchanged(rows []credentials.Credential) string {
	var ids, pairs []byte
	for i, c := range rows {
		if i > 0 {
			ids, pairs = append(ids, ", "...), append(pairs, ", "...)
		}
		ids = fmt.Appendf(ids, "%d", c.Row)
		pairs = fmt.Appendf(pairs, "(%d, %d)", c.Row, c.Version)
	}
	return fmt.Sprintf("id IN (%s) AND (id, version) IN (%s)", ids, pairs)
}
