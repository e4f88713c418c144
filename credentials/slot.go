package credentials

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// slot is the state of one credential in a process: the token that is held, and the call that is
// under way.
type slot struct {
	*engine
	key  Key
	held atomic.Pointer[snapshot] // nil: none

	lookBy   atomic.Int64 // a moment: until then what is held is served without a look at the store
	used     atomic.Bool  // since the lookout was here last
	enrolled atomic.Bool  // with the lookout, which looks before lookBy
	usedAt   moment       // guarded by lookout.mu: when used was seen last
	looks    int          // of the lookout
	known    known        // of the row; the refresh behind the call alone reads and writes it

	mu       sync.Mutex
	call     *call   // guarded by mu; nil: none. Only the refresh behind it changes or clears it.
	buried   TokenID // guarded by mu: turned down, and its grant is dead
	reported Token   // guarded by mu: turned down, by a Report that is under way
}

// offer has the slot hold a token, unless the token that it holds is newer, and returns the one it
// then holds: of one row a lower version never replaces a higher, and of two rows that which was
// asked for first never replaces the other.
func (s *slot) offer(next *snapshot) *snapshot {
	for {
		held := s.held.Load()
		merged := held.merge(next, s.clock)
		if s.held.CompareAndSwap(held, merged) {
			s.looked(moment(next.asked.Sub(s.epoch)))
			return merged
		}
	}
}

// looked notes that the store knew of nothing newer than what is held when it was asked.
func (s *slot) looked(asked moment) {
	s.extend(asked.add(s.opts.Recheck))
}

// extend has no look be due before that moment.
func (s *slot) extend(by moment) {
	for old := s.lookBy.Load(); old < int64(by); old = s.lookBy.Load() {
		if s.lookBy.CompareAndSwap(old, int64(by)) {
			return
		}
	}
}

// see has the slot hold a token no longer whose grant was replaced, as the row says.
func (s *slot) see(c reading) {
	if held := s.held.Load(); held != nil && held.after(c, nil, s.clock) == nil {
		s.held.CompareAndSwap(held, nil)
	}
}

// bury notes that a token was turned down whose grant is dead: nobody gets that token any more.
func (s *slot) bury(id TokenID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buried = id
	if held := s.held.Load(); held != nil && held.token.id == id {
		s.held.CompareAndSwap(held, nil)
	}
}

// turnDown has the slot hold the token that was turned down no longer, and returns what it held.
// newer: that is another token, and stays. The token that is held is known by more than its text.
func (s *slot) turnDown(token *Token) (held *snapshot, newer bool) {
	held = s.valid()
	switch {
	case held == nil:
		return nil, false
	case held.token.olderThan(*token): // another process's: what is held is out of date
		s.held.CompareAndSwap(held, nil)
		return nil, false
	case !held.token.is(*token):
		return held, true
	}
	*token = held.token
	s.held.CompareAndSwap(held, nil)
	return held, false
}

// beginReport reports whether a Report of the token may begin: none is under way, and the manager
// is open. Close waits until endReport.
func (s *slot) beginReport(token Token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	reported := !s.reported.Value.IsZero() && s.reported.is(token)
	if reported || !s.begin() {
		return false
	}
	s.reported = token
	return true
}

func (s *slot) endReport(token Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reported.is(token) {
		s.reported = Token{}
	}
	s.inflight.Done()
}

// isBuried reports whether the token of c was buried, and its grant is still dead.
func (s *slot) isBuried(c reading) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.Failure.Class == ClassDead && s.buried != TokenID{} && s.buried == c.TokenID()
}

// valid returns the snapshot if its token has not expired, else nil. It is asked on slow paths
// only, so that is where a host that slept is found out.
func (s *slot) valid() *snapshot {
	held := s.held.Load()
	if held == nil {
		return nil
	}
	if slept(held.asked) {
		s.held.CompareAndSwap(held, nil) // its end cannot be counted any more
		return nil
	}
	if s.now() >= held.expires {
		return nil
	}
	return held
}

