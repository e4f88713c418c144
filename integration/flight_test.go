package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// endpoint starts a token endpoint, authorizes alice and stores her refresh token.
func endpoint(t *testing.T, store *latchkey.Store, options provider.Options) (*provider.Provider, credentials.Refresher) {
	t.Helper()
	p := provider.New(options)
	served, err := provider.Start("", p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = served.Close() })
	put(t, store, alice, credentials.Grant{RefreshToken: credentials.NewSecret(p.Register(alice.Account))})
	return p, refresherAt(served.TokenURL())
}

// got is what a caller got.
type got struct {
	token credentials.Token
	err   error
}

// ask has n callers ask for alice's token at once.
func ask(ctx context.Context, m *credentials.Manager, n int) <-chan got {
	answers := make(chan got, n)
	for range n {
		go func() {
			token, err := m.Token(ctx, credentials.Key{Service: " GitHub ", Account: "alice "})
			answers <- got{token, err}
		}()
	}
	return answers
}

// pollsOf waits until the manager behind w has looked at the row n times more.
func pollsOf(t *testing.T, w *wire, n int) {
	t.Helper()
	before := w.count(beginsVersions)
	eventually(t, "the other process to look at the row", func() bool { return w.count(beginsVersions) >= before+n })
}

// TestCommitFirst (invariant 3) holds the save on its way to the server. The provider has answered, but nobody has the
// token: no caller in the process that exchanged, none in the other one, and not the row.
func TestCommitFirst(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		database := s.migrated(t)
		save := newGate()
		holderWire, waiterWire := &wire{statement: save.holding(ctx, beginsSave)}, &wire{}
		store := newStore(t, s.openWire(t, database, "", holderWire))
		p, refresher := endpoint(t, store, provider.Options{})
		holder := newManager(t, store, refresher)
		waiter := newManager(t, newStore(t, s.openWire(t, database, "", waiterWire)), refresher)

		const n = 4
		first := ask(ctx, holder, n)
		receive(t, "the save", save.arrived)
		second := ask(ctx, waiter, n)
		pollsOf(t, waiterWire, 3)
		select {
		case <-first:
			t.Error("a caller of the process that exchanged has the token before it is committed")
		case <-second:
			t.Error("a caller of the other process has an answer before the token is committed")
		default:
		}
		equal(t, "the token in the row", get(t, store, alice).Token.Reveal(), "")
		close(save.open)

		answers := make([]got, 0, 2*n)
		for range n {
			answers = append(answers, receive(t, "an answer", first), receive(t, "an answer", second))
		}
		stored := get(t, store, alice).Token.Reveal()
		for _, a := range answers {
			if a.err != nil || a.token.Value.Reveal() != stored || stored == "" {
				t.Errorf("a caller got %q, error %v, want the row's %q", a.token.Value.Reveal(), a.err, stored)
			}
		}
		equal(t, "calls of the endpoint", p.Stats().Calls, 1)
	})
}

// TestRealExpiry: the same manager serves a token until it expires, by the server's clock and by its own, and renews it
// then.
func TestRealExpiry(t *testing.T) {
	const lifetime = 2 * time.Second
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		store, _ := s.store(t, "")
		p, refresher := endpoint(t, store, provider.Options{Lifetime: lifetime})
		m := newManager(t, store, refresher)
		seen := make(map[string]bool)
		var token credentials.Token
		for expiry := range 3 {
			if expiry > 0 {
				eventually(t, "the token to expire", func() bool { return get(t, store, alice).ExpiresIn <= 0 && time.Now().After(token.Expiry) })
			}
			var err error
			token, err = m.Token(ctx, alice)
			if err != nil {
				t.Fatal(err)
			}
			if seen[token.Value.Reveal()] {
				t.Fatalf("after %d expiries: got the token of before again", expiry)
			}
			seen[token.Value.Reveal()] = true
			if left := time.Until(token.Expiry); left <= 0 || left > lifetime {
				t.Errorf("Expiry: got %v from now, want up to %v", left, lifetime)
			}
			equal(t, "calls of the endpoint", p.Stats().Calls, expiry+1)
		}
		equal(t, "refresh tokens presented twice", p.Stats().Duplicates+p.Stats().Replays, 0)
	})
}

