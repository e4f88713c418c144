package credentials_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// One poller serves all waits of a process: one that is known to take long delays none that begins
// later.
func TestPollerServesTheEarliest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		w.provider.script = func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
			if in.Key == bob {
				time.Sleep(10 * time.Second)
			}
			return credentials.Grant{}, errOrdinary
		}
		p, q := w.start("P"), w.start("Q")
		p.ask(bob).is("access-bob-1")
		time.Sleep(2 * time.Hour)
		first := p.begins(bob)
		long := q.ask(bob)
		time.Sleep(time.Second)
		second := p.begins(alice)
		short := q.ask(alice)
		short.is("access-alice-1")
		short.within(w.provider.latency + soon)
		second.is("access-alice-1")
		first.is("access-bob-2")
		long.is("access-bob-2")
		long.within(10*time.Second + w.provider.latency + soon)
		w.presented(3)
	})
}

// A caller that comes late to an exchange knows by the claim's age when it should be done.
func TestWaitCountsFromTheClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		w.provider.latency = 2 * time.Second
		p.mustGet(alice)
		time.Sleep(2 * time.Hour)
		holder := p.ask(alice)
		time.Sleep(1500 * time.Millisecond)
		late := q.ask(alice)
		late.is("access-alice-2")
		late.within(500*time.Millisecond + soon)
		holder.is("access-alice-2")
		w.presented(2)
	})
}

// A look at the versions that hangs is given up, and the next one finds what has happened.
func TestPollThatHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = time.Second
		p, q := w.start("P"), w.start("Q")
		q.store.Before(testkit.Versions, testkit.Once(testkit.Hang))
		holder := p.begins(alice)
		waiter := q.ask(alice)
		holder.is("access-alice-1")
		waiter.is("access-alice-1")
		waiter.within(credentials.DefaultStoreTimeout + 2*time.Second)
	})
}

// A waiting caller does not notice that the store is away for a moment.
func TestWaiterDuringABlip(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		p, q := w.start("P"), w.start("Q")
		holder := p.begins(alice)
		waiter := q.ask(alice)
		w.reaches(2 * time.Second)
		q.store.Down(true)
		w.reaches(6 * time.Second)
		waiter.waits()
		q.store.Down(false)
		waiter.is("access-alice-1")
		holder.is("access-alice-1")
		waiter.within(w.provider.latency + 2*time.Second)
	})
}

// A version that went back has moved, too.
func TestWaiterAfterARollBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		holder := w.start("P").begins(alice)
		p := w.start("Q")
		p.store.After(testkit.Versions, func(_ context.Context, call *testkit.Call) error {
			for row := range call.Versions { // a fail-over has forgotten the last write of every row
				call.Versions[row]--
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := p.Token(ctx, alice); err == nil {
			w.Error("got no error")
		}
		if n := p.store.Count(testkit.Get); n < 2 {
			w.Errorf("the row was read %d times, want it read again", n)
		}
		holder.is("access-alice-1")
	})
}

// An exchange that begins when a caller has nearly waited as long as it may gets all the time that
// it needs.
func TestExchangeAtTheEndOfTheWait(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		w.dies("first", alice, false)
		p := w.start("P")
		p.store.Before(testkit.Claim, testkit.Once(testkit.Func(func() { w.takesOver("second", alice) })))
		w.reaches(time.Second)
		a := p.ask(alice)
		a.is("access-alice-1")
		if past, least := time.Since(w.began), 2*credentials.DefaultLease+w.provider.latency; past < least {
			w.Errorf("it was there after %v, want at least %v", past, least)
		}
		w.presented(1)
	})
}

// Processes that cached the same token do not all claim the next one at the same moment.
func TestDueIsSpread(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		processes := w.starts(20, func(s *setup) { s.options.Recheck = credentials.Never })
		var mu sync.Mutex // guards first and came
		first := make(map[time.Duration]int)
		came := make(map[*process]bool)
		for _, p := range processes {
			p.mustGet(alice)
			p.store.Before(testkit.Claim, func(context.Context, *testkit.Call) error {
				mu.Lock()
				defer mu.Unlock()
				if past := time.Since(w.began); !came[p] {
					came[p] = true
					first[past.Truncate(time.Second)]++
					if past < 55*time.Minute {
						w.Errorf("process %s claimed after %v", p.name, past)
					}
				}
				return testkit.ErrDown
			})
		}
		for time.Since(w.began) <= dueOfAnHour {
			for _, p := range processes {
				p.ask(alice).is("put-alice")
				synctest.Wait()
			}
			time.Sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(came) != len(processes) {
			w.Errorf("%d of %d processes claimed in the first tenth of the window", len(came), len(processes))
		}
		for past, n := range first {
			if n > len(processes)/2 {
				w.Errorf("%d processes claimed after %v", n, past)
			}
		}
	})
}

// One slow exchange does not make the waiters of the next one late.
func TestWaitAfterASlowExchange(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		w.provider.latency = 10 * time.Second
		p.mustGet(alice)
		time.Sleep(2 * time.Hour)
		w.provider.latency = 200 * time.Millisecond
		holder := p.begins(alice)
		waiter := q.ask(alice)
		waiter.is("access-alice-2")
		waiter.within(2*w.provider.latency + soon)
		holder.is("access-alice-2")
	})
}
