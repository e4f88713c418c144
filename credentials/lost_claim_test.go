package credentials_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// The claim was committed and its reply was lost. The process finds the claim again, when a caller
// asks again or by itself, and not only when the lease has ended. Nothing was presented, so that
// the claim is nobody's interrupted exchange: a service that never replays keeps its grant.
func TestLostReplyOfClaim(t *testing.T) {
	for name, down := range map[string]time.Duration{
		"store there": 0, "store down for 10 s": 10 * time.Second,
		"store down for longer than the lease": 2 * credentials.DefaultLease,
	} {
		lost := func(t *testing.T, how string, found func(w *world, p *process)) {
			inWorldOf(t, name+", "+how, func(w *world) {
				w.seed(alice)
				p := w.start("P", neverReplay)
				p.store.After(testkit.Claim, testkit.Once(func(context.Context, *testkit.Call) error {
					p.store.Down(down > 0)
					return testkit.ErrDown
				}))
				p.ask(alice).fails(credentials.ErrUnavailable)
				found(w, p)
				w.stored(alice, "access-alice-1")
				w.presentedOnce("")
			})
		}
		lost(t, "asked again", func(w *world, p *process) {
			w.reaches(down)
			p.store.Down(false)
			time.Sleep(time.Second) // until the store is known to be back
			a := p.ask(alice)
			a.is("access-alice-1")
			a.within(time.Second)
		})
		lost(t, "with a keeper", func(w *world, p *process) {
			defer p.keeps()()
			w.reaches(down)
			p.store.Down(false)
			w.reaches(down + 16*time.Second)
		})
	}
}

// A COMMIT waits in the store, for the majority of a group say, while reads are answered. When it
// has taken effect, the lease is given up unasked, and nobody takes the exchange for interrupted.
func TestClaimThatTakesEffectLate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		var late testkit.Call
		p.store.Before(testkit.Claim, testkit.Once(func(_ context.Context, call *testkit.Call) error {
			late = *call
			return testkit.ErrDown
		}))
		p.ask(alice).fails(credentials.ErrUnavailable)
		w.reaches(20 * time.Second)
		if err := late.Do(w.Context(), w.db); err != nil {
			w.Fatal(err)
		}
		w.reaches(25 * time.Second)
		if c := w.row(alice); c.Lease.ID != "" {
			w.Errorf("the lease of %q stands", c.Lease.Holder)
		}
		w.start("Q", neverReplay).ask(alice).is("access-alice-1")
		w.presentedOnce("")
	})
}

// A claim whose answer was lost and which another process has since taken over is the other's
// business.
func TestLostReplyOfClaimTakenOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		p.store.After(testkit.Claim, testkit.Once(p.store.Dies))
		p.ask(alice).fails(credentials.ErrUnavailable)
		taken := q.ask(alice)
		w.reaches(credentials.DefaultLease + 60*time.Millisecond)
		p.store.Down(false)
		time.Sleep(time.Second) // until the store is known to be back
		p.ask(alice).is("access-alice-1")
		taken.is("access-alice-1")
		w.presented(1)
	})
}

// The row that a process took over is deleted and put again while it lets the holder save, and the
// reply to its last look, a claim on the new row by then, is lost: that claim is given up as well.
func TestLostReplyOfTheLookBeforeATakeover(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		w.dies("dead", alice, false)
		took, lost := false, false
		p.store.After(testkit.Claim, func(_ context.Context, call *testkit.Call) error {
			switch {
			case !took && call.Won():
				took = true
				w.delete(alice)
				w.seed(alice)
			case took && !lost:
				lost = true
				return testkit.ErrDown
			}
			return nil
		})
		a := p.ask(alice)
		a.is("access-alice-1")
		a.within(credentials.DefaultLease + 2*grace + w.provider.latency + time.Second)
		w.clean(alice)
		w.presentedOnce("")
	})
}

// The same in a batch of the keeper: another row of the batch, whose exchange is under way, is not
// taken for lost.
func TestLostReplyOfTheLookOfABatch(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		w.claimed("dead", "")
		w.must(w.db.EndLease(w.Context(), credentials.Change{Key: alice, By: "ann"}))
		w.provider.latency = 2 * grace
		p := w.start("P")
		p.store.After(testkit.Claim, testkit.Once(testkit.Refuse))
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			_, _ = p.keeper.RunOnce(w.Context())
		}()
		w.reaches(grace + time.Second)
		p.ask(bob).is("access-bob-1")
		<-kept
		presented := 0
		for _, call := range w.provider.record() {
			if call.Key == bob {
				presented++
			}
		}
		if presented != 1 {
			w.Errorf("the token of %s was presented %d times", bob, presented)
		}
	})
}

// The process is closed while it does not know what became of its claim: it finds out before Close
// returns.
func TestCloseFollowsUpALostClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		p.store.After(testkit.Claim, testkit.Once(p.store.Dies))
		p.ask(alice).fails(credentials.ErrUnavailable)
		time.AfterFunc(2*time.Second, func() { p.store.Down(false) })
		p.mustClose()
		w.clean(alice)
		w.presented(0)
	})
}

