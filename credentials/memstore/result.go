package memstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var errDeleted = fmt.Errorf("%w: the credential was deleted", credentials.ErrSuperseded)

// result runs write, which stores the result of that claim, on the row, with mu held.
func (s *Store) result(ctx context.Context, fence credentials.Fence, write func(r *row) error) error {
	if err := over(ctx); err != nil {
		return err
	}
	if fence.Claim == "" {
		return credentials.ErrNoClaim
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[fence.Row]
	if !ok {
		return errDeleted
	}
	return write(r)
}

// Save implements [credentials.Store].
func (s *Store) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	return s.result(ctx, fence, func(r *row) error {
		own := r.lease.id == fence.Claim
		if !own && r.tokenVersion >= fence.Version {
			if r.accessToken.Equal(renewal.AccessToken) && r.refreshToken.Equal(renewal.RefreshToken) {
				return nil // saved by an earlier call whose reply was lost
			}
			return fmt.Errorf("%w: %s has the result of version %d, this one is of version %d",
				credentials.ErrSuperseded, r.key, r.tokenVersion, fence.Version)
		}
		now := s.now()
		origin := r.lifetimeOrigin(now, renewal.From)
		r.set(origin, renewal.Grant)
		r.setDue(after(origin, renewal.DueIn))
		r.refreshed = refreshed{by: renewal.By, since: now, took: renewal.Took}
		r.survived = interruption{}
		if own {
			r.lease, r.survived = lease{}, r.interrupted
		}
		r.failure, r.interrupted = failure{}, interruption{}
		r.tokenVersion = max(r.tokenVersion, fence.Version)
		r.version = max(r.version, fence.Version) + 1
		return nil
	})
}

// Fail implements [credentials.Store]. A repeated call, after one that did record the failure,
// returns [credentials.ErrSuperseded]; the row tells.
func (s *Store) Fail(ctx context.Context, fence credentials.Fence, f credentials.Failure) error {
	return s.result(ctx, fence, func(r *row) error {
		if r.lease.id != fence.Claim {
			return fmt.Errorf("%w: the claim on %s is not the row's", credentials.ErrSuperseded, r.key)
		}
		held := r.lease
		r.lease = lease{}
		r.version++
		if r.version != held.version+1 {
			return fmt.Errorf("%w: %s was written after the claim", credentials.ErrSuperseded, r.key)
		}
		now := s.now()
		r.failure = failure{
			class: f.Class, code: f.Code, reason: f.Reason, count: r.failure.count + 1,
			by: held.holder, since: now, retry: after(now, f.RetryIn),
			refusals: f.Refusals, refused: r.failure.refused,
		}
		if f.Refusals == 1 {
			r.failure.refused = now
		}
		r.setDue(r.failure.retry)
		switch f.Class {
		case credentials.ClassDead:
			r.due = time.Time{}
		case credentials.ClassUnknown:
			r.interrupted = interruption{by: held.holder, since: held.since}
		}
		return nil
	})
}

// Release implements [credentials.Store].
func (s *Store) Release(ctx context.Context, fence credentials.Fence) error {
	err := s.result(ctx, fence, func(r *row) error {
		if r.lease.id != fence.Claim {
			return nil
		}
		if r.version == r.lease.version {
			r.setDue(s.now())
		}
		r.lease = lease{}
		r.version++
		return nil
	})
	if errors.Is(err, errDeleted) {
		return nil
	}
	return err
}
