package memstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// DueServices implements [credentials.Store].
func (s *Store) DueServices(ctx context.Context) (map[string]time.Duration, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	earliest := make(map[string]time.Time)
	for _, r := range s.rows {
		if r.due.IsZero() {
			continue
		}
		if first, ok := earliest[r.key.Service]; !ok || r.due.Before(first) {
			earliest[r.key.Service] = r.due
		}
	}
	due := make(map[string]time.Duration, len(earliest))
	for service, first := range earliest {
		due[service] = time.Until(first)
	}
	return due, nil
}

// ClaimDue implements [credentials.Store].
func (s *Store) ClaimDue(ctx context.Context, batch credentials.Batch) ([]credentials.Credential, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	service, err := credentials.NormalizeService(batch.Service)
	switch {
	case err != nil:
		return nil, err
	case batch.ID == "":
		return nil, errNoClaim
	case batch.Limit < 1:
		return nil, fmt.Errorf("memstore: a batch with a limit of %d; it has to be 1 or more", batch.Limit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	last, first := now.Add(-batch.Overdue), time.Time{}
	if batch.Longest > 0 {
		first = now.Add(-batch.Longest)
	}
	var due []*row
	var held []credentials.Credential // by an earlier call of the same batch
	for _, r := range s.rows {
		own := r.lease.id == batch.ID
		isDue := !r.due.IsZero() && !r.due.After(last) && !r.due.Before(first)
		if !own && !isDue || r.key.Service != service {
			continue
		}
		c := r.at(now)
		switch {
		case own && c.Lease.Live():
			held = append(held, c)
		case isDue && c.State(credentials.Secret{}) == credentials.Claimable:
			due = append(due, r)
		}
	}
	if batch.Repeated {
		return held, nil
	}
	slices.SortFunc(due, func(a, b *row) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.id, b.id)) })
	var claimed []credentials.Credential
	for _, r := range due[:min(batch.Limit, len(due))] {
		claimed = append(claimed, r.claim(now, batch.Claim))
	}
	return claimed, nil
}
