//go:build unix

package integration_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// plight is a step at which the server goes away: what is to be seen then, and when it is back.
type plight struct {
	name          string
	open          *gate // what waits there goes on when the server is away; nil: nothing
	during, after func(t *testing.T)
}

// TestServerFaults has a server for itself. Killed, or fallen silent, at each step; turned read-only; out of
// connections: callers without a good token get ErrUnavailable soon; what the provider granted is saved when the server
// is back; no connection is lost from the pool.
func TestServerFaults(t *testing.T) {
	onPrivateServers(t, func(t *testing.T, s *private) {
		for _, outage := range []struct {
			name     string
			down, up func(t *testing.T)
		}{{"killed", s.kill, s.restart}, {"silent", s.silence, s.resume}} {
			t.Run(outage.name, func(t *testing.T) {
				plights := []plight{ // all in one outage, since a restart takes its time
					goneBeforeTheClaim(t, s.server), goneAtTheCommit(t, s.server), goneDuringTheExchange(t, s.server),
					goneAtTheSave(t, s.server), goneAtTheFailure(t, s.server), goneWhileCached(t, s.server),
				}
				outage.down(t)
				for _, p := range plights {
					if p.open != nil {
						close(p.open.open)
					}
				}
				for _, p := range slices.Backward(plights) {
					t.Run(p.name+", during it", p.during)
				}
				outage.up(t)
				for _, p := range plights {
					t.Run(p.name+", afterwards", p.after)
				}
			})
		}
		t.Run("read-only", func(t *testing.T) { readOnly(t, s.server) })
		t.Run("too many connections", func(t *testing.T) { tooManyConnections(t, s.server) })
	})
}

func goneBeforeTheClaim(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	m := st.manager(st.store, hurried)
	return plight{
		name:   "before the claim",
		during: func(t *testing.T) { _ = unavailable(t, "a caller", askSoon(t, m)) },
		after: func(t *testing.T) {
			st.kept(granted(t, "the next caller", token(t, m)))
			st.called(1)
			idle(t, st.db)
		},
	}
}

// goneAtTheCommit: nobody knows whether the claim was made. If it was, its process finds it, and need not wait until it
// ends.
func goneAtTheCommit(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	commit := newGate()
	db := s.openWire(t, st.database, "", &wire{statement: commit.holding(bounded(t), "COMMIT")})
	m := st.manager(newStore(t, db), credentials.Options{StoreTimeout: 3 * time.Second, Lease: time.Hour})
	first := askSoon(t, m)
	receive(t, "the claim's COMMIT", commit.arrived)
	return plight{
		name: "at the claim's COMMIT", open: commit,
		during: func(t *testing.T) {
			_ = unavailable(t, "the caller", first)
		},
		after: func(t *testing.T) {
			st.kept(granted(t, "the next caller", token(t, m)))
			st.called(1)
			idle(t, db)
		},
	}
}

func goneDuringTheExchange(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	presented := st.hold(0)
	m := st.manager(st.store, hurried)
	first := askSoon(t, m)
	receive(t, "the presentation", st.arrived)
	return plight{
		name: "during the exchange", open: presented,
		during: func(t *testing.T) {
			_ = unavailable(t, "the first caller", first)
			_ = unavailable(t, "another caller", askSoon(t, m))
		},
		after: func(t *testing.T) {
			rescued(t, st, m)
			idle(t, st.db)
		},
	}
}

func goneAtTheSave(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	save := newGate()
	db := s.openWire(t, st.database, "", &wire{statement: save.holding(bounded(t), beginsSave)})
	m := st.manager(newStore(t, db), hurried)
	first := askSoon(t, m)
	receive(t, "the save", save.arrived)
	return plight{
		name: "at the save", open: save,
		during: func(t *testing.T) {
			_ = unavailable(t, "the caller", first)
		},
		after: func(t *testing.T) {
			rescued(t, st, m)
			idle(t, db)
		},
	}
}

func goneAtTheFailure(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	st.p.Revoke(alice.Account)
	record := newGate()
	db := s.openWire(t, st.database, "", &wire{statement: record.holding(bounded(t), beginsFail)})
	m := st.manager(newStore(t, db), hurried)
	first := askSoon(t, m)
	receive(t, "the record of the failure", record.arrived)
	dead := func(t *testing.T, who string, a got) {
		if !errors.Is(a.err, credentials.ErrReauthRequired) {
			t.Errorf("%s got error %v, want ErrReauthRequired", who, a.err)
		}
	}
	return plight{
		name: "at the failure", open: record,
		during: func(t *testing.T) {
			dead(t, "the caller", receive(t, "an answer", first))
		},
		after: func(t *testing.T) {
			eventually(t, "the failure to be recorded", func() bool { return st.row().Failure.Class == credentials.Rejected })
			equal(t, "Lease.ID of the row", st.row().Lease.ID, "")
			dead(t, "the next caller", token(t, m))
			st.called(1)
			idle(t, db)
		},
	}
}

// goneWhileCached asks again and again: a token that has not expired is served (invariant 11), though it gets due and
// the process looks at the row all the time. One that has expired is not.
func goneWhileCached(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	m := st.manager(st.store, credentials.Options{StoreTimeout: time.Second, Recheck: 50 * time.Millisecond})
	cached := renewal("cached")
	cached.RefreshToken = credentials.NewSecret(st.p.Register(alice.Account))
	cached.DueIn, cached.Lifetime = 4*time.Second, patience // it outlives bob's, however slowly the server goes away
	if err := st.store.Save(bounded(t), claim(t, st.store, alice).Fence(), cached); err != nil {
		t.Fatal(err)
	}
	equal(t, "the token", granted(t, "the first caller", token(t, m)), "cached")
	bob := credentials.Key{Service: alice.Service, Account: "bob"}
	put(t, st.store, bob, credentials.Grant{
		Token: credentials.NewSecret("bob's"), RefreshToken: credentials.NewSecret(st.p.Register(bob.Account)), Lifetime: 5 * time.Second,
	})
	brief, err := m.Token(bounded(t), bob)
	equal(t, "bob's token", granted(t, "bob's first caller", got{brief, err}), "bob's")
	return plight{
		name: "while a token is cached",
		during: func(t *testing.T) {
			for served := 0; served < 10 || time.Now().Before(brief.Expiry); served++ { // alice's is due by then
				a := receive(t, "an answer", askSoon(t, m))
				if a.err != nil || a.token.Value.Reveal() != "cached" {
					t.Fatalf("served %d times, the token that has not expired: got %q, error %v", served, a.token.Value.Reveal(), a.err)
				}
				time.Sleep(time.Millisecond)
			}
			if token, err := m.Token(bounded(t), bob); !errors.Is(err, credentials.ErrUnavailable) {
				t.Errorf("the token that has expired: got %q, error %v, want ErrUnavailable", token.Value.Reveal(), err)
			}
		},
		after: func(t *testing.T) {
			eventually(t, "bob's caller to be served again", func() bool { _, err := m.Token(bounded(t), bob); return err == nil })
			eventually(t, "the token that is due to be renewed", func() bool { return granted(t, "a caller", token(t, m)) != "cached" })
			st.kept(granted(t, "the next caller", token(t, m)))
			st.called(2)
			idle(t, st.db)
		},
	}
}
