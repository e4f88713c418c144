package credentials_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// One poller serves all waits of a process: one that is known to take long delays none that begins later.
func TestPollerServesTheEarliest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		w.provider.script = func(_ context.Context, c credentials.Credential, _ int) (credentials.Grant, error) {
			if c.Key == bob {
				time.Sleep(10 * time.Second)
			}
			return credentials.Grant{}, errOrdinary
		}
		p, q := w.start("P"), w.start("Q")
		p.ask(bob).is("access-bob-1")
		time.Sleep(2 * time.Hour)
		first := p.ask(bob)
		synctest.Wait()
		long := q.ask(bob)
		time.Sleep(time.Second)
		second := p.ask(alice)
		synctest.Wait()
		short := q.ask(alice)
		short.is("access-alice-1")
		if most := w.provider.latency + soon; short.took > most {
			w.Errorf("it waited for %v, want at most %v", short.took, most)
		}
		second.is("access-alice-1")
		first.is("access-bob-2")
		long.is("access-bob-2")
		if most := 10*time.Second + w.provider.latency + soon; long.took > most {
			w.Errorf("it waited for %v, want at most %v", long.took, most)
		}
		w.calls(3)
	})
}

// Who comes late to an exchange knows by its claim's age when it should be done.
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
		if most := 500*time.Millisecond + soon; late.took > most {
			w.Errorf("it waited for %v, want at most %v", late.took, most)
		}
		holder.is("access-alice-2")
		w.calls(2)
	})
}

// A look at the versions that hangs is given up, and the next one finds what has happened.
func TestPollThatHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = time.Second
		p, q := w.start("P"), w.start("Q")
		q.store.on("Versions", once(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), nil)
		holder := p.ask(alice)
		synctest.Wait()
		waiter := q.ask(alice)
		holder.is("access-alice-1")
		waiter.is("access-alice-1")
		if most := credentials.DefaultStoreTimeout + 2*time.Second; waiter.took > most {
			w.Errorf("it waited for %v, want at most %v", waiter.took, most)
		}
	})
}

// Who waits does not mind that the store is away for a moment.
func TestWaiterDuringABlip(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		p, q := w.start("P"), w.start("Q")
		holder := p.ask(alice)
		synctest.Wait()
		waiter := q.ask(alice)
		w.reaches(2 * time.Second)
		q.store.down(true)
		w.reaches(8 * time.Second)
		waiter.waits()
		q.store.down(false)
		waiter.is("access-alice-1")
		holder.is("access-alice-1")
		if most := w.provider.latency + 2*time.Second; waiter.took > most {
			w.Errorf("it waited for %v, want at most %v", waiter.took, most)
		}
	})
}

// rolledBack is a store after a fail-over that forgot the last write of every row.
type rolledBack struct{ steppedStore }

func (s *rolledBack) Versions(ctx context.Context, rows []uint64) (map[uint64]uint64, error) {
	versions, err := s.steppedStore.Versions(ctx, rows)
	for row := range versions {
		versions[row]--
	}
	return versions, err
}

// A version that went back has moved, too.
func TestWaiterAfterARollBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		holder := w.start("P").ask(alice)
		synctest.Wait()
		store := &rolledBack{steppedStore{Store: w.db}}
		m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: w.provider}}, nil)
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := m.Token(ctx, alice); err == nil {
			w.Error("got no error")
		}
		if n := store.count("Get"); n < 2 {
			w.Errorf("the row was read %d times, want it read again", n)
		}
		holder.is("access-alice-1")
		if err := m.Close(w.Context()); err != nil {
			w.Error(err)
		}
	})
}

// An exchange that begins when a caller has nearly waited as long as it may gets all the time that it needs.
func TestExchangeAtTheEndOfTheWait(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		w.dies("first", alice, false)
		p := w.start("P")
		p.store.on("Claim", once(func(context.Context) error { w.dies("second", alice, false); return nil }), nil)
		w.reaches(time.Second)
		a := p.ask(alice)
		a.is("access-alice-1")
		if past, least := time.Since(w.began), 2*credentials.DefaultLease+w.provider.latency; past < least {
			w.Errorf("it was there after %v, want at least %v", past, least)
		}
		w.calls(1)
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
			p.store.on("Claim", func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if past := time.Since(w.began); !came[p] {
					came[p] = true
					first[past.Truncate(time.Second)]++
					if past < 55*time.Minute {
						w.Errorf("process %s claimed after %v", p.name, past)
					}
				}
				return errDown
			}, nil)
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
		holder := p.ask(alice)
		synctest.Wait()
		waiter := q.ask(alice)
		waiter.is("access-alice-2")
		if most := 2*w.provider.latency + soon; waiter.took > most {
			w.Errorf("it waited for %v, want at most %v", waiter.took, most)
		}
		holder.is("access-alice-2")
	})
}