// A claim took so long that it has to be given up, and that fails: it is tried again, so that no
// lease lapses under which nothing was presented.
func TestReleaseThatFailsIsFollowedUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		p.store.After(testkit.Claim, testkit.Once(testkit.Delay(17*time.Second)))
		p.store.Before(testkit.Release, testkit.Once(testkit.Refuse))
		p.ask(alice).is("access-alice-1") // under a claim that was made anew
		w.presented(1)
		time.Sleep(2 * time.Hour)

		// The same with nobody left to ask again.
		p.store.After(testkit.Claim, testkit.Once(testkit.Delay(17*time.Second)))
		p.store.Before(testkit.Release, testkit.Once(testkit.Refuse))
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		p.askWith(ctx, alice).fails(context.DeadlineExceeded)
		time.Sleep(credentials.DefaultLease - 2*time.Second)
		w.clean(alice)
		w.presented(1)
	})
}

// A claim that was found again after an earlier holder's late success presents nothing, however old
// that success is: if its holder died then, nobody would take it for interrupted, and the refresh
// token would be presented twice.
func TestOvertakenClaimPresentsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = 20 * time.Second
		processes := w.starts(3, neverReplay)
		a, b, c := processes[0], processes[1], processes[2]
		pause := testkit.NewGate()
		a.store.Before(testkit.Save, testkit.Once(pause.Wait))
		ctx, cancel := context.WithCancel(w.Context())
		a.askWith(ctx, alice)
		<-pause.Reached
		cancel()                                          // nobody waits for A, which exchanges no more
		w.reaches(credentials.DefaultLease + time.Second) // A's lease has ended, and the token that it got
		b.store.After(testkit.Claim, testkit.Once(b.store.Dies))
		b.ask(alice).fails(credentials.ErrUnavailable)
		pause.Open()
		w.reaches(credentials.DefaultLease + 10*time.Second)
		b.store.Down(false)
		time.Sleep(time.Second)                    // until the store is known to be back
		b.store.Before(testkit.Save, b.store.Dies) // and so it dies
		b.ask(alice)
		w.reaches(2*credentials.DefaultLease + 15*time.Second)
		c.ask(alice).fails(credentials.ErrGrantDead)
		w.presented(2)
	})
}

// Claims that take so long that no exchange fits into their lease are given up, and the caller is
// told after some.
func TestClaimsThatAreTooSlow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", func(s *setup) {
			s.options.Lease, s.options.ExchangeTimeout, s.options.StoreTimeout = 8*time.Second, 2*time.Second, 5*time.Second
		})
		p.store.Before(testkit.Claim, testkit.Delay(1200*time.Millisecond))
		a := p.ask(alice)
		a.fails(credentials.ErrUnavailable)
		if !strings.Contains(a.err.Error(), "the lease of 8s") {
			w.Errorf("%v: does not say why", a.err)
		}
		w.unleased(alice)
		w.presented(0)
	})
}

// After an outage longer than the lease, the keeper of a process does not take the lost claims of
// its own callers for interrupted exchanges, nor do the callers those of the keeper: nothing was
// presented under them.
func TestLostClaimsAcrossKeeperAndCallers(t *testing.T) {
	for name, by := range map[string]testkit.Method{
		"caller's, met by the keeper": testkit.Claim, "keeper's, met by a caller": testkit.ClaimDue,
	} {
		for _, away := range []time.Duration{time.Second, 10 * time.Second, 40 * time.Second, 90 * time.Second} {
			inWorldOf(t, name+" after "+away.String(), func(w *world) {
				keys := accounts("github", 5)
				w.seed(keys...)
				p := w.start("P", neverReplay)
				p.store.After(by, testkit.Refuse)
				if by == testkit.Claim {
					for _, key := range keys {
						p.ask(key).fails(credentials.ErrUnavailable)
					}
				} else if _, err := p.keeper.RunOnce(w.Context()); err == nil {
					w.Error("RunOnce: no error, though the reply to its claim was lost")
				}
				p.store.Down(true)
				w.reaches(away)
				if by == testkit.Claim {
					defer p.keeps()()
				}
				p.store.Heal()
				if by == testkit.ClaimDue {
					time.Sleep(time.Second) // until the store is known to be back
					for _, key := range keys {
						p.ask(key).is("access-" + key.Account + "-1")
					}
				}
				time.Sleep(20 * time.Second)
				for _, key := range keys {
					if c := w.row(key); c.AccessToken.IsZero() || c.Failure.Class != "" || c.Lease.ID != "" {
						w.Errorf("%s: token %v, failure %+v, lease of %q", key, c.AccessToken, c.Failure, c.Lease.Holder)
					}
				}
				for _, call := range w.presented(len(keys)) {
					if call.Interrupted != "" {
						w.Errorf("%s was presented as interrupted by %s", call.Key, call.Interrupted)
					}
				}
			})
		}
	}
}

// The reply to a claim was lost, and the next read shows the lease: it is used at once, and no
// second claim is made, so that no lease lapses where replies go on being lost.
func TestOwnLiveLeaseInAReadIsUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay)
		p.store.After(testkit.Claim, testkit.Refuse)
		first := p.ask(alice)
		first.fails(credentials.ErrUnavailable)
		a := p.ask(alice)
		a.is("access-alice-1")
		a.within(w.provider.latency + soon)
		w.presented(1)
		if n := p.store.Count(testkit.Claim); n != 1 {
			w.Errorf("there were %d claims, want 1", n)
		}
	})
}
