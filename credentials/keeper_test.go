package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// keeps has the process keep until the test ends, or stop is called.
func (p *process) keeps() (stop func()) {
	ctx, cancel := context.WithCancel(p.w.Context())
	p.w.Cleanup(cancel)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.Keep(ctx); err == nil {
			p.w.Error("Keep returned nil")
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// accounts returns n keys of a service.
func accounts(service string, n int) []credentials.Key {
	keys := make([]credentials.Key, n)
	for i := range keys {
		keys[i] = credentials.Key{Service: service, Account: fmt.Sprintf("account-%04d", i)}
	}
	return keys
}

// spread puts tokens that become due one after the other, over a time that begins in 20 minutes.
func (w *world) spread(keys []credentials.Key, over time.Duration) {
	w.Helper()
	for i, key := range keys {
		lifetime := 25*time.Minute + time.Duration(i+1)*over/time.Duration(len(keys))
		w.put(key, credentials.Grant{Token: secret("put-" + key.Account), RefreshToken: secret("seed"), Lifetime: lifetime})
	}
}

// renewals returns how many exchanges the processes' keepers made.
func renewals(processes []*process, service string) (n int) {
	for _, p := range processes {
		n += p.Kept()[service].Renewed
	}
	return n
}

// While somebody keeps, nothing expires, nobody waits, and each expiry costs one exchange, however many keep.
func TestKeep(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.lifetime = time.Hour
		keys := accounts("github", 120)
		w.spread(keys, time.Hour)
		processes := w.starts(3)
		for _, p := range processes {
			defer p.keeps()()
		}
		for minute := time.Duration(20); minute <= 5*60; minute++ {
			w.reaches(minute*time.Minute + time.Second)
			for i, key := range keys {
				if c := w.row(key); c.ExpiresIn < 4*time.Minute {
					w.Fatalf("%v: the token of %s expires in %v", time.Since(w.began), key, c.ExpiresIn)
				}
				if a := processes[i%3].ask(key); i%10 == int(minute)%10 {
					if a.mustGet(); a.took != 0 {
						w.Errorf("%v: a caller waited for %v", time.Since(w.began), a.took)
					}
				}
			}
		}
		synctest.Wait()
		made, counted := len(w.provider.record()), 0
		for _, p := range processes {
			k := p.Kept()["github"]
			counted += k.Renewed + k.Exchanging
		}
		if counted > made || counted < made*9/10 { // callers may come first
			w.Errorf("the keepers count %d exchanges, the provider %d", counted, made)
		}
		// Each is due every 55 minutes: four or five times.
		if made < 4*len(keys) || made > 6*len(keys) {
			w.Errorf("the provider got %d calls for %d accounts in 5 hours", made, len(keys))
		}
		for _, p := range processes {
			if n := p.Kept()["github"].Renewed; n == 0 {
				w.Errorf("process %s had no share in the work", p.name)
			}
		}
	})
}

// However many keepers there are, each row that is due is exchanged once.
func TestKeepersShareTheWork(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 1000)
		w.seed(keys...)
		processes := w.starts(8)
		for _, p := range processes {
			defer p.keeps()()
		}
		w.reaches(time.Minute)
		calls := w.calls(len(keys))
		if n := renewals(processes, "github"); n != len(keys) {
			w.Errorf("the keepers count %d exchanges", n)
		}
		seen := make(map[credentials.Key]int)
		for _, c := range calls {
			seen[c.Key]++
		}
		if len(seen) != len(keys) {
			w.Errorf("%d of %d accounts were exchanged", len(seen), len(keys))
		}
		if n := w.provider.most; n > 8*credentials.DefaultKeepParallel {
			w.Errorf("%d exchanges at the same time", n)
		}
	})
}

// A process's keeper fills the process's cache.
func TestKeepReachesTheCache(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P", func(s *setup) { s.options.Recheck = 24 * time.Hour })
		p.ask(alice).is("put-alice")
		p.ask(alice).is("put-alice")
		defer p.keeps()()
		w.reaches(55*time.Minute + 15*time.Second)
		w.calls(1)
		looks := p.store.count("Get")
		p.ask(alice).is("access-alice-1")
		if n := p.store.count("Get"); n != looks {
			w.Errorf("the store was read for it")
		}
	})
}

