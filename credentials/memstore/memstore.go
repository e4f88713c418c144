// Package memstore keeps credentials in the memory of one process: a [credentials.Store] for tests and examples.
//
// It decides between the callers of one process just as a database decides between processes, and forgets everything
// when the process ends. Its clock is the process's monotonic one, so that it works in the bubbles of testing/synctest.
package memstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Store is a [credentials.Store] in memory. It is safe for concurrent use; [New] makes one.
type Store struct {
	made time.Time // credentials.Instant counts from it

	mu   sync.Mutex // held within a call, never across calls
	rows map[uint64]*row
	ids  map[credentials.Key]uint64 // normalized key to row
	last uint64                     // the id given last; ids are never given twice
}

var _ credentials.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{made: time.Now(), rows: make(map[uint64]*row), ids: make(map[credentials.Key]uint64)}
}

// Put stores a grant that a person's authorization gave, under a new key or in place of what is there. It ends any
// lease, back-off and rejection, and what earlier claims bring back is superseded by it. The key is normalized.
//
// A Lifetime of zero is that of a token which does not expire. A credential without token is due at once. Errors wrap
// [credentials.ErrInvalidKey] or [credentials.ErrInvalidGrant], and nothing was written.
func (s *Store) Put(ctx context.Context, key credentials.Key, grant credentials.Grant) error {
	key, err := check(ctx, key)
	if err != nil {
		return err
	}
	if err := grant.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(key)
	if r == nil {
		s.last++
		r = &row{key: key, id: s.last, epoch: s.made}
		s.rows[r.id], s.ids[key] = r, r.id
	}
	now := time.Now()
	grant.RefreshLifetime = cmp.Or(grant.RefreshLifetime, credentials.Never)
	if !grant.Token.IsZero() {
		grant.Lifetime = cmp.Or(grant.Lifetime, credentials.Never)
	}
	r.set(now, grant)
	r.due = after(now, grant.DueIn())
	r.lease, r.failure, r.interrupted = lease{}, failure{}, interruption{}
	r.version++
	r.tokenVersion = r.version
	return nil
}

// Delete removes the credential; a later Put makes a new row. The error wraps [credentials.ErrNotFound] if there is
// none.
func (s *Store) Delete(ctx context.Context, key credentials.Key) error {
	key, err := check(ctx, key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(key)
	if r == nil {
		return fmt.Errorf("%w: %s", credentials.ErrNotFound, key)
	}
	delete(s.rows, r.id)
	delete(s.ids, key)
	return nil
}

// Get implements [credentials.Store].
func (s *Store) Get(ctx context.Context, key credentials.Key) (credentials.Credential, error) {
	key, err := check(ctx, key)
	if err != nil {
		return credentials.Credential{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(key)
	if r == nil {
		return credentials.Credential{}, fmt.Errorf("%w: %s", credentials.ErrNotFound, key)
	}
	return r.at(time.Now()), nil
}

// Versions implements [credentials.Store].
func (s *Store) Versions(ctx context.Context, rows []uint64) (map[uint64]uint64, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := make(map[uint64]uint64, len(rows))
	for _, id := range rows {
		if r, ok := s.rows[id]; ok {
			versions[id] = r.version
		}
	}
	return versions, nil
}

// find returns the row under that normalized key, nil if there is none. s.mu is held.
func (s *Store) find(key credentials.Key) *row { return s.rows[s.ids[key]] }

// check returns the normalized key, or why the call ends before it begins.
func check(ctx context.Context, key credentials.Key) (credentials.Key, error) {
	if err := over(ctx); err != nil {
		return credentials.Key{}, err
	}
	return key.Normalize()
}

// over returns an error that wraps the context's if that has ended.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %w", err)
	}
	return nil
}
