package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Claim implements [credentials.Store]: one short transaction that locks the row, decides and
// either writes the lease or writes nothing.
func (s *Store) Claim(
	ctx context.Context, key credentials.Key, claim credentials.Claim,
) (c credentials.Credential, err error) {
	key, err = key.Normalize()
	if err != nil {
		return c, err
	}
	if claim.ID == "" {
		return c, credentials.ErrNoClaim
	}
	err = s.write(ctx, "claim "+key.String(), func(ctx context.Context) error {
		return s.transaction(ctx, oneRow, func(conn *sqlx.Conn) (err error) {
			c, err = s.claimOne(ctx, conn, key, claim)
			return err
		})
	})
	if err != nil {
		return credentials.Credential{}, err
	}
	return c, nil
}

// claimOne claims in the transaction that is open on conn.
func (s *Store) claimOne(
	ctx context.Context, conn *sqlx.Conn, key credentials.Key, claim credentials.Claim,
) (credentials.Credential, error) {
	c, err := s.one(ctx, conn, s.selectForUpdate(), keyArgs(key))
	if err != nil {
		return c, err
	}
	clockErr := s.checkClock(ctx, conn, c)
	switch {
	case c.Lease.ID == claim.ID && c.Lease.Live():
		return c.FoundAgain(), nil // made by an earlier try whose reply to COMMIT was lost
	case c.State(claim) != credentials.StateClaimable:
		return c, nil
	case clockErr != nil:
		return c, clockErr
	}
	claimed, err := s.claim(ctx, conn, claim, []credentials.Credential{c})
	if err != nil {
		return c, err
	}
	return claimed[0], nil
}

