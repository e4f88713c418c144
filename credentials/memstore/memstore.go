// Package memstore keeps credentials in the memory of one process: a [credentials.Store] for tests
// and examples.
//
// The store decides between the callers of one process just as a database decides between
// processes, and forgets everything when the process ends. The clock is the process's monotonic
// one, so that the store works in the bubbles of testing/synctest.
package memstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Store is a [credentials.Store] in memory, safe for concurrent use. [New] makes one.
type Store struct {
	*table
	ahead time.Duration // of the process's clock
}

// table is the credentials, which several nodes may share.
type table struct {
	made time.Time // credentials.Instant counts from it

	mu   sync.Mutex // held within a call, never across calls
	rows map[uint64]*row
	ids  map[credentials.Key]uint64 // normalized key to row
	last uint64                     // the id given last; ids are never given twice
}

var _ credentials.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{table: &table{
		made: time.Now(), rows: make(map[uint64]*row), ids: make(map[credentials.Key]uint64),
	}}
}

// Node returns the same store as another of its nodes, whose clock is ahead of this one's: for
// tests of clocks that are apart, or are set. A negative duration is that of a clock that is
// behind.
func (s *Store) Node(ahead time.Duration) *Store {
	return &Store{table: s.table, ahead: s.ahead + ahead}
}

// now is the time by the store's clock.
func (s *Store) now() time.Time { return time.Now().Add(s.ahead) }

// Put stores a grant that a person's authorization gave, under a new key or in place of the grant
// there. A put ends any lease, back-off and dead grant, and supersedes the results of earlier
// claims; its token is from no exchange. The key is normalized.
//
// A Lifetime of zero is that of a token which does not expire. A credential without token is due at
// once. An error that wraps [credentials.ErrInvalidKey] or [credentials.ErrInvalidGrant] says that
// nothing was written.
func (s *Store) Put(ctx context.Context, key credentials.Key, grant credentials.Grant) error {
	return s.put(ctx, key, grant, true)
}

// Ensure implements [credentials.Store].
func (s *Store) Ensure(ctx context.Context, key credentials.Key, grant credentials.Grant) error {
	return s.put(ctx, key, grant, false)
}

// put stores the grant, in place of one that is there only if replace is true.
func (s *Store) put(ctx context.Context, key credentials.Key, grant credentials.Grant, replace bool) error {
	key, err := check(ctx, key)
	if err != nil {
		return err
	}
	if err := grant.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[s.ids[key]]
	if r != nil && !replace {
		return nil
	}
	if r == nil {
		s.last++
		r = &row{key: key, id: s.last, epoch: s.made}
		s.rows[r.id], s.ids[key] = r, r.id
	}
	now := s.now()
	grant.RefreshLifetime = cmp.Or(grant.RefreshLifetime, credentials.Never)
	if !grant.AccessToken.IsZero() {
		grant.Lifetime = cmp.Or(grant.Lifetime, credentials.Never)
	}
	r.set(now, grant)
	r.setDue(after(now, grant.DueIn()))
	r.lease, r.failure = lease{}, failure{}
	r.interrupted, r.survived = interruption{}, interruption{}
	r.refreshed = refreshed{took: r.refreshed.took}
	r.version++
	r.tokenVersion = r.version
	return nil
}

// Delete removes the credential; a later Put makes a new row. The error wraps
// [credentials.ErrNotFound] if there is none. The provider is not told: see
// [credentials.Disconnect].
func (s *Store) Delete(ctx context.Context, key credentials.Key) error {
	return s.under(ctx, key, s.remove)
}

// remove deletes the row, with mu held.
func (s *Store) remove(r *row) {
	delete(s.rows, r.id)
	delete(s.ids, r.key)
}

// Get implements [credentials.Store].
func (s *Store) Get(ctx context.Context, key credentials.Key) (c credentials.Credential, err error) {
	err = s.under(ctx, key, func(r *row) { c = r.at(s.now()) })
	return c, err
}

// GetAll implements [credentials.Store].
func (s *Store) GetAll(ctx context.Context, keys []credentials.Key) ([]credentials.Found, error) {
	return s.each(ctx, keys, func(r *row) credentials.Credential { return r.at(s.now()) })
}

// Versions implements [credentials.Store].
func (s *Store) Versions(ctx context.Context, rows map[uint64]credentials.Key) (map[uint64]uint64, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := make(map[uint64]uint64, len(rows))
	for id, key := range rows {
		if r, ok := s.rows[id]; ok && r.key == key {
			versions[id] = r.version
		}
	}
	return versions, nil
}

// under runs do on the row under that key, with mu held, or returns an error that wraps
// [credentials.ErrNotFound].
func (s *Store) under(ctx context.Context, key credentials.Key, do func(r *row)) error {
	key, err := check(ctx, key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[s.ids[key]]
	if !ok {
		return fmt.Errorf("%w: %s", credentials.ErrNotFound, key)
	}
	do(r)
	return nil
}

// each runs do on the row under each of the keys, one after the other with mu held.
func (s *Store) each(
	ctx context.Context, keys []credentials.Key, do func(r *row) credentials.Credential,
) ([]credentials.Found, error) {
	found := make([]credentials.Found, len(keys))
	for i, key := range keys {
		if err := over(ctx); err != nil {
			return nil, err
		}
		found[i].Err = s.under(ctx, key, func(r *row) { found[i].Credential = do(r) })
	}
	return found, nil
}

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