// What one process does not know is left for those that do, and keeps nobody.
func TestKeepLeavesUnknownServices(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("another", 50)...)
		w.seed(accounts("github", 50)...)
		p := w.start("P")
		stop := p.keeps()
		w.reaches(30 * time.Second)
		stop()
		w.calls(50)
		for _, key := range accounts("another", 50) {
			if c := w.row(key); c.Version != 1 {
				w.Fatalf("%s was touched", key)
			}
		}
		if k := p.Kept()["another"]; !k.Unknown || k.Renewed+k.Failed+k.Exchanging != 0 {
			w.Errorf("got %+v of the service that it does not know", k)
		}
		m, err := credentials.NewManager(w.db, credentials.Services{"another": {Refresher: w.provider}}, nil)
		if err != nil {
			w.Fatal(err)
		}
		defer m.Close(w.Context())
		if kept, err := m.RefreshDue(w.Context()); err != nil || kept["another"].Renewed != 50 {
			w.Errorf("got %+v, error %v", kept, err)
		}
	})
}

func TestRefreshDue(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 40)...)
		w.anHour(carol)
		dead := credentials.Key{Service: "github", Account: "dead"}
		w.seed(dead)
		w.provider.authorized(dead, "another")
		p := w.start("P")
		kept, err := p.RefreshDue(w.Context())
		if want := map[string]credentials.Kept{"github": {Renewed: 40, Rejected: 1}}; err != nil || !maps.Equal(kept, want) {
			w.Errorf("got %+v, error %v; want %+v", kept, err, want)
		}
		w.calls(41)
		if kept, err := p.RefreshDue(w.Context()); err != nil || len(kept) != 0 {
			w.Errorf("the second pass did %+v, error %v", kept, err)
		}
		w.reaches(56 * time.Minute)
		if kept, err := p.RefreshDue(w.Context()); err != nil || kept["xero"].Renewed != 1 {
			w.Errorf("got %+v, error %v", kept, err)
		}
		if total := p.Kept(); total["github"].Rejected != 1 || total["xero"].Renewed != 1 {
			w.Errorf("in all it counts %+v", total)
		}

		p.store.down(true)
		if _, err := p.RefreshDue(w.Context()); !errors.Is(err, credentials.ErrUnavailable) {
			w.Errorf("with the store down: got error %v", err)
		}
		p.store.heal()
		ended, cancel := context.WithCancel(w.Context())
		cancel()
		w.reaches(2 * time.Hour)
		if _, err := p.RefreshDue(ended); !errors.Is(err, context.Canceled) {
			w.Errorf("with its context ended: got error %v", err)
		}
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		if _, err := p.RefreshDue(w.Context()); !errors.Is(err, credentials.ErrClosed) {
			w.Errorf("closed: got error %v", err)
		}
	})
}

func TestKeepRate(t *testing.T) {
	for _, rate := range []float64{0.5, 3, 40} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(accounts("github", 400)...)
				defer w.start("P", func(s *setup) { s.service.KeepRate = rate }).keeps()()
				w.reaches(2 * time.Minute)
				calls := w.provider.record()
				if want := min(120*rate, 400); float64(len(calls)) < want-rate-2 {
					w.Errorf("got %d exchanges in 2 minutes, want about %g", len(calls), want)
				}
				for i, c := range calls {
					if i > 0 {
						if gap := c.Began.Sub(calls[i-1].Began); gap < time.Duration(0.99*float64(time.Second)/rate) {
							w.Fatalf("exchange %d follows %v after the one before", i, gap)
						}
					}
				}
			})
		})
	}
}

