package testkit

import (
	"context"
	"fmt"
	"sync"

	"github.com/latchkey-go/latchkey/credentials"
)

// ErrDown is the answer of a store that cannot be reached.
var ErrDown = fmt.Errorf("%w: connection refused", credentials.ErrUnavailable)

// Store is one process's way to a store. Each step of a call can be paused or refused, and its
// reply be lost.
type Store struct {
	StoreFunc

	mu            sync.Mutex // guards the fields below
	rows          credentials.Store
	down          bool
	before, after map[Method]Hook
	counts        map[Method]int
	inFlight      int
}

// NewStore returns a way to the rows, without faults.
func NewStore(rows credentials.Store) *Store {
	s := &Store{
		rows: rows, counts: make(map[Method]int),
		before: make(map[Method]Hook), after: make(map[Method]Hook),
	}
	s.StoreFunc = s.step
	return s
}

// Before sets the hook that runs before each call of the method, in place of an earlier one; nil
// for none. A call is not made if the hook returns an error.
func (s *Store) Before(method Method, hook Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before[method] = hook
}

// After sets the hook that runs when a call of the method has returned, with an error too, and
// before its caller learns of it.
func (s *Store) After(method Method, hook Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after[method] = hook
}

// Down has every call refused from now on, or none.
func (s *Store) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Dies is a [Hook] with which the store is down from this call on. After a call, its reply is lost.
func (s *Store) Dies(context.Context, *Call) error {
	s.Down(true)
	return ErrDown
}

// Heal takes the methods' faults away, or all if none is named.
func (s *Store) Heal(methods ...Method) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, method := range methods {
		delete(s.before, method)
		delete(s.after, method)
	}
	if len(methods) == 0 {
		s.down = false
		clear(s.before)
		clear(s.after)
	}
}

// Through has the calls go to another node of the store from now on.
func (s *Store) Through(node credentials.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = node
}

// Count returns how often the methods were called, or all of them if none is named. Refused calls
// count.
func (s *Store) Count(methods ...Method) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(methods) == 0 {
		for _, count := range s.counts {
			n += count
		}
	}
	for _, method := range methods {
		n += s.counts[method]
	}
	return n
}

// InFlight returns how many calls have not returned.
func (s *Store) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight
}

// step makes a call with its faults.
func (s *Store) step(ctx context.Context, call *Call) error {
	s.mu.Lock()
	s.counts[call.Method]++
	s.inFlight++
	before, after, down := s.before[call.Method], s.after[call.Method], s.down
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inFlight--
	}()
	if down {
		return ErrDown
	}
	if before != nil {
		if err := before(ctx, call); err != nil {
			return err
		}
	}
	s.mu.Lock()
	rows := s.rows
	s.mu.Unlock()
	_ = call.Do(ctx, rows) // the hook and the caller read call.Err
	if after != nil {
		if err := after(ctx, call); err != nil {
			return err
		}
	}
	return call.Err
}
