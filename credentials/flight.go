package credentials

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"
)

// flight is one look at the store, and the exchange that may follow, which all callers of the credential in this
// process share.
type flight struct {
	rejected Secret // the token that was turned down, if that is why the flight was begun
	began    time.Duration

	wanted chan struct{} // closed when a caller waits for the result; Source.mu guards the closing

	done  chan struct{} // closed when token and err are set
	token Token         // valid if not zero, also where err is set
	err   error
}

func (s *Source) newFlight(rejected Secret) *flight {
	return &flight{rejected: rejected, began: s.m.now(), wanted: make(chan struct{}), done: make(chan struct{})}
}

// want notes that a caller waits for the flight. Source.mu is held.
func (f *flight) want() {
	select {
	case <-f.wanted:
	default:
		close(f.wanted)
	}
}

// join returns the flight that is under way, or begins one; wait says whether the caller is going to wait for it. It
// outlives the caller; ctx lends it its values.
func (s *Source) join(ctx context.Context, rejected Secret, wait bool) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		if wait {
			s.flight.want()
		}
		return s.flight
	}
	f := s.newFlight(rejected)
	if wait {
		f.want()
	}
	if !s.m.begin() {
		f.err = ErrClosed
		close(f.done)
		return f
	}
	s.flight = f
	t := &trip{Source: s, flight: f, rejected: rejected, turn: mathrand.Float64()}
	go func() {
		defer s.m.flights.Done()
		t.run(context.WithoutCancel(ctx))
	}()
	return f
}

// wait returns the flight's result, or leaves when ctx ends.
func (s *Source) wait(ctx context.Context, f *flight) (Token, error) {
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return Token{}, s.gaveUp(ctx)
	}
}

// trip is the goroutine's side of a flight. It may land its callers early, with a token that is still valid or with an
// error that they should not wait any longer for, and go on under a new flight, which later callers join.
type trip struct {
	*Source
	flight   *flight
	rejected Secret
	asked    time.Time // when the store was last asked for the row, by the wall clock and the monotonic one
	heard    *outcome  // what came of presenting the refresh token last; nil if it was not presented
	turn     float64   // in [0, 1): when in the order of the processes it claims what is due and still good
	onLand   func()    // of the keeper; nil: nothing

	slowClaims int // in a row, which left no time for an exchange
}

// land gives the flight's callers their result and ends it, or goes on under a new one.
func (t *trip) land(token Token, err error, goOn bool) {
	landed := t.flight
	t.flight = nil
	if goOn {
		t.flight = t.newFlight(t.rejected)
	}
	t.mu.Lock()
	t.Source.flight = t.flight
	t.mu.Unlock()
	landed.token, landed.err = token, err
	close(landed.done)
	if t.onLand != nil {
		t.onLand()
	}
}

// run makes the trip and lands. Whatever happens to the goroutine, no caller is left waiting.
func (t *trip) run(ctx context.Context) {
	token, err := Token{}, fmt.Errorf("refresh of %s was aborted", t.key)
	defer func() {
		t.land(token, err, false)
		t.followUp(ctx)
	}()
	for again := true; again; again = errors.Is(err, errAgain) {
		token, err = t.refresh(ctx)
	}
	if err != nil && t.snapshot.Load() != nil && !errors.Is(err, ErrClosed) {
		// Nobody is told, since the token is still good.
		t.m.opts.Logger.WarnContext(ctx, "renewal ahead of expiry failed", "credential", t.key.String(), "error", err)
		t.postpone()
	}
}

// errAgain: what the row says has changed; look again.
var errAgain = errors.New("look again")

// refresh brings the credential up to date. It is the protocol: read, claim, exchange, save, each of which may send it
// back to reading. A token returned together with an error is still valid. errAgain: an exchange took up all the time
// that there is, since the store was down, and what the row says now is not known.
func (t *trip) refresh(ctx context.Context) (Token, error) {
	// No number of holders that die one after the other keeps a caller for ever.
	patience, cancel := context.WithTimeout(ctx, 2*t.m.opts.Lease)
	defer cancel()

	service, err := t.m.services.Service(patience, t.key.Service)
	if err != nil {
		return Token{}, fmt.Errorf("token of %s: %w", t.key, err)
	}
	var known Credential // what the row was when it was last read, at the time knownAt
	var knownAt time.Duration
	c, at, err := t.get(ctx)
	for {
		if errors.Is(err, ErrNotFound) {
			return Token{}, err
		}
		if err != nil {
			stillGood, _ := t.tokenOf(known, knownAt, Secret{})
			return stillGood, err
		}
		known, knownAt = c, at
		token, usable := t.tokenOf(c, at, t.rejected)
		state := c.State(t.rejected)
		ours := state == Leased && c.Lease.ID == t.claimID // the reply to the claim was lost
		if ours {
			state = Claimable
		}
		if usable {
			t.publish(token, c, at, t.asked)
			if state == Leased || state == Claimable {
				t.land(token, nil, true) // soft expiry: nobody waits while the token is good
			}
		}
		switch state {
		case Fresh:
			if usable {
				return token, nil
			}
			c, at, err = t.get(ctx) // it expired on the way
		case Leased:
			if err = t.awaitHolder(patience, c, at); err == nil {
				c, at, err = t.get(ctx)
			}
		case Claimable:
			if usable && !ours {
				var moved bool
				if moved, err = t.awaitTurn(c, at); moved {
					c, at, err = t.get(ctx)
				}
				if moved || err != nil {
					continue
				}
			}
			var claimed bool
			if c, at, claimed, err = t.claim(ctx); claimed {
				token, err = t.exchange(ctx, service, c, at)
				if !errors.Is(err, errAgain) || patience.Err() != nil {
					return token, err
				}
				c, at, err = t.get(ctx)
			}
		case Dead, BackingOff:
			stillGood, _ := t.tokenOf(c, at, Secret{})
			return stillGood, c.refreshError(c.Failure.By, nil)
		}
	}
}

