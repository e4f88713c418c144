package credentials_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// soon is how late a waiter in another process may learn of an exchange of 200 ms.
const soon = 25 * time.Millisecond

func TestOneExchangeAcrossProcesses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		var callers []*answer
		for _, p := range w.starts(4) {
			callers = append(callers, p.ask(alice), p.ask(alice))
		}
		w.reaches(100 * time.Millisecond)
		callers = append(callers, w.start("late").ask(alice))
		for _, a := range callers {
			a.is("access-alice-1")
			a.within(w.provider.latency + soon)
		}
		w.presented(1)

		// The next time everybody knows how long it takes.
		time.Sleep(time.Hour)
		synctest.Wait()
		reads := 0
		for _, p := range w.all {
			reads -= p.store.Count()
		}
		callers = nil
		for _, p := range w.all {
			callers = append(callers, p.ask(alice), p.ask(alice))
		}
		for _, a := range callers {
			a.is("access-alice-2")
			a.within(w.provider.latency + soon)
		}
		w.presented(2)
		for _, p := range w.all {
			reads += p.store.Count()
		}
		// Five processes: a read, a claim, a save or a read after the wait, and the polls between.
		if most := 5 * (3 + 4); reads > most {
			w.Errorf("the exchange cost %d calls of the store, want at most %d", reads, most)
		}
	})
}

// Several lifetimes of several accounts in several processes: whenever a token is presented, the
// row is leased to that process, nobody else presents, and there are no more exchanges than there
// were lifetimes.
func TestInvariant01OneClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := []credentials.Key{alice, bob, carol}
		w.seed(keys...)
		w.provider.presented = func(in credentials.RefreshInput) {
			under := 0
			for _, call := range w.provider.record() {
				if call.Key == in.Key && call.Ended.IsZero() {
					under++
				}
			}
			if under != 1 {
				w.Errorf("%s: %d exchanges are under way", in.Key, under)
			}
		}
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			time.Sleep(rand.N(2 * time.Second))
			return credentials.Grant{}, errOrdinary
		}
		const rounds = 10
		for range rounds {
			var wg sync.WaitGroup
			for _, p := range w.starts(4) {
				for range 3 {
					for _, key := range keys {
						pause := rand.N(3 * time.Second)
						wg.Go(func() {
							time.Sleep(pause)
							p.mustGet(key)
						})
					}
				}
			}
			wg.Wait()
			time.Sleep(2 * time.Hour)
		}
		w.presented(rounds * len(keys))
	})
}

func TestInvariant02IntentFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.presented = func(in credentials.RefreshInput) {
			row := w.row(in.Key)
			if !row.Lease.Live() || row.Fence() != in.Fence {
				w.Errorf("presented under the claim %+v; the row has %+v", in.Fence, row.Fence())
			}
			if in.RefreshToken.Reveal() != row.RefreshToken.Reveal() {
				w.Error("what was presented is not the row's")
			}
		}
		processes := w.starts(4)
		for round := range 3 {
			for _, p := range processes { // the claim of one is slow, and that of another is never made
				p.store.Before(testkit.Claim, testkit.Func(func() { time.Sleep(rand.N(time.Second)) }))
			}
			processes[round].store.Before(testkit.Claim, testkit.Refuse)
			var callers []*answer
			for _, p := range processes {
				callers = append(callers, p.ask(alice))
			}
			for i, a := range callers {
				if i == round {
					a.fails(credentials.ErrUnavailable)
				} else {
					a.mustGet()
				}
			}
			time.Sleep(2 * time.Hour)
		}
		w.presented(3)
	})
}

// No call of the store is under way while the provider is called: not in the process that
// exchanges, and not in those that wait, but for the look at the versions.
func TestInvariant06NothingHeld(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob, carol)
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			for range 20 {
				time.Sleep(10 * time.Millisecond)
				for _, p := range w.all {
					if n := p.store.InFlight(); n != 0 {
						w.Errorf("process %s has %d calls of the store in flight during an exchange", p.name, n)
					}
				}
			}
			return credentials.Grant{}, errOrdinary
		}
		var callers []*answer
		for _, p := range w.starts(3) {
			for _, key := range []credentials.Key{alice, bob, carol} {
				callers = append(callers, p.ask(key))
			}
		}
		for _, a := range callers {
			a.mustGet()
		}
		w.presented(3)
	})
}

