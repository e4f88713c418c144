package credentials_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// errDown is what a store says that cannot be reached.
var errDown = fmt.Errorf("%w: connection refused", credentials.ErrUnavailable)

// hook is run beside a call of the store. An error from it is what the caller of the store gets.
type hook func(ctx context.Context) error

// steppedStore is one process's way to the store, on which each step can be paused, refused, or have its reply lost.
type steppedStore struct {
	*memstore.Store
	inFlight atomic.Int32 // calls that have not returned

	mu            sync.Mutex
	before, after map[string]hook // by method: before the call, and between the call and its reply
	counts        map[string]int  // by method: calls, refused ones too
	dead          bool            // every call is refused
}

// on sets a method's hooks; nil for none.
func (s *steppedStore) on(method string, before, after hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before == nil {
		s.before, s.after = make(map[string]hook), make(map[string]hook)
	}
	s.before[method], s.after[method] = before, after
}

// down has every call refused from now on, or none.
func (s *steppedStore) down(dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = dead
}

// heal takes all hooks away.
func (s *steppedStore) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after, s.dead = nil, nil, false
}

// count returns how often a method was called.
func (s *steppedStore) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[method]
}

// total returns how often any method was called.
func (s *steppedStore) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, count := range s.counts {
		n += count
	}
	return n
}

// step makes a call with what is set for it.
func (s *steppedStore) step(ctx context.Context, method string, call func() error) error {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	s.mu.Lock()
	if s.counts == nil {
		s.counts = make(map[string]int)
	}
	s.counts[method]++
	before, after, dead := s.before[method], s.after[method], s.dead
	s.mu.Unlock()
	if dead {
		return errDown
	}
	if before != nil {
		if err := before(ctx); err != nil {
			return err
		}
	}
	if err := call(); err != nil || after == nil {
		return err
	}
	return after(ctx)
}

func (s *steppedStore) Get(ctx context.Context, key credentials.Key) (c credentials.Credential, err error) {
	err = s.step(ctx, "Get", func() error { c, err = s.Store.Get(ctx, key); return err })
	return c, err
}

func (s *steppedStore) Versions(ctx context.Context, rows []uint64) (v map[uint64]uint64, err error) {
	err = s.step(ctx, "Versions", func() error { v, err = s.Store.Versions(ctx, rows); return err })
	return v, err
}

func (s *steppedStore) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (c credentials.Credential, err error) {
	err = s.step(ctx, "Claim", func() error { c, err = s.Store.Claim(ctx, key, claim); return err })
	return c, err
}

func (s *steppedStore) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	return s.step(ctx, "Save", func() error { return s.Store.Save(ctx, fence, renewal) })
}

func (s *steppedStore) Fail(ctx context.Context, fence credentials.Fence, failure credentials.Failure) error {
	return s.step(ctx, "Fail", func() error { return s.Store.Fail(ctx, fence, failure) })
}

func (s *steppedStore) Release(ctx context.Context, fence credentials.Fence) error {
	return s.step(ctx, "Release", func() error { return s.Store.Release(ctx, fence) })
}

func (s *steppedStore) DueServices(ctx context.Context) (due map[string]time.Duration, err error) {
	err = s.step(ctx, "DueServices", func() error { due, err = s.Store.DueServices(ctx); return err })
	return due, err
}

func (s *steppedStore) ClaimDue(ctx context.Context, batch credentials.Batch) (claimed []credentials.Credential, err error) {
	err = s.step(ctx, "ClaimDue", func() error { claimed, err = s.Store.ClaimDue(ctx, batch); return err })
	return claimed, err
}

// once runs a hook on the first call alone.
func once(h hook) hook {
	var done atomic.Bool
	return func(ctx context.Context) error {
		if done.Swap(true) {
			return nil
		}
		return h(ctx)
	}
}

// refuse says that the store is not there; as the second hook, that the call took effect and its reply was lost.
func refuse(context.Context) error { return errDown }

// gate is a hook that waits until it is opened, whatever its context says: a process that was stopped there.
type gate struct {
	reached, opened chan struct{}
	once            sync.Once
}

func newGate() *gate { return &gate{reached: make(chan struct{}), opened: make(chan struct{})} }

func (g *gate) wait(context.Context) error {
	g.once.Do(func() { close(g.reached) })
	<-g.opened
	return nil
}

func (g *gate) open() { close(g.opened) }
