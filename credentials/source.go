package credentials

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Source is the handle for one credential, cheap to call for every request. See [Manager.Source].
type Source struct {
	m   *Manager
	key Key

	snapshot atomic.Pointer[snapshot] // nil: nothing cached

	mu     sync.Mutex
	flight *flight // guarded by mu; nil: none under way. Only the flight's own goroutine changes or clears it.

	// claimID is the id of a claim whose outcome nobody knows, as its reply was lost; "" for none. The next claim repeats
	// it, and so finds the lease, should it have been made. claimedAt is when that was tried last. Both are used by the
	// flight's goroutine and, without a flight, under mu.
	claimID   string
	claimedAt time.Duration
	looking   bool // guarded by mu: somebody looks for that claim
}

// snapshot is a committed token as this process caches it; never changed after it was published. Times are those of
// Manager.now.
type snapshot struct {
	token   Token
	row     uint64 // the row that it was read from, and the TokenVersion, which a fail-over may repeat
	version uint64
	quiet   time.Duration // until then it is served without a look at the store
	expires time.Duration // until then it is served at all
	taken   time.Time     // when the store was asked for it, by the wall clock and the monotonic one
}

// clockTolerance is how far the wall clock's advance may differ from the monotonic one's before a snapshot is
// distrusted. Slewing clocks differ by 0.05 %; a host that slept, whose monotonic clock stood still, by much more.
const clockTolerance = 2 * time.Second

// Key returns the credential's normalized key.
func (s *Source) Key() Key { return s.key }

// Token is [Manager.Token] for this credential. With a fresh token in the cache it costs an atomic load and a clock
// read.
func (s *Source) Token(ctx context.Context) (Token, error) {
	if held := s.snapshot.Load(); held != nil && s.m.now() < held.quiet {
		return held.token, nil
	}
	return s.token(ctx)
}

// token is the slow path: a flight looks at the store. Callers that hold a valid token do not wait for it.
func (s *Source) token(ctx context.Context) (Token, error) {
	held := s.valid()
	if held == nil && ctx.Err() != nil {
		return Token{}, s.gaveUp(ctx)
	}
	f := s.join(ctx, Secret{}, held == nil)
	if held != nil {
		return held.token, nil
	}
	token, err := s.wait(ctx, f)
	if !token.Value.IsZero() {
		return token, nil // the renewal failed, but the token has not expired
	}
	return Token{}, err
}

// Reject is [Manager.Reject] for this credential.
func (s *Source) Reject(ctx context.Context, turnedDown Token) (Token, error) {
	if turnedDown.Value.IsZero() {
		return s.Token(ctx)
	}
	held := s.valid()
	if held != nil {
		if !held.token.Value.Equal(turnedDown.Value) {
			return held.token, nil
		}
		s.snapshot.CompareAndSwap(held, nil)
	}
	for {
		f := s.join(ctx, turnedDown.Value, true)
		token, err := s.wait(ctx, f)
		knew := f.rejected.Equal(turnedDown.Value)
		switch {
		case err == nil && (knew || !token.Value.Equal(turnedDown.Value)):
			return token, nil // it may be the same one, if the provider insists on it
		case err != nil && (knew || ctx.Err() != nil):
			if held != nil && !errors.Is(err, ErrNotFound) {
				s.snapshot.CompareAndSwap(nil, held) // it has not expired, so it is better than an error
			}
			return Token{}, err
		}
		// That flight began without knowing of the rejection; the next one will know.
	}
}

// valid returns the snapshot if its token has not expired, else nil. It is asked on slow paths only, so that is where a
// host that slept is found out.
func (s *Source) valid() *snapshot {
	held := s.snapshot.Load()
	if held == nil {
		return nil
	}
	now := time.Now()
	drift := now.Round(0).Sub(held.taken.Round(0)) - now.Sub(held.taken)
	if drift.Abs() > clockTolerance || s.m.now() >= held.expires {
		s.snapshot.CompareAndSwap(held, nil)
		return nil
	}
	return held
}

// tokenOf returns c's token, where at is the time before c was read; false if it has expired or is turned down.
func (s *Source) tokenOf(c Credential, at time.Duration, rejected Secret) (Token, bool) {
	expires := later(at, c.ExpiresIn)
	now := s.m.now()
	if c.Token.IsZero() || now >= expires || !rejected.IsZero() && c.Token.Equal(rejected) {
		return Token{}, false
	}
	token := Token{Value: c.Token, extra: c.Extra}
	if expires != Never {
		token.Expiry = time.Now().Add(expires - now)
	}
	return token, true
}

// publish caches a token of c, which is committed. The store was asked at the time at; asked is the same moment or an
// earlier one by both clocks, so that a host's sleep in between shows.
func (s *Source) publish(token Token, c Credential, at time.Duration, asked time.Time) {
	next := &snapshot{token: token, row: c.Row, version: c.TokenVersion, expires: later(at, c.ExpiresIn), taken: asked}
	held := s.snapshot.Load()
	same := held != nil && held.row == next.row && held.version == next.version && held.token.Value.Equal(token.Value)
	if same && held.expires > next.expires {
		// Both are early, by as long as the store took to answer. A slow answer does not make a token end sooner.
		next.token, next.expires, next.taken = held.token, held.expires, held.taken
	}
	recheck := s.m.opts.Recheck - rand.N(s.m.opts.Recheck/10+1)
	next.quiet = min(later(at, c.DueIn), next.expires, later(s.m.now(), recheck))
	s.snapshot.Store(next)
}

// postpone serves the cached token, if there is one, for a moment without another look, after a look that failed.
func (s *Source) postpone() {
	held := s.snapshot.Load()
	if held == nil || s.m.now() < held.quiet {
		return
	}
	next := *held
	pause := min(time.Second, s.m.opts.Recheck)
	next.quiet = min(held.expires, later(s.m.now(), pause/2+rand.N(pause/2+1)))
	s.snapshot.CompareAndSwap(held, &next)
}

// gaveUp is the error of a caller whose context ended.
func (s *Source) gaveUp(ctx context.Context) error {
	return fmt.Errorf("waiting for the token of %s: %w", s.key, context.Cause(ctx))
}