func TestInvariant10SharedFailure(t *testing.T) {
	for _, test := range []struct {
		name string
		err  credentials.RefreshError
		wait time.Duration // at least, before the next call
		most time.Duration
	}{
		{"transient", credentials.RefreshError{Class: credentials.ClassTransient, Code: "slow_down", Reason: "busy"}, time.Second, 2 * time.Second},
		{"unknown", credentials.RefreshError{Class: credentials.ClassUnknown, Reason: "connection lost"}, time.Second, 2 * time.Second},
		{"retry after", credentials.RefreshError{Class: credentials.ClassTransient, Code: "429", Reason: "busy",
			RetryAt: time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC)}, 59 * time.Second, 66 * time.Second},
	} {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
				if n > 1 {
					return credentials.Grant{}, errOrdinary
				}
				time.Sleep(200 * time.Millisecond)
				return credentials.Grant{}, &test.err
			}
			processes := w.starts(3)
			first := processes[0].begins(alice)
			callers := []*answer{first, processes[0].ask(alice), processes[1].ask(alice), processes[1].ask(alice), processes[2].ask(alice)}
			failed := first.failed(test.err.Class)
			over := failed.RetryAt
			if in := time.Until(over); in < test.wait || in > test.most {
				w.Errorf("RetryAt is in %v, want %v to %v", in, test.wait, test.most)
			}
			same := func(e *credentials.RefreshError) {
				w.Helper()
				if e.Code != test.err.Code || e.Reason != test.err.Reason || e.By != "A" || !e.RetryAt.Equal(over) {
					w.Errorf("got %+v, want %+v", e, failed)
				}
			}
			for _, a := range callers {
				same(a.failed(test.err.Class))
				if a.took > 200*time.Millisecond+soon {
					w.Errorf("process %s: it waited for %v", a.p.name, a.took)
				}
			}
			for time.Until(over) > 0 { // all others are told the same, and nobody calls
				same(processes[0].ask(alice).failed(test.err.Class))
				same(processes[2].ask(alice).failed(test.err.Class))
				same(w.start("new").ask(alice).failed(test.err.Class))
				w.presented(1)
				time.Sleep(min(time.Second/3, time.Until(over)))
			}
			each(processes).ask(alice).are("access-alice-1")
			w.presented(2)
		})
	}
}

// A grant that the provider calls dead is not presented again, by anybody, whatever callers do,
// until there is a new one.
func TestInvariant09DeadStaysDead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("turned down"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		w.provider.authorized(alice, "another")
		processes := w.starts(3)
		stored := processes[0].mustGet(alice)
		processes[1].mustGet(alice)
		check := func(e *credentials.RefreshError) {
			w.Helper()
			if e.Code != "invalid_grant" || e.Reason != "the provider says so" || e.By != "A" || !e.RetryAt.IsZero() {
				w.Errorf("got %+v", e)
			}
		}
		check(processes[0].report(alice, stored).failed(credentials.ClassDead))
		for _, p := range processes {
			check(p.report(alice, stored).failed(credentials.ClassDead))
			check(p.ask(alice).failed(credentials.ClassDead)) // though it has not expired
		}
		time.Sleep(time.Hour)
		for range 48 {
			for _, p := range processes {
				check(p.ask(alice).failed(credentials.ClassDead))
				check(p.report(alice, stored).failed(credentials.ClassDead))
			}
			time.Sleep(time.Hour)
		}
		w.presented(1)
		w.seed(alice)
		each(processes).ask(alice).are("access-alice-1")
		w.presented(2)
	})
}

func TestWaitersClaimWhenTheHolderDied(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		died := w.start("died")
		died.store.After(testkit.Claim, died.store.Dies)
		died.ask(alice).fails(credentials.ErrUnavailable)
		w.reaches(time.Second)
		var callers []*answer
		for _, p := range w.starts(4) {
			callers = append(callers, p.ask(alice))
		}
		w.reaches(credentials.DefaultLease - time.Millisecond)
		callers[0].waits()
		w.presented(0)
		all(callers).are("access-alice-1")
		// A waiter learns of the end of the grace and the exchange up to 4 % late, after a jitter.
		grace := credentials.DefaultStoreTimeout + time.Second
		work := grace + w.provider.latency
		if took, most := time.Since(w.began), credentials.DefaultLease+work+work/25+200*time.Millisecond; took > most {
			w.Errorf("it took %v, want at most %v", took, most)
		}
		w.presentedOnce("died")
	})
}

// While nothing can be read, those who wait for another process get an error when its lease has
// ended.
func TestWaiterWithoutStore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		holder, waiter := w.start("holder"), w.start("waiter")
		paused := testkit.NewGate()
		defer paused.Open()
		holder.store.Before(testkit.Save, paused.Wait)
		holder.ask(alice)
		synctest.Wait()
		a := waiter.begins(alice)
		waiter.store.Down(true)
		a.fails(credentials.ErrUnavailable)
		a.within(credentials.DefaultLease + credentials.DefaultStoreTimeout)
	})
}
