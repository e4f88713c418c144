package credentials_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// Durations from the store count from before it was asked: a slow answer makes nothing last longer.
func TestInvariant12OneClock(t *testing.T) {
	slow := testkit.Delay(4 * time.Second)
	inWorldOf(t, "expiry", func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("put"), RefreshToken: secret("seed"), Lifetime: time.Minute})
		p := w.start("P")
		p.store.Before(testkit.Get, slow)
		p.store.After(testkit.Get, slow) // the answer is as of 4 s, and is here at 8 s
		p.ask(alice).is("put")
		p.store.Down(true)
		w.reaches(56*time.Second - 1)
		p.ask(alice).is("put")
		w.reaches(56 * time.Second)
		p.ask(alice).fails(credentials.ErrUnavailable)
	})
	inWorldOf(t, "save", func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			time.Sleep(10 * time.Second)
			return credentials.Grant{AccessToken: secret("access"), Lifetime: time.Minute}, nil
		}
		p := w.start("P")
		p.store.After(testkit.Save, slow)
		token := p.mustGet(alice)
		p.store.Down(true)
		if got, want := time.Until(token.Expiry), 46*time.Second; got != want {
			w.Errorf("Expiry is in %v, want %v", got, want)
		}
		w.reaches(time.Minute - 1)
		p.ask(alice).is("access")
		w.reaches(time.Minute)
		p.ask(alice).fails(credentials.ErrUnavailable)
	})
	inWorldOf(t, "lease", func(w *world) {
		w.seed(alice)
		p := w.start("P", func(s *setup) { s.options.Lease = 21 * time.Second })
		p.store.After(testkit.Claim, slow)
		w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
			deadline, _ := ctx.Deadline()
			if got, want := time.Until(deadline), 11*time.Second; got != want { // 21 - 5 - 1 - 4
				w.Errorf("the exchange has %v, want %v", got, want)
			}
			return credentials.Grant{}, errOrdinary
		}
		p.ask(alice).is("access-alice-1")
	})
	inWorldOf(t, "waiting", func(w *world) {
		w.seed(alice)
		w.dies("died", alice, false)
		p := w.start("P")
		p.store.After(testkit.Get, testkit.Once(slow))
		p.ask(alice).is("access-alice-1")
		// The lease's end counts from when the answer was there: a holder is waited for too long,
		// and never too short. Then it is given the grace.
		grace := credentials.DefaultStoreTimeout + time.Second
		w.within(credentials.DefaultLease + 4*time.Second + grace + 300*time.Millisecond + w.provider.latency)
	})
}

// An exchange, the record of its failure included, is over before its lease is.
func TestInvariant13Bounded(t *testing.T) {
	hang := func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
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
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			w.provider.script = hang
			p := w.start("P", options(test.lease, test.exchange, test.store))
			p.store.After(testkit.Claim, testkit.Delay(test.claim))
			left := time.Duration(0)
			p.store.Before(testkit.Fail, testkit.Func(func() { left = w.row(alice).Lease.EndsIn }))
			p.ask(alice).failed(credentials.ClassUnknown)
			if least := max(test.store, time.Second) + time.Second/2; left < least {
				w.Errorf("after the exchange the lease ends in %v, want at least %v", left, least)
			}
			w.presented(1)
		})
	}
	// A claim that took so long that the lease leaves too little time is given up, with nothing
	// presented, and is nobody's interrupted exchange.
	inWorldOf(t, "claim too slow", func(w *world) {
		w.seed(alice)
		p := w.start("P", options(7*time.Second, 2*time.Second, 4*time.Second), neverReplay)
		p.store.After(testkit.Claim, testkit.Once(testkit.Delay(3*time.Second)))
		a := p.ask(alice)
		a.is("access-alice-1")
		if a.took > 4*time.Second {
			w.Errorf("it took %v", a.took)
		}
		w.presentedOnce("")
		if n := p.store.Count(testkit.Release); n != 1 {
			w.Errorf("Release was called %d times", n)
		}
	})
}

