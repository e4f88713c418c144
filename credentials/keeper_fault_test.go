package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// dead counts the grants that are.
func (w *world) dead(keys []credentials.Key) (n int) {
	w.Helper()
	for _, key := range keys {
		if w.row(key).Failure.Class == credentials.ClassDead {
			n++
		}
	}
	return n
}

// noneDead fails the test if one of the grants is.
func (w *world) noneDead(keys []credentials.Key) {
	w.Helper()
	if n := w.dead(keys); n != 0 {
		w.Errorf("%d grants were given up", n)
	}
}

// busy is a refresher of a provider that asks to be left alone.
func busy(retryIn time.Duration) func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
	return func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
		e := &credentials.RefreshError{Class: credentials.ClassTransient, Reason: "busy"}
		if retryIn > 0 {
			e.RetryAt = time.Now().Add(retryIn)
		}
		return credentials.Grant{}, e
	}
}

// A service is found anew for each batch: what was wrong with it may have been mended.
func TestKeepFindsAServiceThatWasMended(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 200)...)
		var mended atomic.Bool
		p := w.start("P", finding(func(context.Context, string) (credentials.Service, error) {
			if mended.Load() {
				return credentials.Service{Refresher: w.provider}, nil
			}
			return credentials.Service{Refresher: &provider{script: busy(0)}}, nil
		}))
		defer p.keeps()()
		w.reaches(time.Minute)
		if k := p.keeper.Stats()["github"]; !k.ProviderDown {
			w.Fatalf("a provider that refuses everybody is taken for up: %+v", k)
		}
		mended.Store(true)
		w.reaches(15 * time.Minute)
		w.presented(200)
	})
}

// However long the store is away, and whatever of its answers is lost, no lease lapses that a batch
// took.
func TestKeepWithAStoreThatLosesItsReplies(t *testing.T) {
	for _, test := range []struct {
		name       string
		first, end time.Duration // refused before first; replies lost from then on until end
	}{{"at once", 0, 5 * time.Second}, {"after it refused", 27 * time.Second, 32 * time.Second}, {"for long", 0, 25 * time.Second}} {
		inWorldOf(t, test.name, func(w *world) {
			keys := accounts("github", 40)
			w.seed(keys...)
			p := w.start("P", neverReplay)
			p.store.Before(testkit.ClaimDue, testkit.RefuseUntil(w.began.Add(test.first)))
			p.store.After(testkit.ClaimDue, testkit.RefuseUntil(w.began.Add(test.end)))
			defer p.keeps()()
			w.reaches(3 * time.Minute)
			w.presented(len(keys))
			w.noneDead(keys)
		})
	}
}

// A claim does not wait for its slot for longer than a lease lasts, whatever the rate.
func TestKeepRateIsLowerThanALeaseIsLong(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 6)
		w.seed(keys...)
		slow := testkit.Delay(time.Millisecond)
		for _, p := range w.starts(2, neverReplay, func(s *setup) { s.service.KeepRate = 0.02 }) {
			p.store.Before(testkit.ClaimDue, slow)
			p.store.After(testkit.ClaimDue, slow)
			defer p.keeps()()
			go func() { _, _ = p.keeper.RunOnce(w.Context()) }()
		}
		w.reaches(10 * time.Second)
		for _, key := range keys {
			w.start("other", neverReplay).ask(key).mustGet()
		}
		w.reaches(10 * time.Minute)
		w.noneDead(keys)
	})
}

// A claim whose exchange has not begun when the manager is closed is given up, though the store is
// away for a moment.
func TestCloseWhileKeepingWithoutStore(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 10)
		w.seed(keys...)
		p := w.start("P", neverReplay, func(s *setup) { s.service.KeepRate = 10 })
		p.store.Before(testkit.Release, testkit.RefuseUntil(w.began.Add(time.Second)))
		p.keeps()
		w.reaches(350 * time.Millisecond)
		p.mustClose()
		defer w.start("Q", neverReplay).keeps()()
		w.reaches(2 * time.Minute)
		w.presented(len(keys))
		w.noneDead(keys)
	})
}