// ended reports whether the token of c has ended as this process counts, or its whole life was over
// when it was saved or within the time that c took, even if the token is good by the store's clock.
func (s *slot) ended(c reading) bool {
	if c.ExpiresIn > 0 && c.lifetime() <= s.since(c.at) {
		return true
	}
	held := s.held.Load()
	return held != nil && held.token.id == c.TokenID() && held.token.Value.Equal(c.AccessToken) &&
		s.now() >= held.latest
}

// postpone serves the token that is held, if there is one, for a moment without another look, after
// a look that failed.
func (s *slot) postpone() {
	held := s.held.Load()
	if held == nil {
		return
	}
	pause := min(time.Second, s.opts.Recheck)
	until := s.now().add(pause/2 + rand.N(pause/2+1))
	s.extend(until)
	if until > held.quiet {
		next := *held
		next.quiet = min(held.expires, until)
		s.held.CompareAndSwap(held, &next)
	}
}

// call is the wait of all callers of one credential in one process, as in
// golang.org/x/sync/singleflight.
type call struct {
	invalidated Token // the token that was turned down, if that is why the call was begun
	began       moment
	looked      bool // the row was read under an earlier call, and is watched

	waiting int           // callers; slot.mu guards it
	since   moment        // when the first of them came; slot.mu guards it
	wanted  chan struct{} // closed when the first caller waits; slot.mu guards the closing

	done  chan struct{} // closed when token and err are set
	token Token         // valid if not zero, also where err is set
	err   error
}

func (s *slot) newCall(invalidated Token) *call {
	return &call{
		invalidated: invalidated, began: s.now(),
		wanted: make(chan struct{}), done: make(chan struct{}),
	}
}

// want notes that a caller waits for the call. slot.mu is held.
func (c *call) want(now moment) {
	if c.waiting++; c.waiting == 1 {
		c.since = now
		select {
		case <-c.wanted:
		default:
			close(c.wanted)
		}
	}
}

// join returns the call that is under way, or begins one with start; wait says whether the caller
// is going to wait for it. The call outlives the caller.
func (s *slot) join(invalidated Token, wait bool, start func(*call)) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.call
	if c == nil {
		c = s.newCall(invalidated)
		if !s.begin() {
			c.err = ErrClosed
			close(c.done)
			return c
		}
		s.call = c
		s.events.count(func(f *Stats) { f.Calls++ })
		go func() {
			defer s.inflight.Done()
			defer s.events.count(func(f *Stats) { f.Calls-- })
			start(c)
		}()
	}
	if wait {
		c.want(s.now())
	}
	return c
}

// wait returns the call's result, or leaves when ctx ends.
func (s *slot) wait(ctx context.Context, c *call) (Token, error) {
	defer s.waited(s.now())
	select {
	case <-c.done:
		return c.token, c.err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		c.waiting--
		return Token{}, s.gaveUp(ctx)
	}
}

// waited counts a caller that has waited from then on.
func (s *slot) waited(began moment) {
	s.events.count(func(f *Stats) {
		f.Waits++
		f.WaitTime += s.since(began)
	})
}

// maxLookWait is how long a caller whose token has not expired waits for a look at the store.
const maxLookWait = 250 * time.Millisecond

// awaitLook waits until the call has looked at the row, and reports whether the call has ended by
// that. Nobody waits for more than maxLookWait from its beginning, nor for a store that is away.
func (s *slot) awaitLook(ctx context.Context, c *call) (ended bool) {
	left := s.until(c.began.add(maxLookWait))
	if c.looked || left <= 0 || !s.health.answers() {
		return false
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// wants reports whether a caller waits for the call.
func (s *slot) wants(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.waiting > 0
}

// gaveUp is the error of a caller whose context ended.
func (s *slot) gaveUp(ctx context.Context) error {
	return fmt.Errorf("waiting for the token of %s: %w", s.key, ended(ctx))
}