// A claim whose reply was lost is found again: its leases do not lapse, and nothing counts as interrupted.
func TestKeepFindsClaimsWhoseReplyWasLost(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 10)
		w.seed(keys...)
		p := w.start("P", func(s *setup) { s.service.Replay = credentials.NeverReplay })
		p.store.on("ClaimDue", nil, once(refuse))
		stop := p.keeps()
		w.reaches(20 * time.Second)
		stop()
		w.calls(len(keys))
		for _, key := range keys {
			if c := w.row(key); c.State(credentials.Secret{}) != credentials.Fresh {
				w.Errorf("%s: %+v", key, c.Failure)
			}
		}
	})
}

func TestKeepWhileTheStoreIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 10)...)
		p := w.start("P")
		p.store.down(true)
		stop := p.keeps()
		w.reaches(time.Minute)
		if n := p.store.count("DueServices"); n < 4 || n > 60 {
			w.Errorf("the store was asked %d times in a minute", n)
		}
		p.store.heal()
		w.reaches(90 * time.Second)
		stop()
		w.calls(10)
		if !strings.Contains(w.logs.String(), "keeper") {
			w.Error("nothing was logged of it")
		}
	})
}

// Close ends a keeper, waits for what it exchanges, and gives up the leases of what has not begun.
func TestCloseWhileKeeping(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 10)
		w.seed(keys...)
		p := w.start("P", func(s *setup) { s.service.KeepRate = 10 })
		ended := make(chan error, 1)
		go func() { ended <- p.Keep(context.Background()) }()
		w.reaches(350 * time.Millisecond)
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		if err := <-ended; !errors.Is(err, credentials.ErrClosed) {
			w.Errorf("Keep returned %v", err)
		}
		saved := 0
		for _, key := range keys {
			c := w.row(key)
			if c.Lease.ID != "" || c.Interrupted.By != "" {
				w.Errorf("%s is left with %+v, %+v", key, c.Lease, c.Interrupted)
			}
			if !c.Token.IsZero() {
				saved++
			}
		}
		if calls := w.provider.record(); saved != len(calls) || saved == 0 || saved == len(keys) {
			w.Errorf("%d exchanges, %d saved", len(calls), saved)
		}
	})
}

func TestKeepBadInput(t *testing.T) {
	refresher := credentials.RefresherFunc(func(context.Context, credentials.Credential) (credentials.Grant, error) {
		return credentials.Grant{}, nil
	})
	for _, test := range []struct {
		service credentials.Service
		want    string
	}{
		{credentials.Service{RefreshAhead: -1}, "RefreshAhead is -1ns"},
		{credentials.Service{RefreshAhead: time.Hour, DefaultLifetime: time.Hour}, "due before it is issued"},
		{credentials.Service{KeepAlive: -time.Hour}, "KeepAlive is -1h0m0s"},
		{credentials.Service{KeepAlive: time.Second}, "KeepAlive is 1s"},
		{credentials.Service{KeepParallel: -1}, "KeepParallel is -1"},
		{credentials.Service{KeepRate: -1}, "KeepRate is -1"},
		{credentials.Service{KeepRate: math.NaN()}, "KeepRate is NaN"},
		{credentials.Service{KeepRate: math.Inf(1)}, "KeepRate is +Inf"},
	} {
		test.service.Refresher = refresher
		_, err := credentials.NewManager(memstore.New(), credentials.Services{"github": test.service}, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), `"github"`) {
			t.Errorf("got error %v; want one of %q about %q", err, "github", test.want)
		}
	}
}

// A service whose refresher is slow to be found keeps nobody else.
func TestKeepWithAFinderThatHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 5)...)
		w.seed(accounts("stuck", 5)...)
		find := credentials.ServicesFunc(func(ctx context.Context, name string) (credentials.Service, error) {
			if name == "stuck" {
				<-ctx.Done()
				return credentials.Service{}, ctx.Err()
			}
			return credentials.Service{Refresher: w.provider}, nil
		})
		m, err := credentials.NewManager(w.db, find, &credentials.Options{Logger: slog.New(slog.NewTextHandler(w.logs, nil))})
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		go func() { _ = m.Keep(ctx) }()
		w.reaches(2 * time.Second)
		w.calls(5)
		cancel()
		synctest.Wait()
		if err := m.Close(w.Context()); err != nil {
			w.Error(err)
		}
	})
}