// get reads the row. The time returned is from before the call, so that what is counted from it ends early, not late.
func (t *trip) get(ctx context.Context) (Credential, time.Duration, error) {
	t.asked = time.Now()
	at := t.m.now()
	ctx, cancel := context.WithTimeout(ctx, t.m.opts.StoreTimeout)
	defer cancel()
	c, err := t.m.store.Get(ctx, t.key)
	return c, at, t.storeError(c, err)
}

// claim tries to take the lease; false: the credential says why it was not to be had.
func (t *trip) claim(ctx context.Context) (Credential, time.Duration, bool, error) {
	t.asked = time.Now()
	at := t.m.now()
	id := cmp.Or(t.claimID, rand.Text())
	t.claimedAt = at
	ctx, cancel := context.WithTimeout(ctx, t.m.opts.StoreTimeout)
	defer cancel()
	c, err := t.m.store.Claim(ctx, t.key, Claim{
		ID: id, Holder: t.m.opts.Holder, Lease: t.m.opts.Lease, Rejected: t.rejected,
	})
	t.claimID = ""
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.claimID = id
	}
	err = t.storeError(c, err)
	return c, at, err == nil && c.Lease.ID == id && c.Lease.Live(), err
}

// storeError says which credential it was about, and that the store answered for that one.
func (t *trip) storeError(c Credential, err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		t.snapshot.Store(nil) // it was deleted
		return fmt.Errorf("token of %s: %w; put its grant first", t.key, err)
	case err != nil:
		return fmt.Errorf("token of %s: %w", t.key, err)
	case c.Key != t.key:
		return fmt.Errorf("token of %s: the store answered with the credential of %s", t.key, c.Key)
	}
	return nil
}

// awaitTurn waits until it is this process's turn to claim a credential that is due while its token is still good, so
// that processes do not all claim at the same moment: some time within the first tenth of the time that is left. It
// watches the row meanwhile, since there are providers that end the old token when they issue a new one, and reports
// whether the row has moved on. A caller who waits ends the wait.
func (t *trip) awaitTurn(c Credential, at time.Duration) (moved bool, err error) {
	due, expires := later(at, c.DueIn), later(at, c.ExpiresIn)
	spread := min((expires-due)/10, t.m.opts.Lease/2)
	left := due + time.Duration(t.turn*float64(spread)) - t.m.now()
	if left <= 0 {
		return false, nil
	}
	turn := time.NewTimer(left)
	defer turn.Stop()
	w := t.m.poller.watch(c, at)
	defer t.m.poller.leave(w)
	select {
	case <-w.moved:
		return true, nil
	case <-turn.C:
		return false, nil
	case <-t.flight.wanted:
		return false, nil
	case <-t.m.closing:
		return false, fmt.Errorf("token of %s: %w", t.key, ErrClosed)
	}
}

// awaitHolder waits until the row has moved on or the holder's lease has ended. It holds nothing.
func (t *trip) awaitHolder(ctx context.Context, c Credential, at time.Duration) error {
	// A jitter, so that those who waited for a dead holder do not all claim at the same moment.
	ends := later(at, c.Lease.EndsIn) + mathrand.N(50*time.Millisecond)
	ended := time.NewTimer(ends - t.m.now())
	defer ended.Stop()
	w := t.m.poller.watch(c, at)
	defer t.m.poller.leave(w)
	select {
	case <-w.moved:
		return nil
	case <-ended.C:
		return nil
	case <-t.m.closing:
		return fmt.Errorf("token of %s: %w", t.key, ErrClosed)
	case <-ctx.Done():
		return &RefreshError{
			Key: t.key, Class: Unknown, By: c.Lease.Holder, RetryAt: time.Now().Add(ends - t.m.now()),
			Reason: "one exchange after the other was begun and not ended; gave up waiting", Err: ctx.Err(),
		}
	}
}
