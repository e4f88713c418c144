package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Claim implements [credentials.Store].
func (s *Store) Claim(
	ctx context.Context, key credentials.Key, claim credentials.Claim,
) (c credentials.Credential, err error) {
	if claim.ID == "" {
		return c, credentials.ErrNoClaim
	}
	err = s.under(ctx, key, func(r *row) { c = r.decide(s.now(), claim) })
	return c, err
}

// ClaimAll implements [credentials.Store]. No row of this store is ever locked.
func (s *Store) ClaimAll(
	ctx context.Context, keys []credentials.Key, claim credentials.Claim,
) ([]credentials.Found, error) {
	if claim.ID == "" {
		return nil, credentials.ErrNoClaim
	}
	claim = claim.Shared()
	return s.each(ctx, keys, func(r *row) credentials.Credential { return r.decide(s.now(), claim) })
}

// DueServices implements [credentials.Store].
func (s *Store) DueServices(ctx context.Context) (map[string]time.Duration, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, due := s.now(), make(map[string]time.Duration)
	for _, r := range s.rows {
		if r.due.IsZero() {
			continue
		}
		in := r.due.Sub(now)
		if first, ok := due[r.key.Service]; !ok || in < first {
			due[r.key.Service] = in
		}
	}
	return due, nil
}

// ClaimDue implements [credentials.Store].
func (s *Store) ClaimDue(ctx context.Context, batch credentials.Batch) ([]credentials.Credential, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	batch, err := batch.Normalize()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	last, first := now.Add(-batch.MinOverdue), time.Time{}
	if batch.MaxOverdue > 0 {
		first = now.Add(-batch.MaxOverdue)
	}
	var due []*row
	for _, r := range s.rows {
		isDue := !r.due.IsZero() && !r.due.After(last) && !r.due.Before(first)
		if r.key.Service != batch.Service || !isDue || batch.Probe && r.failure.count > 0 {
			continue
		}
		if r.at(now).State(batch.Claim) == credentials.StateClaimable {
			due = append(due, r)
		}
	}
	slices.SortFunc(due, func(a, b *row) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.id, b.id))
	})
	if batch.Probe {
		slices.Reverse(due)
	}
	var claimed []credentials.Credential
	for _, r := range due[:min(batch.Limit, len(due))] {
		claimed = append(claimed, r.claim(now, batch.Claim))
	}
	return claimed, nil
}

// FindClaims implements [credentials.Store].
func (s *Store) FindClaims(
	ctx context.Context, batch credentials.Batch, _ time.Duration,
) ([]credentials.Credential, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	if batch.ID == "" {
		return nil, credentials.ErrNoClaim
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var found []credentials.Credential
	for _, r := range s.rows {
		if r.key.Service == batch.Service && r.lease.id == batch.ID {
			found = append(found, r.at(now).FoundAgain())
		}
	}
	return found, nil
}