// A pass ends, however short what it renews lives.
func TestRunOnceEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.Lifetime = 10 * time.Second
		w.seed(accounts("github", 1000)...)
		kept, err := w.start("P").keeper.RunOnce(w.Context())
		if err != nil || kept["github"].Renewed != 1000 {
			w.Errorf("got %+v, error %v", kept, err)
		}
		w.presented(1000)
	})
}

// After an outage the next pass renews all that is due.
func TestRunOnceAfterAnOutage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.Lifetime = time.Hour
		keys := accounts("github", 600)
		w.spread(keys, time.Hour)
		p := w.start("P")
		for minute := time.Duration(20); minute <= 60; minute += 10 {
			w.reaches(minute * time.Minute)
			w.provider.script = nil
			if minute == 40 {
				w.provider.script = busy(0)
			}
			kept, err := p.keeper.RunOnce(w.Context())
			if k := kept["github"]; err != nil || k.ProviderDown != (minute == 40) || minute > 20 && minute != 40 && k.Renewed < 95 {
				w.Errorf("minute %d: %+v, error %v", minute, kept, err)
			}
		}
	})
}

// Where nothing is replayed, each try at a provider that does not answer ends a grant, so there are
// few.
func TestKeepTriesLittleWhereATryCostsAGrant(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 500)
		w.seed(keys...)
		w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
			<-ctx.Done()
			return credentials.Grant{}, ctx.Err()
		}
		defer w.start("P", neverReplay, func(s *setup) { s.service.KeepParallel = 4 }).keeps()()
		w.reaches(time.Minute)
		if n := w.dead(keys); n > 4+5 {
			w.Errorf("%d grants were given up in a minute", n)
		}
		w.reaches(3 * time.Hour)
		if n := w.dead(keys); n > 4+5+25 { // some 10 pauses of up to an hour, at random
			w.Errorf("%d grants were given up in 3 hours", n)
		}
	})
}

// A provider that says for how long it is busy is left alone.
func TestKeepObeysRetryAfter(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 1000)...)
		w.provider.script = busy(time.Hour)
		defer w.start("P").keeps()()
		w.reaches(59 * time.Minute)
		if n := len(w.provider.record()); n > credentials.DefaultKeepParallel+5+12 {
			w.Errorf("a provider that is busy for an hour got %d calls in it", n)
		}
	})
}

// A deadline that is over ends RunOnce, and not what it began.
func TestRunOnceLeaves(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 3)...)
		w.provider.latency = 5 * time.Second
		p := w.start("P")
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := p.keeper.RunOnce(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			w.Errorf("got error %v after %v", err, time.Since(began))
		}
		p.mustClose()
		for _, key := range accounts("github", 3) {
			if got := w.row(key).AccessToken.Reveal(); got != fmt.Sprintf("%s-access-%s-1", mark, key.Account) {
				w.Errorf("%s: got token %q", key, got)
			}
		}
	})
}

// locks has saves of some rows meet a lock that somebody holds.
func (p *process) locks(locked func(row uint64) bool) {
	p.store.Before(testkit.Save, func(ctx context.Context, call *testkit.Call) error {
		if !locked(call.Fence.Row) {
			return nil
		}
		<-ctx.Done()
		return errLocked
	})
}

