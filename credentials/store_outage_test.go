package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// outage takes the store away from a process.
type outage struct {
	methods []testkit.Method
	err     error // of each call; nil: it does not return until its time is over

	// commits: a claim that would not be made is answered, as by a server that reads and locks but
	// cannot commit.
	commits bool
}

var (
	everyMethod = []testkit.Method{
		testkit.Get, testkit.Versions, testkit.DueServices, testkit.FindClaims,
		testkit.Claim, testkit.ClaimAll, testkit.Save, testkit.Fail, testkit.Release, testkit.ClaimDue,
	}
	writingMethod = everyMethod[4:]

	// errLocked is what a store says of a row that somebody has locked.
	errLocked = fmt.Errorf("%w: %w", credentials.ErrUnavailable, credentials.ErrRowLocked)
)

func (o outage) begin(p *process) {
	for _, method := range o.methods {
		p.store.Before(method, func(ctx context.Context, call *testkit.Call) error {
			if o.commits && method == testkit.Claim && p.w.row(call.Key).State(call.Claim) != credentials.StateClaimable {
				return nil
			}
			if o.err != nil {
				return o.err
			}
			return testkit.Hang(ctx, call)
		})
	}
}

// asksAll has callers of the process ask for all keys again and again, until stop is called.
func (p *process) asksAll(keys []credentials.Key) (stop func()) {
	var ended atomic.Bool
	var callers sync.WaitGroup
	for _, key := range keys {
		callers.Go(func() {
			for !ended.Load() {
				ctx, cancel := context.WithTimeout(p.w.Context(), 3*time.Second)
				_, _ = p.Token(ctx, key)
				cancel()
				time.Sleep(time.Second)
			}
		})
	}
	return func() {
		ended.Store(true)
		callers.Wait()
	}
}

// lost returns how many of the grants are lost: what is stored does not work any more.
func (w *world) lost(keys []credentials.Key) (n int) {
	for _, key := range keys {
		if c := w.row(key); !w.provider.works(c.RefreshToken) || c.Failure.Class == credentials.ClassDead {
			n++
		}
	}
	return n
}

// The store is away for longer than the lease while ten exchanges are under way in three processes,
// and callers of all of them go on asking; an idle process and one that has just started ask when
// it is back. Every holder lives, so each saves first, and no refresh token is presented twice.
func TestOutageLongerThanTheLease(t *testing.T) {
	for name, o := range map[string]outage{
		"calls are refused":        {methods: everyMethod, err: testkit.ErrDown},
		"calls hang":               {methods: everyMethod},
		"reads work, writes fail":  {methods: writingMethod, err: testkit.ErrDown},
		"reads work, writes hang":  {methods: writingMethod},
		"reads work, commits fail": {methods: writingMethod, err: testkit.ErrDown, commits: true},
		"reads work, commits hang": {methods: writingMethod, commits: true},
		"rows are locked":          {methods: writingMethod, err: errLocked},
	} {
		times := []time.Duration{40 * time.Second}
		if !o.commits && len(o.methods) == len(everyMethod) {
			times = append(times, 90*time.Second)
		}
		for _, away := range times {
			inWorldOf(t, name+" for "+away.String(), func(w *world) { w.outage(o, away) })
		}
	}
}

func (w *world) outage(o outage, away time.Duration) {
	keys := accounts("github", 10)
	w.seed(keys...)
	w.provider.latency = 2 * time.Second
	idle := w.start("idle")
	var stops []func()
	for _, p := range w.starts(3) {
		stops = append(stops, p.asksAll(keys))
	}
	w.reaches(time.Second)
	w.presented(len(keys)) // all under way
	for _, p := range w.all {
		o.begin(p)
	}
	w.reaches(time.Second + away)
	for _, p := range w.all {
		p.store.Heal()
	}
	stops = append(stops, idle.asksAll(keys), w.start("new").asksAll(keys))
	time.Sleep(40 * time.Second)
	for _, stop := range stops {
		stop()
	}
	if n := w.lost(keys); n > 0 {
		w.Errorf("%d grants are lost", n)
	}
	w.presented(len(keys))
}

// The store is away for a minute while 200 credentials with valid tokens are asked for all the
// time. No caller gets an error, the store gets a few calls a second in all, callers without a
// token learn of it at once, and when the store is back everybody is served within a second.
func TestStoreAwayMeetsFewCalls(t *testing.T) {
	for name, hangs := range map[string]bool{"refuses": false, "hangs": true} {
		inWorldOf(t, name, func(w *world) {
			keys := accounts("github", 200)
			for _, key := range keys {
				w.anHour(key)
			}
			w.seed(alice)
			p := w.start("P")
			for _, key := range keys {
				p.mustGet(key)
			}
			var ended atomic.Bool
			var callers sync.WaitGroup
			for _, key := range keys {
				callers.Go(func() {
					for !ended.Load() {
						if _, err := p.Token(w.Context(), key); err != nil {
							w.Errorf("%s: %v", key, err)
							return
						}
						time.Sleep(time.Second)
					}
				})
			}
			const away = time.Minute
			before := p.store.Count()
			o := outage{methods: everyMethod, err: testkit.ErrDown}
			if hangs {
				o.err = nil
			}
			o.begin(p)
			w.reaches(away / 2)
			a := p.ask(alice)
			a.fails(credentials.ErrUnavailable)
			if a.took > credentials.DefaultStoreTimeout || !hangs && a.took > 0 {
				w.Errorf("a caller without token was told after %v", a.took)
			}
			w.reaches(away)
			n := p.store.Count() - before
			w.Logf("%d calls of the store in %v", n, away)
			if most := 5 * int(away/time.Second); n > most {
				w.Errorf("the store that is away got %d calls in %v, want at most %d", n, away, most)
			}
			p.store.Heal()
			time.Sleep(time.Second)
			if hangs {
				time.Sleep(credentials.DefaultStoreTimeout) // of the probe that hangs
			}
			a = p.ask(alice)
			a.is("access-alice-1")
			if a.took > w.provider.latency {
				w.Errorf("when the store was back, it took %v", a.took)
			}
			ended.Store(true)
			callers.Wait()
		})
	}
}

// A row that another transaction has locked delays no other credential, nor the takeover of
// another's lease, and callers are told that it is a lock.
func TestLockedRowDelaysNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob, carol)
		w.dies("dead", bob, false)
		p := w.start("P")
		p.store.Before(testkit.Claim, func(_ context.Context, call *testkit.Call) error {
			if call.Key != alice {
				return nil
			}
			time.Sleep(time.Second)
			return errLocked
		})
		stop := p.asksAll([]credentials.Key{alice})
		defer stop()
		waiter := p.ask(bob)
		w.reaches(5 * time.Second)
		if a := p.ask(carol); !a.mustGet().Value.Equal(secret("access-carol-1")) || a.took != w.provider.latency {
			w.Errorf("another credential took %v", a.took)
		}
		if _, err := p.Token(w.Context(), alice); !errors.Is(err, credentials.ErrRowLocked) {
			w.Errorf("got error %v, want one that wraps ErrRowLocked", err)
		}
		waiter.is("access-bob-1")
		w.within(credentials.DefaultLease + grace + 400*time.Millisecond)
	})
}
