package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// keeps has the process keep until the test ends, or stop is called.
func (p *process) keeps() (stop func()) {
	ctx, cancel := context.WithCancel(p.w.Context())
	p.w.Cleanup(cancel)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.keeper.Run(ctx); err == nil {
			p.w.Error("Run returned nil")
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
		w.put(key, credentials.Grant{
			AccessToken: secret("put-" + key.Account), RefreshToken: secret("seed-" + key.String()), Lifetime: lifetime,
		})
	}
}

// renewals returns how many exchanges the processes' keepers made.
func renewals(processes []*process, service string) (n int) {
	for _, p := range processes {
		n += p.keeper.Stats()[service].Renewed
	}
	return n
}

// While somebody keeps, nothing expires, nobody waits, and each expiry costs one exchange, however
// many keep.
func TestKeep(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.Lifetime = time.Hour
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
			k := p.keeper.Stats()["github"]
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
			if n := p.keeper.Stats()["github"].Renewed; n == 0 {
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
		calls := w.presented(len(keys))
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
		w.presented(1)
		looks := p.store.Count(testkit.Get)
		p.ask(alice).is("access-alice-1")
		if n := p.store.Count(testkit.Get); n != looks {
			w.Errorf("the store was read for it")
		}
	})
}

// A service that one process does not know is left to those that do, and keeps nobody.
func TestKeepLeavesUnknownServices(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("another", 50)...)
		w.seed(accounts("github", 50)...)
		p := w.start("P")
		stop := p.keeps()
		w.reaches(30 * time.Second)
		stop()
		w.presented(50)
		for _, key := range accounts("another", 50) {
			if c := w.row(key); c.Version != 1 {
				w.Fatalf("%s was touched", key)
			}
		}
		if k := p.keeper.Stats()["another"]; !k.UnknownService || k.Renewed+k.Failed+k.Exchanging != 0 {
			w.Errorf("got %+v of the service that it does not know", k)
		}
		if kept, err := w.start("Q", w.everywhere).keeper.RunOnce(w.Context()); err != nil || kept["another"].Renewed != 50 {
			w.Errorf("got %+v, error %v", kept, err)
		}
	})
}

func TestRunOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 40)...)
		w.anHour(carol)
		dead := credentials.Key{Service: "github", Account: "dead"}
		w.seed(dead)
		w.provider.authorized(dead, "another")
		p := w.start("P")
		kept, err := p.keeper.RunOnce(w.Context())
		if want := map[string]credentials.KeeperStats{"github": {Renewed: 40, Dead: 1}}; err != nil || !maps.Equal(kept, want) {
			w.Errorf("got %+v, error %v; want %+v", kept, err, want)
		}
		w.presented(41)
		if kept, err := p.keeper.RunOnce(w.Context()); err != nil || len(kept) != 0 {
			w.Errorf("the second pass did %+v, error %v", kept, err)
		}
		w.reaches(56 * time.Minute)
		if kept, err := p.keeper.RunOnce(w.Context()); err != nil || kept["xero"].Renewed != 1 {
			w.Errorf("got %+v, error %v", kept, err)
		}
		if total := p.keeper.Stats(); total["github"].Dead != 1 || total["xero"].Renewed != 1 {
			w.Errorf("in all it counts %+v", total)
		}

		p.store.Down(true)
		if _, err := p.keeper.RunOnce(w.Context()); !errors.Is(err, credentials.ErrUnavailable) {
			w.Errorf("with the store down: got error %v", err)
		}
		p.store.Heal()
		ended, cancel := context.WithCancel(w.Context())
		cancel()
		w.reaches(2 * time.Hour)
		if _, err := p.keeper.RunOnce(ended); !errors.Is(err, context.Canceled) {
			w.Errorf("with its context ended: got error %v", err)
		}
		p.mustClose()
		if _, err := p.keeper.RunOnce(w.Context()); !errors.Is(err, credentials.ErrClosed) {
			w.Errorf("closed: got error %v", err)
		}
	})
}

