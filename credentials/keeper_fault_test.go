package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// dead counts the grants that are.
func (w *world) dead(keys []credentials.Key) (n int) {
	w.Helper()
	for _, key := range keys {
		if w.row(key).State(credentials.Secret{}) == credentials.Dead {
			n++
		}
	}
	return n
}

// busy is a refresher of a provider that asks to be left alone.
func busy(retryIn time.Duration) func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
	return func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
		e := &credentials.RefreshError{Class: credentials.Transient, Reason: "busy"}
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
		find := credentials.ServicesFunc(func(context.Context, string) (credentials.Service, error) {
			if mended.Load() {
				return credentials.Service{Refresher: w.provider}, nil
			}
			return credentials.Service{Refresher: credentials.RefresherFunc(func(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
				return busy(0)(ctx, c, 0)
			})}, nil
		})
		m, err := credentials.NewManager(w.db, find, &credentials.Options{Logger: slog.New(slog.NewTextHandler(w.logs, nil))})
		if err != nil {
			w.Fatal(err)
		}
		defer m.Close(w.Context())
		ctx, cancel := context.WithCancel(w.Context())
		defer cancel()
		go func() { _ = m.Keep(ctx) }()
		w.reaches(time.Minute)
		if k := m.Kept()["github"]; !k.Down {
			w.Fatalf("a provider that refuses everybody is taken for up: %+v", k)
		}
		mended.Store(true)
		w.reaches(15 * time.Minute)
		w.calls(200)
	})
}

// However long the store is away, and whatever of its answers is lost, no lease lapses that a batch took.
func TestKeepWithAStoreThatLosesItsReplies(t *testing.T) {
	for _, test := range []struct {
		name       string
		first, end time.Duration // refused before first; replies lost from then on until end
	}{{"at once", 0, 5 * time.Second}, {"after it refused", 27 * time.Second, 32 * time.Second}, {"for long", 0, 25 * time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				keys := accounts("github", 40)
				w.seed(keys...)
				p := w.start("P", neverReplay)
				p.store.on("ClaimDue", func(context.Context) error {
					if time.Since(w.began) < test.first {
						return errDown
					}
					return nil
				}, func(context.Context) error {
					if time.Since(w.began) < test.end {
						return errDown
					}
					return nil
				})
				defer p.keeps()()
				w.reaches(3 * time.Minute)
				w.calls(len(keys))
				if n := w.dead(keys); n != 0 {
					w.Errorf("%d grants were given up", n)
				}
			})
		})
	}
}

// A claim does not wait for its slot for longer than a lease lasts, whatever the rate.
func TestKeepRateIsLowerThanALeaseIsLong(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 6)
		w.seed(keys...)
		slow := func(context.Context) error { time.Sleep(time.Millisecond); return nil }
		for _, p := range w.starts(2, neverReplay, func(s *setup) { s.service.KeepRate = 0.02 }) {
			p.store.on("ClaimDue", slow, slow)
			defer p.keeps()()
			go func() { _, _ = p.RefreshDue(w.Context()) }()
		}
		w.reaches(10 * time.Second)
		for _, key := range keys {
			w.start("other", neverReplay).ask(key).mustGet()
		}
		w.reaches(10 * time.Minute)
		if n := w.dead(keys); n != 0 {
			w.Errorf("%d grants were given up", n)
		}
	})
}

// What has not begun when the manager is closed is given up, though the store is away for a moment.
func TestCloseWhileKeepingWithoutStore(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 10)
		w.seed(keys...)
		p := w.start("P", neverReplay, func(s *setup) { s.service.KeepRate = 10 })
		p.store.on("Release", func(context.Context) error {
			if time.Since(w.began) < time.Second {
				return errDown
			}
			return nil
		}, nil)
		p.keeps()
		w.reaches(350 * time.Millisecond)
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		defer w.start("Q", neverReplay).keeps()()
		w.reaches(2 * time.Minute)
		w.calls(len(keys))
		if n := w.dead(keys); n != 0 {
			w.Errorf("%d grants were given up", n)
		}
	})
}

// A pass ends, however short what it renews lives.
func TestRefreshDueEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.lifetime = 10 * time.Second
		w.seed(accounts("github", 1000)...)
		kept, err := w.start("P").RefreshDue(w.Context())
		if err != nil || kept["github"].Renewed != 1000 {
			w.Errorf("got %+v, error %v", kept, err)
		}
		w.calls(1000)
	})
}