// A row whose result cannot be stored, since somebody holds its lock, keeps no other from its turn:
// neither where there is room for one exchange, nor where it was the probe of a provider that is
// back.
func TestKeepPassesARowThatCannotBeWritten(t *testing.T) {
	for name, test := range map[string]struct {
		parallel int
		outage   time.Duration
	}{
		"room for one":         {parallel: 1},
		"the provider is back": {parallel: 16, outage: 2 * time.Minute},
	} {
		inWorldOf(t, name, func(w *world) {
			keys := accounts("github", 6)
			w.seed(keys[0])
			var locked atomic.Uint64
			locked.Store(w.row(keys[0]).Row)
			w.refuses(between{0, test.outage})
			p := w.start("P", func(s *setup) { s.service.KeepParallel = test.parallel })
			p.locks(func(row uint64) bool { return row == locked.Load() })
			defer p.keeps()()
			w.reaches(test.outage)
			for p.keeper.Stats()["github"].Exchanging == 0 {
				time.Sleep(time.Second)
			}
			w.seed(keys[1:]...)
			time.Sleep(20 * time.Second) // less than a lease, so that nobody claims the locked row again
			for _, key := range keys[1:] {
				if w.row(key).AccessToken.IsZero() {
					w.Errorf("%s was left, since %s cannot be written", key, keys[0])
				}
			}
			if k := p.keeper.Stats()["github"]; k.Renewed != 5 || k.Exchanging != 1 || k.ProviderDown {
				w.Errorf("%+v, want 5 renewed and the one that is not stored yet", k)
			}
			locked.Store(0)
			time.Sleep(7 * time.Second)
			if w.row(keys[0]).AccessToken.IsZero() {
				w.Errorf("%s was not stored", keys[0])
			}
		})
	}
}

// Where no result can be stored, though claims can, it does not use up one refresh token after the
// other.
func TestKeepStopsWhereNothingCanBeStored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 200)...)
		p := w.start("P", func(s *setup) { s.service.KeepParallel = 4 })
		p.store.Before(testkit.Save, testkit.Refuse)
		kept, err := p.keeper.RunOnce(w.Context())
		if k := kept["github"]; err != nil || k.Exchanging == 0 || k.Renewed != 0 {
			w.Errorf("RunOnce: %+v, error %v", k, err)
		}
		stop := p.keeps()
		w.reaches(20 * time.Minute)
		if n := len(w.provider.record()); n > 16+2*4 {
			w.Errorf("%d refresh tokens were used up", n)
		}
		p.store.Heal(testkit.Save)
		w.reaches(40 * time.Minute)
		if k := p.keeper.Stats()["github"]; k.Renewed+k.Dead != 200 {
			w.Errorf("when results can be stored again: %+v, want all 200 renewed, or dead as another has used them", k)
		}
		stop()
	})
}

// Rows that cannot be written, however many, keep nobody else for long, though they be the first to
// be due.
func TestKeepPassesManyRowsThatCannotBeWritten(t *testing.T) {
	inWorld(t, func(w *world) {
		const locked, others = 40, 500
		w.seed(accounts("github", locked)...)
		time.Sleep(time.Second)
		var free atomic.Bool
		keys := accounts("github", locked+others)[locked:]
		w.seed(keys...)
		p := w.start("P")
		p.locks(func(row uint64) bool { return row <= locked && !free.Load() })
		stop := p.keeps()
		defer func() {
			free.Store(true)
			stop()
		}()
		w.reaches(10 * time.Minute)
		left := 0
		for _, key := range keys {
			if w.row(key).AccessToken.IsZero() {
				left++
			}
		}
		if k := p.keeper.Stats()["github"]; left > 0 {
			w.Errorf("%d of %d were left, since %d others cannot be written: %+v", left, others, locked, k)
		}
	})
}

// Of a service that answers, one credential is refused with "Retry-After: 1" for ever: the pauses
// grow all the same.
func TestRetryAfterOfASecondForEver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.Lifetime = 10 * time.Minute
		w.seed(accounts("github", 50)...)
		w.seed(alice)
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			if in.Key == alice {
				return busy(time.Second)(ctx, in, n)
			}
			return credentials.Grant{}, errOrdinary
		}
		defer w.start("P").keeps()()
		w.reaches(time.Hour)
		refused := 0
		for _, c := range w.provider.record() {
			if c.Key == alice {
				refused++
			}
		}
		if refused > 80 || refused < 10 {
			w.Errorf("%d calls in an hour", refused)
		}
	})
}