// TestFailureReachesAll (invariants 9 and 10): the grant dies while callers of two processes wait, and every one of them
// learns of it, as the same typed error; the endpoint is called once, then and afterwards.
func TestFailureReachesAll(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		database := s.migrated(t)
		presented := newGate()
		store := newStore(t, s.open(t, database, ""))
		p, refresher := endpoint(t, store, provider.Options{OnPresentation: func(provider.Presentation) { presented.hold(ctx) }})
		p.Revoke(alice.Account)
		waiterWire := &wire{}
		holder := newManager(t, store, refresher)
		waiter := newManager(t, newStore(t, s.openWire(t, database, "", waiterWire)), refresher)

		const n = 4
		first := ask(ctx, holder, n)
		receive(t, "the presentation", presented.arrived)
		second := ask(ctx, waiter, n)
		pollsOf(t, waiterWire, 1)
		close(presented.open)
		for range n {
			for _, a := range []got{receive(t, "an answer", first), receive(t, "an answer", second)} {
				var failed *credentials.RefreshError
				if !errors.As(a.err, &failed) || !errors.Is(a.err, credentials.ErrReauthRequired) {
					t.Errorf("a caller got error %v, want ErrReauthRequired", a.err)
					continue
				}
				equal(t, "Code", failed.Code, "invalid_grant")
				equal(t, "Key", failed.Key, alice)
			}
		}
		for _, m := range []*credentials.Manager{holder, waiter} {
			if _, err := m.Token(ctx, alice); !errors.Is(err, credentials.ErrReauthRequired) {
				t.Errorf("afterwards: got error %v, want ErrReauthRequired", err)
			}
		}
		equal(t, "calls of the endpoint", p.Stats().Calls, 1)
	})
}

// TestPutDuringExchange: a person stores a new grant while the old one is being exchanged. The exchange's result is
// dropped, and the callers get the new grant's token.
func TestPutDuringExchange(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		store, _ := s.store(t, "")
		presented := newGate()
		p, refresher := endpoint(t, store, provider.Options{OnPresentation: func(provider.Presentation) { presented.hold(ctx) }})
		m := newManager(t, store, refresher)
		answers := ask(ctx, m, 4)
		receive(t, "the presentation", presented.arrived)
		put(t, store, alice, renewal("put").Grant)
		close(presented.open)
		for range 4 {
			a := receive(t, "an answer", answers)
			if a.err != nil || a.token.Value.Reveal() != "put" {
				t.Errorf("a caller got %q, error %v, want the token that was put", a.token.Value.Reveal(), a.err)
			}
		}
		c := get(t, store, alice)
		equal(t, "the refresh token in the row", c.RefreshToken.Reveal(), renewal("put").RefreshToken.Reveal())
		equal(t, "calls of the endpoint", p.Stats().Calls, 1)
	})
}

// TestCallerLeaves (invariant 7): the caller that started an exchange gives up. The exchange ends and is saved all the
// same, and the next caller gets its token without a call.
func TestCallerLeaves(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, "")
		presented := newGate()
		p, refresher := endpoint(t, store, provider.Options{OnPresentation: func(provider.Presentation) { presented.hold(bounded(t)) }})
		m := newManager(t, store, refresher)
		ctx, leave := context.WithCancel(bounded(t))
		answers := ask(ctx, m, 1)
		receive(t, "the presentation", presented.arrived)
		leave()
		if a := receive(t, "the caller to leave", answers); !errors.Is(a.err, context.Canceled) {
			t.Errorf("the caller that left got error %v, want context.Canceled", a.err)
		}
		close(presented.open)
		token, err := m.Token(bounded(t), alice)
		if err != nil || token.Value.IsZero() {
			t.Errorf("the next caller: got error %v", err)
		}
		equal(t, "calls of the endpoint", p.Stats().Calls, 1)
	})
}