// After an outage the next pass renews all that is due.
func TestRefreshDueAfterAnOutage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.lifetime = time.Hour
		keys := accounts("github", 600)
		w.spread(keys, time.Hour)
		p := w.start("P")
		for minute := time.Duration(20); minute <= 60; minute += 10 {
			w.reaches(minute * time.Minute)
			w.provider.script = nil
			if minute == 40 {
				w.provider.script = busy(0)
			}
			kept, err := p.RefreshDue(w.Context())
			if k := kept["github"]; err != nil || k.Down != (minute == 40) || minute > 20 && minute != 40 && k.Renewed < 95 {
				w.Errorf("minute %d: %+v, error %v", minute, kept, err)
			}
		}
	})
}

// Where nothing is replayed, each try at a provider that does not answer ends a grant, so there are few.
func TestKeepTriesLittleWhereATryCostsAGrant(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 500)
		w.seed(keys...)
		w.provider.script = func(ctx context.Context, _ credentials.Credential, _ int) (credentials.Grant, error) {
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

// A deadline that is over ends RefreshDue, and not what it began.
func TestRefreshDueLeaves(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 3)...)
		w.provider.latency = 5 * time.Second
		p := w.start("P")
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := p.RefreshDue(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			w.Errorf("got error %v after %v", err, time.Since(began))
		}
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		for _, key := range accounts("github", 3) {
			if got := w.row(key).Token.Reveal(); got != fmt.Sprintf("%s-access-%s-1", mark, key.Account) {
				w.Errorf("%s: got token %q", key, got)
			}
		}
	})
}

// lockedRow is a store of which somebody holds one row's lock.
type lockedRow struct {
	*memstore.Store
	row atomic.Uint64 // 0: none
}

func (s *lockedRow) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	if fence.Row == s.row.Load() {
		<-ctx.Done()
		return errDown
	}
	return s.Store.Save(ctx, fence, renewal)
}

// A row whose result cannot be stored, since somebody holds its lock, keeps no other from its turn: neither where there
// is room for one exchange, nor where it was the probe of a provider that is back.
func TestKeepPassesARowThatCannotBeWritten(t *testing.T) {
	for name, test := range map[string]struct {
		parallel int
		outage   time.Duration
	}{
		"room for one":         {parallel: 1},
		"the provider is back": {parallel: 16, outage: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				keys := accounts("github", 6)
				w.seed(keys[0])
				store := &lockedRow{Store: w.db}
				store.row.Store(w.row(keys[0]).Row)
				var down atomic.Bool
				down.Store(test.outage > 0)
				w.refusesWhile(&down)
				m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: w.provider, KeepParallel: test.parallel}},
					&credentials.Options{Logger: slog.New(slog.NewTextHandler(w.logs, nil))})
				if err != nil {
					w.Fatal(err)
				}
				defer m.Close(w.Context())
				ctx, cancel := context.WithCancel(w.Context())
				defer cancel()
				go func() { _ = m.Keep(ctx) }()
				w.reaches(test.outage)
				down.Store(false)
				for m.Kept()["github"].Exchanging == 0 {
					time.Sleep(time.Second)
				}
				w.seed(keys[1:]...)
				time.Sleep(20 * time.Second) // less than a lease, so that nobody claims the locked row again
				for _, key := range keys[1:] {
					if w.row(key).Token.IsZero() {
						w.Errorf("%s was left, since %s cannot be written", key, keys[0])
					}
				}
				if k := m.Kept()["github"]; k.Renewed != 5 || k.Exchanging != 1 || k.Down {
					w.Errorf("%+v, want 5 renewed and the one that is not stored yet", k)
				}
				store.row.Store(0)
				time.Sleep(7 * time.Second)
				if w.row(keys[0]).Token.IsZero() {
					w.Errorf("%s was not stored", keys[0])
				}
			})
		})
	}
}

// Where no result can be stored, though claims can, it does not use up one refresh token after the other.
func TestKeepStopsWhereNothingCanBeStored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 200)...)
		p := w.start("P", func(s *setup) { s.service.KeepParallel = 4 })
		p.store.on("Save", refuse, nil)
		kept, err := p.RefreshDue(w.Context())
		if k := kept["github"]; err != nil || k.Exchanging == 0 || k.Renewed != 0 {
			w.Errorf("RefreshDue: %+v, error %v", k, err)
		}
		stop := p.keeps()
		w.reaches(20 * time.Minute)
		if n := len(w.provider.record()); n > 16+2*4 {
			w.Errorf("%d refresh tokens were used up", n)
		}
		p.store.on("Save", nil, nil)
		w.reaches(40 * time.Minute)
		if k := p.Kept()["github"]; k.Renewed+k.Rejected != 200 {
			w.Errorf("when results can be stored again: %+v, want all 200 renewed, or rejected as another has used them", k)
		}
		stop()
	})
}