// setClock sets the store's clock, as seen by all processes.
func (w *world) setClock(ahead time.Duration) {
	for _, p := range w.all {
		p.store.Through(w.db.Node(ahead))
	}
}

// The store's clock is set back by an hour while a dead holder's lease lasts: it then ends in an
// hour by that clock. A process that has seen the lease counts its end itself.
func TestDeadHolderWhenTheClockIsSetBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("dead", alice, false)
		p := w.start("P")
		a := p.ask(alice)
		w.reaches(10 * time.Second)
		w.setClock(-time.Hour)
		a.is("access-alice-1")
		w.within(credentials.DefaultLease + grace + w.provider.latency + 100*time.Millisecond)
		w.presented(1)
	})
}

// The store's clock is set forward by an hour while an exchange is under way: its lease has ended
// by that clock. Nobody takes it over before its end, neither on demand nor ahead of time.
func TestLiveHolderWhenTheClockIsSetForward(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		inWorldOf(t, map[bool]string{false: "callers", true: "keeper"}[keeps], func(w *world) {
			processes := w.starts(3)
			if keeps {
				for _, p := range processes[1:] {
					defer p.keeps()()
				}
			}
			w.reaches(time.Minute)
			w.seed(alice)
			w.provider.latency, w.provider.Lifetime = 12*time.Second, 3*time.Hour
			if keeps { // batches decide by the store's clock, and give the holder the grace
				w.provider.latency = 5 * time.Second
			}
			a := processes[0].begins(alice)
			callers := []*answer{a}
			if !keeps {
				callers = append(callers, processes[1].ask(alice), processes[2].ask(alice))
			}
			time.Sleep(time.Second)
			w.setClock(time.Hour)
			if !keeps {
				callers = append(callers, w.start("new").ask(alice))
			}
			for _, a := range callers {
				<-a.done
			}
			time.Sleep(5 * time.Second)
			w.presented(1)
		})
	}
}

// The store's nodes have clocks that are 40 s apart: the lease that was claimed through one has
// ended by the other. An exchange that is shorter than the grace is made once.
func TestNodeWhoseClockIsAhead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 5 * time.Second
		processes := w.starts(3)
		processes[1].store.Through(w.db.Node(40 * time.Second))
		processes[2].store.Through(w.db.Node(-40 * time.Second))
		for round := range 6 {
			first := processes[round%3].ask(alice)
			synctest.Wait()
			callers := []*answer{first, processes[(round+1)%3].ask(alice), processes[(round+2)%3].ask(alice)}
			for _, a := range callers {
				a.mustGet()
			}
			w.presented(round + 1)
			time.Sleep(2 * time.Hour)
		}
	})
}

// A token that was saved by the clock of a node that is ahead would live longer by that of another:
// a process that reads it there serves it for no longer than its whole life.
func TestTokenOfANodeWhoseClockIsAhead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = time.Minute
		ahead, behind := w.start("ahead"), w.start("behind")
		ahead.store.Through(w.db.Node(40 * time.Second))
		ahead.mustGet(alice)
		behind.ask(alice).is("access-alice-1")
		time.Sleep(w.provider.Lifetime)
		behind.ask(alice).is("access-alice-2")
		w.presented(2)
	})
}

// The store's clock is set back, so that the row shows a longer life than the process counts: a
// token that has ended is no token beside an error either.
func TestEndedTokenBesideAnErrorWhenTheClockIsSetBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = time.Minute
		p := w.start("P")
		p.mustGet(alice)
		w.setClock(-30 * time.Second)
		w.reaches(61 * time.Second)
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassTransient})
		p.ask(alice).failed(credentials.ClassTransient)
	})
}

