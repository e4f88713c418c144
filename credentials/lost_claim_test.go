package credentials_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// The claim was committed and the answer lost. The process that made it finds it again, at once and not when the lease
// has ended, and does not take it for an interrupted exchange: it knows that nothing was presented.
func TestLostReplyOfClaim(t *testing.T) {
	for _, test := range []struct {
		name string
		down time.Duration // the store, after the claim
	}{
		{name: "store there"},
		{name: "store down for 10 s", down: 10 * time.Second},
		{name: "store down for longer than the lease", down: 2 * credentials.DefaultLease},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				p := w.start("P", neverReplay)
				p.store.on("Claim", nil, once(func(context.Context) error {
					p.store.down(test.down > 0)
					return errDown
				}))
				p.ask(alice).fails(credentials.ErrUnavailable)
				w.reaches(test.down)
				p.store.down(false)
				a := p.ask(alice)
				a.is("access-alice-1")
				if most := time.Second; a.took > most {
					w.Errorf("it took %v, want at most %v", a.took, most)
				}
				if calls := w.calls(1); calls[0].Interrupted != "" {
					w.Errorf("the exchange took its own claim for an interrupted one, by %s", calls[0].Interrupted)
				}
			})
		})
	}
}

// A claim whose answer was lost and which another process has since taken over is the other's business.
func TestLostReplyOfClaimTakenOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		p.store.on("Claim", nil, once(func(context.Context) error { p.store.down(true); return errDown }))
		p.ask(alice).fails(credentials.ErrUnavailable)
		taken := q.ask(alice)
		w.reaches(credentials.DefaultLease + 60*time.Millisecond)
		p.store.down(false)
		p.ask(alice).is("access-alice-1")
		taken.is("access-alice-1")
		w.calls(1)
	})
}

// Nobody asks again after a claim whose answer was lost. The process looks for it all the same, and before its own keeper
// finds the lease ended: nothing was presented, so the grant of a service that never replays is not given up.
func TestLostReplyOfClaimIsFollowedUp(t *testing.T) {
	for name, down := range map[string]time.Duration{"store there": 0, "store down for 10 s": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				p := w.start("P", neverReplay)
				p.store.on("Claim", nil, once(func(context.Context) error {
					p.store.down(down > 0)
					return errDown
				}))
				p.ask(alice).fails(credentials.ErrUnavailable)
				defer p.keeps()()
				w.reaches(down)
				p.store.down(false)
				w.reaches(down + 6*time.Second)
				if c := w.row(alice); c.Token.Reveal() != mark+"-access-alice-1" || c.Lease.ID != "" {
					w.Errorf("the row has the token %q, lease of %q, failure %+v", c.Token.Reveal(), c.Lease.Holder, c.Failure)
				}
				w.calls(1)
			})
		})
	}
}

// The process is closed while it does not know what became of its claim: it finds out before Close returns.
func TestCloseFollowsUpALostClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		p.store.on("Claim", nil, once(func(context.Context) error { p.store.down(true); return errDown }))
		p.ask(alice).fails(credentials.ErrUnavailable)
		time.AfterFunc(3*time.Second, func() { p.store.down(false) })
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		if c := w.row(alice); c.Lease.ID != "" || c.Token.IsZero() {
			w.Errorf("the row has a lease of %q, failure %+v", c.Lease.Holder, c.Failure)
		}
		w.calls(1)
	})
}

// A claim took so long that it has to be given up, and that fails: it is tried again, so that no lease lapses under which
// nothing was presented.
func TestReleaseThatFailsIsFollowedUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		p.store.on("Claim", nil, once(func(context.Context) error { time.Sleep(17 * time.Second); return nil }))
		p.store.on("Release", once(refuse), nil)
		p.ask(alice).fails(credentials.ErrUnavailable)
		w.reaches(credentials.DefaultLease - time.Second)
		if c := w.row(alice); c.Token.Reveal() != mark+"-access-alice-1" || c.Lease.ID != "" {
			w.Errorf("the row has the token %q, lease of %q, failure %+v", c.Token.Reveal(), c.Lease.Holder, c.Failure)
		}
		w.calls(1)
	})
}

// A claim that was found again after an earlier holder's late success presents nothing, however old that success is: if
// its holder died then, nobody would take it for interrupted, and the refresh token would be presented twice.
func TestOvertakenClaimPresentsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.lifetime = 20 * time.Second
		processes := w.starts(3, neverReplay)
		a, b, c := processes[0], processes[1], processes[2]
		pause := newGate()
		a.store.on("Save", once(pause.wait), nil)
		a.ask(alice)
		<-pause.reached
		w.reaches(credentials.DefaultLease + time.Second) // A's lease has ended, and the token that it got
		b.store.on("Claim", nil, once(func(context.Context) error { b.store.down(true); return errDown }))
		b.ask(alice).fails(credentials.ErrUnavailable)
		pause.open()
		w.reaches(credentials.DefaultLease + 2*time.Second)
		b.store.down(false)
		b.store.on("Save", func(context.Context) error { b.store.down(true); return errDown }, nil) // and so it dies
		b.ask(alice)
		w.reaches(2*credentials.DefaultLease + 5*time.Second)
		c.ask(alice).fails(credentials.ErrReauthRequired)
		w.calls(2)
	})
}

// Claims that take so long that no exchange fits into their lease are given up, and the caller is told after some.
func TestClaimsThatAreTooSlow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", func(s *setup) {
			s.options.Lease, s.options.ExchangeTimeout, s.options.StoreTimeout = 8*time.Second, 2*time.Second, 5*time.Second
		})
		p.store.on("Claim", func(context.Context) error { time.Sleep(1200 * time.Millisecond); return nil }, nil)
		a := p.ask(alice)
		a.fails(credentials.ErrUnavailable)
		if !strings.Contains(a.err.Error(), "the lease of 8s") {
			w.Errorf("%v: does not say why", a.err)
		}
		if c := w.row(alice); c.Lease.ID != "" {
			w.Errorf("the lease of %s is left", c.Lease.Holder)
		}
		w.calls(0)
	})
}
