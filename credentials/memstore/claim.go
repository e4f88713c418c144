package memstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// errNoClaim: a row that nobody holds has an empty claim.
var errNoClaim = errors.New("memstore: a claim without ID")

// Claim implements [credentials.Store].
func (s *Store) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (credentials.Credential, error) {
	key, err := check(ctx, key)
	if err != nil {
		return credentials.Credential{}, err
	}
	if claim.ID == "" {
		return credentials.Credential{}, errNoClaim
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(key)
	if r == nil {
		return credentials.Credential{}, fmt.Errorf("%w: %s", credentials.ErrNotFound, key)
	}
	// A live lease, the claim's own earlier one included, is never claimable.
	now := time.Now()
	c := r.at(now)
	if c.State(claim.Rejected) != credentials.Claimable {
		return c, nil
	}
	return r.claim(now, claim), nil
}

// Save implements [credentials.Store].
func (s *Store) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	if err := over(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[fence.Row]
	if !ok {
		return fmt.Errorf("%w: the credential was deleted", credentials.ErrSuperseded)
	}
	own := r.owned(fence)
	if !own && r.tokenVersion >= fence.Version {
		if r.token.Equal(renewal.Token) && r.refreshToken.Equal(renewal.RefreshToken) {
			return nil // saved by an earlier call whose reply was lost
		}
		return fmt.Errorf("%w: %s has the result of version %d, this one is of version %d",
			credentials.ErrSuperseded, r.key, r.tokenVersion, fence.Version)
	}
	now := time.Now()
	counted := r.from(now, renewal.From)
	r.set(counted, renewal.Grant)
	r.due = after(counted, renewal.DueIn)
	r.refreshed = refreshed{by: renewal.By, since: now, took: renewal.Took}
	if own {
		r.lease = lease{}
	}
	r.failure, r.interrupted = failure{}, interruption{}
	r.tokenVersion = max(r.tokenVersion, fence.Version)
	r.version = max(r.version, fence.Version) + 1
	return nil
}

// Fail implements [credentials.Store]. A repeated call, after one that did record the failure, returns
// [credentials.ErrSuperseded]; the row tells.
func (s *Store) Fail(ctx context.Context, fence credentials.Fence, f credentials.Failure) error {
	if err := over(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[fence.Row]
	if !ok {
		return fmt.Errorf("%w: the credential was deleted", credentials.ErrSuperseded)
	}
	if !r.owned(fence) {
		return fmt.Errorf("%w: the claim on %s is not the row's", credentials.ErrSuperseded, r.key)
	}
	held := r.lease
	r.lease = lease{}
	r.version++
	if r.version != fence.Version+1 {
		return fmt.Errorf("%w: %s was written after the claim", credentials.ErrSuperseded, r.key)
	}
	now := time.Now()
	r.failure = failure{
		class: f.Class, code: f.Code, reason: f.Reason, count: r.failure.count + 1,
		by: held.holder, since: now, retry: after(now, f.RetryIn),
	}
	r.due = r.failure.retry
	switch f.Class {
	case credentials.Rejected:
		r.due = time.Time{}
	case credentials.Unknown:
		r.interrupted = interruption{by: held.holder, since: held.since}
	}
	return nil
}

// Release implements [credentials.Store].
func (s *Store) Release(ctx context.Context, fence credentials.Fence) error {
	if err := over(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[fence.Row]
	if !ok || !r.owned(fence) {
		return nil
	}
	if r.version == fence.Version {
		r.due = time.Now()
	}
	r.lease = lease{}
	r.version++
	return nil
}
