package memstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/latchkey-go/latchkey/credentials"
)

// Revive clears the mark of grants that were declared dead by mistake, and returns how many; see
// [credentials.Revival].
func (s *Store) Revive(ctx context.Context, r credentials.Revival) (revived int, err error) {
	if err := over(ctx); err != nil {
		return 0, err
	}
	if r, err = r.Normalize(); err != nil {
		return 0, err
	}
	for _, key := range s.revive(r) {
		r.Each(key)
		revived++
	}
	return revived, nil
}

func (s *Store) revive(r credentials.Revival) (revived []credentials.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var dead []*row
	for _, row := range s.rows {
		if row.key.Service == r.Service && row.failure.wasDeclaredDead() && now.Sub(row.failure.since) <= r.Since {
			dead = append(dead, row)
		}
	}
	slices.SortFunc(dead, func(a, b *row) int { return cmp.Compare(a.id, b.id) })
	for i, row := range dead {
		revived = append(revived, row.key)
		if !r.DryRun {
			row.failure = failure{}
			row.setDue(now.Add(r.DueIn(i)))
			row.version++
		}
	}
	return revived
}

// wasDeclaredDead reports whether the provider declared the grant dead, and no policy did.
func (f failure) wasDeclaredDead() bool {
	return f.class == credentials.ClassDead &&
		f.code != credentials.CodeInterrupted && f.code != credentials.CodeUnknown
}