// slowRead has a read begin, whose answer is there when the gate is opened, and has the keeper
// renew the token meanwhile: the answer has an older token than the process.
func (w *world) slowRead(p *process) (answer *testkit.Gate) {
	w.anHour(alice)
	p.mustGet(alice)
	w.reaches(dueOfAnHour - time.Second)
	answer = testkit.NewGate()
	p.store.After(testkit.Get, testkit.Once(answer.Wait))
	p.ask(alice).is("put-alice")
	synctest.Wait()
	<-answer.Reached
	time.Sleep(time.Second)
	if kept, err := p.keeper.RunOnce(w.Context()); err != nil || kept["github"].Renewed != 1 {
		w.Fatalf("RunOnce: %+v, error %v", kept, err)
	}
	return answer
}

// A slow read puts no older token over the newer one.
func TestSlowReadAfterASave(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		answer := w.slowRead(p)
		p.ask(alice).is("access-alice-1")
		answer.Open()
		synctest.Wait()
		for range 10 {
			p.ask(alice).is("access-alice-1")
			time.Sleep(10 * time.Second)
		}
		w.presented(1)
	})
}

// Nor does it answer the report that the newer one was turned down.
func TestSlowReadDuringAnInvalidation(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P", anyAge)
		answer := w.slowRead(p)
		turnedDown := p.mustGet(alice)
		a := p.report(alice, turnedDown)
		a.waits()
		answer.Open()
		a.is("access-alice-2")
		p.ask(alice).is("access-alice-2")
		w.presented(2)
	})
}

// The store's clock is set back by an hour: by that clock the token lives an hour more. In a
// process that has it already, its end stays.
func TestLifeDoesNotGrowWhenTheClockIsSetBack(t *testing.T) {
	for _, asks := range []time.Duration{time.Minute, 2 * time.Hour} {
		inWorldOf(t, "asked every "+asks.String(), func(w *world) {
			w.put(alice, credentials.Grant{AccessToken: secret("put-alice"), RefreshToken: secret("seed"), Lifetime: time.Hour})
			p := w.start("P")
			p.mustGet(alice)
			w.setClock(-time.Hour)
			for time.Since(w.began) < time.Hour {
				p.ask(alice).is("put-alice")
				time.Sleep(min(asks, time.Hour+time.Second-time.Since(w.began)))
			}
			p.ask(alice).is("access-alice-1")
			w.presented(1)
		})
	}
}

// A token that was saved when its life had ended is good by a clock that was set back since: it is
// renewed, and not looked at again and again.
func TestTokenThatHadEndedWhenItWasSaved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.start("P").mustGet(alice)
		q := w.start("Q")
		q.store.After(testkit.Get, testkit.Chain(testkit.Delay(time.Millisecond),
			func(_ context.Context, call *testkit.Call) error {
				if c := &call.Credential; c.TokenVersion == 2 {
					c.Refreshed.Ago = -2 * c.ExpiresIn
				}
				return nil
			}))
		a := q.ask(alice)
		a.is("access-alice-2")
		a.within(w.provider.latency + soon)
		w.presented(2)
	})
}

// The same of a token whose whole life is shorter than a read, on a node whose clock is ahead.
func TestTokenThatEndsWhileItIsRead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		const life = 5 * time.Millisecond
		ahead := w.db.Node(time.Minute)
		c, err := ahead.Claim(w.Context(), alice, credentials.Claim{ID: "ahead", Holder: "ahead", Lease: time.Minute})
		w.must(err)
		w.must(ahead.Save(w.Context(), c.Fence(), credentials.Renewal{
			Grant: credentials.Grant{
				AccessToken: secret("short"), RefreshToken: c.RefreshToken, Lifetime: life,
				RefreshLifetime: credentials.Never,
			},
			By: "ahead", DueIn: life,
		}))
		p := w.start("P")
		p.store.Before(testkit.Get, testkit.Delay(2*life))
		a := p.ask(alice)
		a.is("access-alice-1")
		a.within(w.provider.latency + soon)
		w.presented(1)
	})
}
