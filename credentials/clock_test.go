package credentials_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// What the store says of the time is counted from before the call: a slow answer makes nothing last longer.
func TestInvariant12OneClock(t *testing.T) {
	slow := func(context.Context) error { time.Sleep(4 * time.Second); return nil }
	t.Run("expiry", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.put(alice, credentials.Grant{Token: secret("put"), RefreshToken: secret("seed"), Lifetime: time.Minute})
			p := w.start("P")
			p.store.on("Get", slow, slow) // the answer is as of 4 s, and is here at 8 s
			p.ask(alice).is("put")
			p.store.down(true)
			w.reaches(56*time.Second - 1)
			p.ask(alice).is("put")
			w.reaches(56 * time.Second)
			p.ask(alice).fails(credentials.ErrUnavailable)
		})
	})
	t.Run("save", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.seed(alice)
			w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
				time.Sleep(10 * time.Second)
				return credentials.Grant{Token: secret("access"), Lifetime: time.Minute}, nil
			}
			p := w.start("P")
			p.store.on("Save", nil, slow)
			token := p.mustGet(alice)
			p.store.down(true)
			if got, want := time.Until(token.Expiry), 46*time.Second; got != want {
				w.Errorf("Expiry is in %v, want %v", got, want)
			}
			w.reaches(time.Minute - 1)
			p.ask(alice).is("access")
			w.reaches(time.Minute)
			p.ask(alice).fails(credentials.ErrUnavailable)
		})
	})
	t.Run("lease", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.seed(alice)
			p := w.start("P", func(s *setup) { s.options.Lease = 21 * time.Second })
			p.store.on("Claim", nil, slow)
			w.provider.script = func(ctx context.Context, _ credentials.Credential, _ int) (credentials.Grant, error) {
				deadline, _ := ctx.Deadline()
				if got, want := time.Until(deadline), 11*time.Second; got != want { // 21 - 5 - 1 - 4
					w.Errorf("the exchange has %v, want %v", got, want)
				}
				return credentials.Grant{}, errOrdinary
			}
			p.ask(alice).is("access-alice-1")
		})
	})
	t.Run("waiting", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.seed(alice)
			w.dies("died", alice, false)
			p := w.start("P")
			p.store.on("Get", nil, once(slow))
			p.ask(alice).is("access-alice-1")
			if most := credentials.DefaultLease + 60*time.Millisecond + w.provider.latency; time.Since(w.began) > most {
				w.Errorf("it took %v, want at most %v", time.Since(w.began), most)
			}
		})
	})
}

// An exchange, the record of its failure included, is over before its lease is.
func TestInvariant13Bounded(t *testing.T) {
	hang := func(ctx context.Context, _ credentials.Credential, _ int) (credentials.Grant, error) {
		<-ctx.Done()
		return credentials.Grant{}, ctx.Err()
	}
	options := func(lease, exchange, store time.Duration) func(*setup) {
		return func(s *setup) {
			s.options.Lease, s.options.ExchangeTimeout, s.options.StoreTimeout = lease, exchange, store
		}
	}
	for _, test := range []struct {
		name                   string
		lease, exchange, store time.Duration
		claim                  time.Duration // what the claim takes
	}{
		{"defaults", 0, 0, 0, 0},
		{"tight", 7 * time.Second, 4 * time.Second, 2 * time.Second, 0},
		{"tight, slow claim", 7 * time.Second, 4 * time.Second, 2 * time.Second, 1999 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				w.provider.script = hang
				p := w.start("P", options(test.lease, test.exchange, test.store))
				p.store.on("Claim", nil, func(context.Context) error { time.Sleep(test.claim); return nil })
				left := time.Duration(0)
				p.store.on("Fail", func(context.Context) error { left = w.row(alice).Lease.EndsIn; return nil }, nil)
				p.ask(alice).failed(credentials.Unknown)
				if least := max(test.store, time.Second) + time.Second/2; left < least {
					w.Errorf("after the exchange the lease ends in %v, want at least %v", left, least)
				}
				w.calls(1)
			})
		})
	}
	// A claim that took so long that the lease leaves too little time is given up, with nothing presented, and is nobody's
	// interrupted exchange.
	t.Run("claim too slow", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.seed(alice)
			p := w.start("P", options(7*time.Second, 2*time.Second, 4*time.Second), neverReplay)
			p.store.on("Claim", nil, once(func(context.Context) error { time.Sleep(3 * time.Second); return nil }))
			a := p.ask(alice)
			a.is("access-alice-1")
			if a.took > 4*time.Second {
				w.Errorf("it took %v", a.took)
			}
			if calls := w.calls(1); calls[0].Interrupted != "" {
				w.Errorf("the exchange was told of an interrupted one by %s", calls[0].Interrupted)
			}
			if n := p.store.count("Release"); n != 1 {
				w.Errorf("Release was called %d times", n)
			}
		})
	})
}
