package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/forward"
)

// aways are the two ways in which a network takes a store away: connections are refused, or they
// hang.
var aways = []struct {
	name  string
	begin func(f *forward.Forwarder)
}{
	{"refused", (*forward.Forwarder).Refuse},
	{"cut off", (*forward.Forwarder).Cut},
}

// behindForwarder is a manager whose store is behind a forwarder, and keys of alice's service:
// fresh ones have a token that lives for an hour, and leased ones none, but a lease of somebody
// else's.
func behindForwarder(t *testing.T, s *server, fresh, leased int, options credentials.Options) (f *forward.Forwarder, direct *sql.DB, m *credentials.Manager, keys []credentials.Key) {
	t.Helper()
	neverBlockHosts(t, s)
	database := s.migrated(t)
	direct = s.open(t, database, interpolated)
	store := newStore(t, direct)
	for i := range fresh + leased {
		key := keyOf(fmt.Sprint("account ", i))
		keys = append(keys, key)
		if i < fresh {
			put(t, store, key,
				credentials.Grant{AccessToken: credentials.NewSecret("token"), Lifetime: time.Hour})
			continue
		}
		seed(t, store, key)
		claim(t, store, key)
	}
	f, err := forward.Start(s.config.Addr)
	must(t, err)
	t.Cleanup(f.Close)
	config := s.configFor(t, database, interpolated)
	config.Addr = f.Addr()
	db := openFor(t, config)
	options.Logger = slog.New(slog.DiscardHandler)
	m, err = credentials.NewManager(newStore(t, db), credentials.Services{alice.Service: {
		Refresher: credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
			return credentials.Grant{}, errors.New("nobody may present a refresh token")
		}),
	}}, &options)
	must(t, err)
	t.Cleanup(func() {
		f.Heal()
		succeeds(t, "Close", m.Close(bounded(t)))
	})
	return f, direct, m, keys
}

// TestStoreAwayIsNotStormed: a process with 200 cached tokens, whose callers have it look at each
// row again all the time, opens a few connections a second while the store is away, not one for
// each look. Every call is served from the cache.
func TestStoreAwayIsNotStormed(t *testing.T) {
	for _, away := range aways {
		t.Run(away.name, func(t *testing.T) {
			onOneServer(t, func(t *testing.T, s *server) {
				f, direct, m, keys := behindForwarder(t, s, 200, 0,
					credentials.Options{StoreTimeout: time.Second, Recheck: time.Millisecond})
				for _, key := range keys {
					must(t, errOf(m.Token(bounded(t), key)))
				}
				away.begin(f)
				var before int
				var began time.Time
				for calls := -2000; calls < 20_000; calls++ { // those that are under way at first find out each for itself
					if calls == 0 {
						before, began = f.Dials(), time.Now()
					}
					if token, err := m.Token(bounded(t), keys[(calls+2000)%len(keys)]); err != nil || token.Value.Reveal() != "token" {
						t.Fatalf("call %d: got %q, error %v; want the cached token",
							calls, token.Value.Reveal(), err)
					}
					if calls%10 == 0 {
						time.Sleep(2 * time.Millisecond) // a process that asks some thousands of times a second
					}
				}
				took := time.Since(began)
				dials := f.Dials() - before
				t.Logf("%d dials in %v: %.1f a second",
					dials, took.Round(time.Millisecond), float64(dials)/took.Seconds())
				if limit := 20 + int(5*took.Seconds()); dials > limit {
					t.Errorf("%d dials in %v, want %d at most", dials, took, limit)
				}

				f.Heal()
				replaced := newStore(t, direct)
				put(t, replaced, keys[0], credentials.Grant{AccessToken: credentials.NewSecret("another"), Lifetime: time.Hour})
				eventually(t, "the process to look at the rows again", func() bool {
					token, err := m.Token(bounded(t), keys[0])
					return err == nil && token.Value.Reveal() == "another"
				})
			})
		})
	}
}

// TestCallersLearnThatTheStoreIsAway: of callers without a token, those who wait for another holder
// are told, and those who come later are told at once, without each having to find out for itself.
func TestCallersLearnThatTheStoreIsAway(t *testing.T) {
	for _, away := range aways {
		t.Run(away.name, func(t *testing.T) {
			onOneServer(t, func(t *testing.T, s *server) {
				const waiters, later = 10, 100
				f, _, m, keys := behindForwarder(t, s, 0, waiters+later,
					credentials.Options{StoreTimeout: time.Second})
				answers := make(chan error, waiters)
				var waiting sync.WaitGroup
				for _, key := range keys[:waiters] {
					waiting.Go(func() {
						ctx := within(t, 2*patience)
						_, err := m.Token(ctx, key)
						answers <- err
					})
				}
				eventually(t, "the callers to wait", func() bool { return f.Dials() > 0 })
				time.Sleep(300 * time.Millisecond) // most have read the row by now; those who have not are told as well
				away.begin(f)
				began := time.Now()
				for range waiters {
					failsAs(t, "a waiter", receive(t, "an answer to a waiter", answers),
						credentials.ErrUnavailable)
				}
				waiting.Wait()
				t.Logf("the last of %d waiters was told after %v",
					waiters, time.Since(began).Round(time.Millisecond))
				if took := time.Since(began); took > soon {
					t.Errorf("the last waiter was told after %v, want %v at most", took, soon)
				}

				before := f.Dials()
				began = time.Now()
				for _, key := range keys[waiters:] {
					failsAs(t, "a caller", errOf(m.Token(bounded(t), key)),
						credentials.ErrUnavailable)
				}
				took, dials := time.Since(began), f.Dials()-before
				t.Logf("%d callers, one after the other, were told within %v and %d dials",
					later, took.Round(time.Millisecond), dials)
				if took > soon || dials > 40 {
					t.Errorf("%d callers took %v and %d dials; each found out for itself",
						later, took, dials)
				}
			})
		})
	}
}