// A claim whose reply was lost is found again: its leases do not lapse, and nothing counts as
// interrupted.
func TestKeepFindsClaimsWhoseReplyWasLost(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 10)
		w.seed(keys...)
		p := w.start("P", neverReplay)
		p.store.After(testkit.ClaimDue, testkit.Once(testkit.Refuse))
		stop := p.keeps()
		w.reaches(20 * time.Second)
		stop()
		w.presented(len(keys))
		for _, key := range keys {
			if c := w.row(key); c.State(credentials.Claim{}) != credentials.StateFresh {
				w.Errorf("%s: %+v", key, c.Failure)
			}
		}
	})
}

func TestKeepWhileTheStoreIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 10)...)
		p := w.start("P")
		p.store.Down(true)
		stop := p.keeps()
		w.reaches(time.Minute)
		if n := p.store.Count(testkit.DueServices); n < 4 || n > 60 {
			w.Errorf("the store was asked %d times in a minute", n)
		}
		p.store.Heal()
		w.reaches(90 * time.Second)
		stop()
		w.presented(10)
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
		go func() { ended <- p.keeper.Run(context.Background()) }()
		w.reaches(350 * time.Millisecond)
		p.mustClose()
		if err := <-ended; !errors.Is(err, credentials.ErrClosed) {
			w.Errorf("Run returned %v", err)
		}
		saved := 0
		for _, key := range keys {
			c := w.row(key)
			if c.Lease.ID != "" || c.Interrupted.By != "" {
				w.Errorf("%s is left with %+v, %+v", key, c.Lease, c.Interrupted)
			}
			if !c.AccessToken.IsZero() {
				saved++
			}
		}
		if calls := w.provider.record(); saved != len(calls) || saved == 0 || saved == len(keys) {
			w.Errorf("%d exchanges, %d saved", len(calls), saved)
		}
	})
}

// A service whose refresher is slow to be found keeps nobody else.
func TestKeepWithAFinderThatHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 5)...)
		w.seed(accounts("stuck", 5)...)
		stop := w.start("P", finding(func(ctx context.Context, name string) (credentials.Service, error) {
			if name == "stuck" {
				<-ctx.Done()
				return credentials.Service{}, ctx.Err()
			}
			return credentials.Service{Refresher: w.provider}, nil
		})).keeps()
		w.reaches(2 * time.Second)
		w.presented(5)
		stop()
	})
}

// Where the access token does not end, KeepAlive is what keeps an idle grant from ending.
func TestKeepAlive(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{RefreshToken: secret("seed")})
		w.provider.Lifetime = 365 * time.Hour
		p := w.start("P", func(s *setup) { s.service.KeepAlive = 20 * time.Hour })
		defer p.keeps()()
		w.reaches(101 * time.Hour)
		calls := w.presented(6) // at once, and every 20 hours
		for i := 1; i < len(calls); i++ {
			if idle := calls[i].Began.Sub(calls[i-1].Began); idle > 20*time.Hour+time.Minute {
				w.Errorf("the refresh token was idle for %v", idle)
			}
		}
	})
}

// A refresh token whose own end is known is presented before it, whatever the access token's life.
func TestRefreshTokenIsRenewedBeforeItsEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("put-alice"), RefreshToken: secret("seed"), RefreshLifetime: 10 * time.Hour})
		w.provider.Lifetime, w.provider.refreshLifetime = 90*time.Hour, 30*time.Hour
		p := w.start("P")
		defer p.keeps()()
		w.reaches(10*time.Hour - time.Minute)
		w.presented(1)
		w.reaches(40*time.Hour - 6*time.Minute)
		calls := w.presented(2)
		if life := calls[1].Began.Sub(calls[0].Began); life > 30*time.Hour-5*time.Minute+time.Minute || life < 30*time.Hour-6*time.Minute {
			w.Errorf("the second refresh token of 30 hours was presented after %v", life)
		}
	})
}

// One that the provider does not send again, nor an end with it, is no reason for another exchange.
func TestRefreshTokenThatKeepsItsEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("put-alice"), RefreshToken: secret("seed"), RefreshLifetime: 10 * time.Hour})
		w.provider.Lifetime, w.provider.Keep = 90*time.Hour, true
		p := w.start("P")
		defer p.keeps()()
		w.reaches(60 * time.Hour)
		w.presented(1)
	})
}
