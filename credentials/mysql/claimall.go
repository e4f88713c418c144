package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// ClaimAll implements [credentials.Store]: for every 500 keys one short transaction, which locks
// the rows that nobody has locked, decides each, and writes all the leases in one statement. Only
// where a row was not to be had, a SELECT tells a locked one from one that is not there; being part
// of the transaction, it too reaches the server that takes the writes, whatever a proxy does with
// reads.
func (s *Store) ClaimAll(
	ctx context.Context, keys []credentials.Key, claim credentials.Claim,
) ([]credentials.Found, error) {
	if claim.ID == "" {
		return nil, credentials.ErrNoClaim
	}
	claim = claim.Shared()
	return allKeys("claim", keys, func(some []credentials.Key, answer answerFunc) error {
		found, err := s.claimAll(ctx, some, claim)
		for key, one := range found {
			answer(key, one)
		}
		return err
	})
}

// unclaimed is the answer about a row that was locked when the claim was tried: as it is committed,
// if that says why it is not claimed.
func unclaimed(key credentials.Key, one credentials.Found, claim credentials.Claim) credentials.Found {
	c := one.Credential
	switch {
	case one.Err != nil:
		return one
	case c.Lease.ID == claim.ID && c.Lease.Live():
		return credentials.Found{Credential: c.FoundAgain()}
	case c.State(claim) != credentials.StateClaimable:
		return one
	}
	return credentials.Found{
		Err: fmt.Errorf("claim %s: %w: %w", key, credentials.ErrUnavailable, credentials.ErrRowLocked),
	}
}

// claimAll claims in one transaction. It returns what it found: the rows that are there.
func (s *Store) claimAll(
	ctx context.Context, keys []credentials.Key, claim credentials.Claim,
) (found map[credentials.Key]credentials.Found, err error) {
	action := fmt.Sprintf("claim %d credentials", len(keys))
	var inDoubt []credentials.Key // whose claims an earlier try may have committed
	err = s.write(ctx, action, func(ctx context.Context) error {
		err := s.transaction(ctx, keyedRows, func(conn *sqlx.Conn) (err error) {
			found, err = s.claimKeys(ctx, conn, keys, claim)
			return err
		})
		if mayBeCommitted(err) {
			inDoubt = append(inDoubt, claimedBy(claim, found)...)
		}
		if err == nil && slices.ContainsFunc(inDoubt, func(key credentials.Key) bool {
			// The earlier try may hold the row's lock, and commit later.
			return errors.Is(found[key].Err, credentials.ErrRowLocked)
		}) {
			return errInDoubt
		}
		return err
	})
	return found, err
}

// claimedBy returns the keys of the credentials that bear the claim's lease.
func claimedBy(claim credentials.Claim, found map[credentials.Key]credentials.Found) (keys []credentials.Key) {
	for key, one := range found {
		if one.Credential.Lease.ID == claim.ID {
			keys = append(keys, key)
		}
	}
	return keys
}

// claimKeys claims in the transaction that is open on conn.
func (s *Store) claimKeys(
	ctx context.Context, conn *sqlx.Conn, keys []credentials.Key, claim credentials.Claim,
) (map[credentials.Key]credentials.Found, error) {
	condition, values := byKeys(keys)
	found := make(map[credentials.Key]credentials.Found, len(keys))
	var claimable []credentials.Credential
	var late credentials.Credential // the claimable one that shows most of the server's clock
	err := each(ctx, conn, s.sql.selectAll.text+condition+"\n"+forUpdate+skipLocked, values, func(r row) {
		c, err := s.credential(r)
		switch {
		case err != nil:
			found[c.Key] = credentials.Found{Err: fmt.Errorf("read %s: %w", c.Key, err)}
			return
		case c.Lease.ID == claim.ID && c.Lease.Live():
			c = c.FoundAgain() // made by an earlier try whose reply to COMMIT was lost
		case c.State(claim) == credentials.StateClaimable:
			claimable = append(claimable, c)
			if late.Row == 0 || clockLag(c) > clockLag(late) {
				late = c
			}
		}
		found[c.Key] = credentials.Found{Credential: c}
	})
	if err != nil {
		return nil, err
	}
	if len(claimable) > 0 {
		if err := s.checkClock(ctx, conn, late); err != nil {
			return nil, err
		}
		claimed, err := s.claim(ctx, conn, claim, claimable)
		if err != nil {
			return nil, err
		}
		for _, c := range claimable { // what another claim has changed first is found as committed
			delete(found, c.Key)
		}
		for _, c := range claimed {
			found[c.Key] = credentials.Found{Credential: c}
		}
	}
	if len(found) < len(keys) {
		err = s.passedOver(ctx, conn, keys, claim, found)
	}
	return found, err
}

// passedOver reads the rows that were not found, or not as they are committed by now.
func (s *Store) passedOver(
	ctx context.Context, conn *sqlx.Conn, keys []credentials.Key, claim credentials.Claim,
	found map[credentials.Key]credentials.Found,
) error {
	rest := slices.DeleteFunc(slices.Clone(keys), func(key credentials.Key) bool {
		_, ok := found[key]
		return ok
	})
	condition, values := byKeys(rest)
	return each(ctx, conn, s.sql.selectAll.text+condition, values, func(r row) {
		c, err := s.credential(r)
		if err != nil {
			err = fmt.Errorf("read %s: %w", c.Key, err)
		}
		found[c.Key] = unclaimed(c.Key, credentials.Found{Credential: c, Err: err}, claim)
	})
}