// ClaimDue implements [credentials.Store]: one short READ COMMITTED transaction that locks the rows
// it takes and writes all the leases in one statement.
//
// A row that cannot be read is left out, and is not due again for the length of a lease, so that
// other rows are reached: the log names one, and a caller that asks for that credential is told the
// reason. A row of another deployment gives [credentials.ErrOtherDeployment], and then nothing is
// claimed: the table, or this copy of it, is not this program's to work on.
func (s *Store) ClaimDue(
	ctx context.Context, batch credentials.Batch,
) (claimed []credentials.Credential, err error) {
	batch, err = batch.Normalize()
	if err != nil {
		return nil, err
	}
	longest := batch.MaxOverdue
	if longest <= 0 {
		longest = credentials.Never
	}
	args := map[string]any{
		"service": batch.Service,
		"overdue": micros(max(batch.MinOverdue, 0)),
		"longest": longest.Microseconds(), // Never is 292 years; DATETIME begins in the year 1000
		"limit":   batch.Limit,
		"lease":   micros(batch.Lease),
		"lapsed":  nil, // no lease has ended for so long
	}
	if batch.Lapsed > 0 {
		args["lapsed"] = micros(batch.Lapsed)
	}
	began := time.Now()
	inDoubt := false // an earlier try may have taken effect
	err = s.write(ctx, "claim the due credentials of "+batch.Service, func(ctx context.Context) error {
		if inDoubt {
			return s.onConnection(ctx, func(conn *sqlx.Conn) error {
				claimed, err = s.findClaims(ctx, conn, batch, time.Since(began))
				if err == nil && len(claimed) == 0 {
					return errInDoubt
				}
				return err
			})
		}
		err := s.transaction(ctx, manyRows, func(conn *sqlx.Conn) (err error) {
			claimed, err = s.claimDue(ctx, conn, batch, args)
			return err
		})
		inDoubt = len(claimed) > 0 && mayBeCommitted(err)
		return err
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// claimDue claims in the transaction that is open on conn.
func (s *Store) claimDue(
	ctx context.Context, conn *sqlx.Conn, batch credentials.Batch, args map[string]any,
) ([]credentials.Credential, error) {
	lock := s.sql.lockDue
	if batch.Probe {
		lock = s.sql.lockProbe
	}
	due, err := s.lockDue(ctx, conn, lock, args)
	if err != nil {
		return nil, err
	}
	claimable := due[:0]
	for _, c := range due {
		if c.State(batch.Claim) == credentials.StateClaimable {
			claimable = append(claimable, c)
		}
	}
	if len(claimable) == 0 {
		return nil, nil
	}
	for _, c := range claimable {
		if err := s.checkClock(ctx, conn, c); err != nil {
			return nil, err
		}
	}
	return s.claim(ctx, conn, batch.Claim, claimable)
}

// maxPostpones is how many times one claim looks for others in the place of rows that cannot be
// read.
const maxPostpones = 20

// lockDue locks due rows and returns those that can be read. The others are postponed, and the
// search is made again: however many of them have been due for longest, the rest is reached.
func (s *Store) lockDue(
	ctx context.Context, conn *sqlx.Conn, lock statement, args map[string]any,
) (due []credentials.Credential, err error) {
	var postponed []unreadable
	for range maxPostpones {
		found, err := all(ctx, conn, lock, args)
		if err != nil {
			return nil, err
		}
		var bad []unreadable
		if due, bad = s.readable(found); len(bad) == 0 {
			break
		}
		if err := s.postpone(ctx, conn, bad, args["lease"]); err != nil {
			return nil, err
		}
		postponed = append(postponed, bad...)
	}
	if len(postponed) > 0 {
		s.log.WarnContext(ctx, "due credentials cannot be read, and are passed over for the length of a lease",
			"count", len(postponed), "credential", postponed[0].key.String(), "error", postponed[0].err)
	}
	return due, nil
}

// postpone has rows that cannot be read not be due for the length of a lease. One of another
// deployment is an error.
func (s *Store) postpone(ctx context.Context, conn *sqlx.Conn, bad []unreadable, lease any) error {
	rows := make([]rowName, len(bad))
	for i, one := range bad {
		if errors.Is(one.err, credentials.ErrOtherDeployment) {
			return one.err
		}
		rows[i] = one.rowName
	}
	_, err := exec(ctx, conn, s.sql.updatePostpone.and(byRows(rows)+dueNow), map[string]any{"lease": lease})
	return err
}

// FindClaims implements [credentials.Store]. A row whose contents cannot be read is left out.
func (s *Store) FindClaims(
	ctx context.Context, batch credentials.Batch, age time.Duration,
) (found []credentials.Credential, err error) {
	if batch.ID == "" {
		return nil, credentials.ErrNoClaim
	}
	began := time.Now()
	action := "look for the claims of a batch of " + batch.Service
	err = s.read(ctx, action, func(ctx context.Context, conn *sqlx.Conn) (err error) {
		found, err = s.findClaims(ctx, conn, batch, age+time.Since(began))
		return err
	})
	return found, err
}

// A batch that began some time ago was claimed at most claimEarly before and at most claimLate
// after that moment: a call lasts for some seconds, and a COMMIT may take effect when its caller
// has given the call up.
const (
	claimEarly = 10 * time.Second
	claimLate  = time.Minute
)

func (s *Store) findClaims(
	ctx context.Context, conn *sqlx.Conn, batch credentials.Batch, age time.Duration,
) ([]credentials.Credential, error) {
	found, err := all(ctx, conn, s.sql.selectClaimed, map[string]any{
		"service": batch.Service,
		"claim":   batch.ID,
		"first":   micros(batch.Lease - age - claimEarly),
		"last":    micros(batch.Lease - age + claimLate),
	})
	claimed, _ := s.readable(found)
	for i, c := range claimed {
		claimed[i] = c.FoundAgain()
	}
	return claimed, err
}

// claim makes the claim on these rows, as they were read, and returns those that bear it now. A
// server that grants row locks to several lets another claim come first: its rows are left out, and
// if none remains, the error is errLostRace.
func (s *Store) claim(
	ctx context.Context, conn *sqlx.Conn, claim credentials.Claim, rows []credentials.Credential,
) ([]credentials.Credential, error) {
	n, err := exec(ctx, conn, s.sql.updateClaim.and(unchanged(rows)), map[string]any{
		"claim":  claim.ID,
		"holder": claim.Holder,
		"lease":  micros(claim.Lease),
		"unused": claim.Unused,
	})
	if err != nil {
		return nil, err
	}
	claimed := make([]credentials.Credential, len(rows))
	for i, c := range rows {
		claimed[i] = c.Claimed(claim)
	}
	switch n {
	case int64(len(rows)):
		return claimed, nil
	case 0:
		return nil, errLostRace
	}
	won, err := s.won(ctx, conn, claim, claimed)
	if err == nil && n != int64(len(won)) {
		return nil, errLostRace
	}
	return won, err
}

// won returns those of the rows that are in the table as claimed.
func (s *Store) won(
	ctx context.Context, conn *sqlx.Conn, claim credentials.Claim, claimed []credentials.Credential,
) ([]credentials.Credential, error) {
	query := s.sql.selectWon.text + unchanged(claimed) + " AND lease_id = ?"
	won := make(map[uint64]bool, len(claimed))
	var id uint64
	err := scan(ctx, conn, query, []any{claim.ID}, []any{&id}, func() { won[id] = true })
	return slices.DeleteFunc(claimed, func(c credentials.Credential) bool { return !won[c.Row] }), err
}

// unchanged is the condition that a row is one of these, as it was read: byRows with "AND (id,
// version) IN ((7, 3), (9, 1))". That end of it names the rows too, but MariaDB reads the whole
// table for a single pair.
func unchanged(rows []credentials.Credential) string {
	names, pairs := make([]rowName, len(rows)), make([]string, len(rows))
	for i, c := range rows {
		names[i] = rowName{c.Row, c.Key}
		pairs[i] = fmt.Sprintf("(%d, %d)", c.Row, c.Version)
	}
	return byRows(names) + "\n  AND (id, version) IN (" + strings.Join(pairs, ", ") + ")"
}
