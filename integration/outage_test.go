package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// plight is a step at which the server goes away, and the consequences then and when it is back.
type plight struct {
	name          string
	db            *sql.DB
	open          *gate // opened when the server is away; nil: nothing waits
	during, after func(t *testing.T)
}

// TestServerFaults has a server for itself, which is killed or falls silent at each step, turns
// read-only, and is out of connections. Callers without a good token get ErrUnavailable soon; a
// grant that the provider made is saved when the server is back; no connection is lost from the
// pool.
func TestServerFaults(t *testing.T) {
	onPrivateServers(t, func(t *testing.T, s *private) {
		for _, outage := range []struct {
			name     string
			down, up func(t *testing.T)
		}{{"killed", s.kill, s.restart}, {"silent", s.silence, s.resume}} {
			t.Run(outage.name, func(t *testing.T) {
				plights := []plight{ // all in one outage, since a restart takes its time
					goneBeforeTheClaim(t, s.server), goneAtTheCommit(t,
						s.server), goneDuringTheExchange(t, s.server),
					goneAtTheSave(t, s.server), goneAtTheFailure(t, s.server), goneWhileCached(t,
						s.server),
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
					t.Run(p.name+", afterwards", func(t *testing.T) {
						p.after(t)
						idle(t, p.db)
					})
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
		name: "before the claim", db: st.db,
		during: func(t *testing.T) { _ = unavailable(t, "a caller", askSoon(t, m)) },
		after: func(t *testing.T) {
			st.kept(granted(t, "the next caller", token(t, m)))
			st.called(1)
		},
	}
}

// held has a caller ask, and holds the first statement with that prefix on its way to the server.
func (st *stage) held(t *testing.T, prefix string, options credentials.Options) (plight, *credentials.Manager, <-chan got) {
	g := newGate()
	db := st.s.openWire(t, st.database, "", &wire{statement: g.holding(bounded(t), prefix)})
	m := st.manager(newStore(t, db), options)
	first := askSoon(t, m)
	receive(t, "the statement", g.arrived)
	return plight{db: db, open: g}, m, first
}

// goneAtTheCommit: nobody knows whether the claim was made. If it was, its process finds it, and
// need not wait until it ends.
func goneAtTheCommit(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	p, m, first := st.held(t, "COMMIT",
		credentials.Options{StoreTimeout: 3 * time.Second, Lease: time.Hour})
	p.name = "at the claim's COMMIT"
	p.during = func(t *testing.T) { _ = unavailable(t, "the caller", first) }
	p.after = func(t *testing.T) {
		st.kept(granted(t, "the next caller", token(t, m)))
		st.called(1)
	}
	return p
}

func goneDuringTheExchange(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	presented := st.hold(0)
	m := st.manager(st.store, hurried)
	first := askSoon(t, m)
	receive(t, "the presentation", st.arrived)
	return plight{
		name: "during the exchange", db: st.db, open: presented,
		during: func(t *testing.T) {
			_ = unavailable(t, "the first caller", first)
			_ = unavailable(t, "another caller", askSoon(t, m))
		},
		after: func(t *testing.T) { rescued(t, st, m) },
	}
}

func goneAtTheSave(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	p, m, first := st.held(t, beginsSave, hurried)
	p.name = "at the save"
	p.during = func(t *testing.T) { _ = unavailable(t, "the caller", first) }
	p.after = func(t *testing.T) { rescued(t, st, m) }
	return p
}

func goneAtTheFailure(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	st.p.Revoke(alice.Account)
	p, m, first := st.held(t, beginsFail, hurried)
	p.name = "at the failure"
	p.during = func(t *testing.T) {
		failsAs(t, "the caller", receive(t, "an answer", first).err, credentials.ErrGrantDead)
	}
	p.after = func(t *testing.T) {
		eventually(t, "the failure to be recorded", func() bool {
			return st.row().Failure.Class == credentials.ClassDead
		})
		equal(t, "Lease.ID of the row", st.row().Lease.ID, "")
		failsAs(t, "the next caller", token(t, m).err, credentials.ErrGrantDead)
		st.called(1)
	}
	return p
}

// goneWhileCached asks again and again: a token that has not expired is served (invariant 11),
// though it gets due and the process looks at the row all the time. One that has expired is not.
func goneWhileCached(t *testing.T, s *server) plight {
	st := newStage(t, s, provider.Options{})
	m := st.manager(st.store,
		credentials.Options{StoreTimeout: time.Second, Recheck: 50 * time.Millisecond})
	cached := renewal("cached")
	cached.RefreshToken = credentials.NewSecret(st.p.Register(alice.Account))
	cached.DueIn, cached.Lifetime = 4*time.Second, patience // it outlives bob's, however slowly the server goes away
	must(t, st.store.Save(bounded(t), claim(t, st.store, alice).Fence(), cached))
	equal(t, "the token", granted(t, "the first caller", token(t, m)), "cached")
	bob := keyOf("bob")
	put(t, st.store, bob, credentials.Grant{
		AccessToken:  credentials.NewSecret("bob's"),
		RefreshToken: credentials.NewSecret(st.p.Register(bob.Account)),
		Lifetime:     5 * time.Second,
	})
	brief, err := m.Token(bounded(t), bob)
	equal(t, "bob's token", granted(t, "bob's first caller", got{brief, err}), "bob's")
	return plight{
		name: "while a token is cached", db: st.db,
		during: func(t *testing.T) {
			for served := 0; served < 10 || time.Now().Before(brief.Expiry); served++ { // alice's is due by then
				a := receive(t, "an answer", askSoon(t, m))
				if a.err != nil || a.token.Value.Reveal() != "cached" {
					t.Fatalf("served %d times, the token that has not expired: got %q, error %v",
						served, a.token.Value.Reveal(), a.err)
				}
				time.Sleep(time.Millisecond)
			}
			if token, err := m.Token(bounded(t), bob); !errors.Is(err, credentials.ErrUnavailable) {
				t.Errorf("the token that has expired: got %q, error %v, want ErrUnavailable",
					token.Value.Reveal(), err)
			}
		},
		after: func(t *testing.T) {
			eventually(t, "bob's caller to be served again", func() bool {
				_, err := m.Token(bounded(t), bob)
				return err == nil
			})
			eventually(t, "the token that is due to be renewed", func() bool {
				return granted(t, "a caller", token(t, m)) != "cached"
			})
			st.kept(granted(t, "the next caller", token(t, m)))
			st.called(2)
		},
	}
}

// openAs returns a pool of an account that may use the stage's table and has no privilege beside:
// read_only and max_connections do not bind administrators.
func (st *stage) openAs(t *testing.T, user string) *sql.DB {
	t.Helper()
	st.s.createUser(t, user, st.password(), "SELECT, INSERT, UPDATE, DELETE ON `"+st.database+"`.*")
	return st.s.openAs(t, st.database, user, st.password())
}

func (st *stage) password() string { return "Pw-" + st.database }

// readOnly (1290): the server has become a replica, as after a fail-over that the host's DSN does
// not follow. Tokens that are good are read; no other caller waits for long; a grant that is under
// way is saved when writes are possible.
func readOnly(t *testing.T, s *server) {
	// Long enough for a try that meets 1290, on a machine where a new connection takes seconds.
	patient := credentials.Options{StoreTimeout: 10 * time.Second}
	st := newStage(t, s, provider.Options{})
	db := st.openAs(t, "reader")
	presented := st.hold(0)
	exchanging := st.manager(newStore(t, db), patient)
	first := askSoon(t, exchanging)
	receive(t, "the presentation", st.arrived)
	bob := keyOf("bob")
	carol := keyOf("carol")
	put(t, st.store, bob, renewal("bob's").Grant)
	put(t, st.store, carol, refreshToken(st.p.Register(carol.Account)))

	setReadOnly(t, s, true)
	t.Cleanup(func() { setReadOnly(t, s, false) })
	close(presented.open)
	m := st.manager(newStore(t, db), patient)
	if token, err := m.Token(bounded(t), bob); err != nil || token.Value.Reveal() != "bob's" {
		t.Errorf("a good token on a read-only server: got %q, error %v", token.Value.Reveal(), err)
	}
	refusal := make(chan got, 1)
	refusal <- got{err: errOf(m.Token(within(t, soon), carol))}
	for who, answers := range map[string]<-chan got{"a caller of a claim": refusal, "a caller of a save": first} {
		if err := unavailable(t, who, answers); err != nil &&
			!strings.Contains(err.Error(), "read") {
			t.Errorf("%s: the error does not say why: %v", who, err)
		}
	}
	st.called(1)

	setReadOnly(t, s, false)
	rescued(t, st, exchanging)
	succeeds(t, "a claim after the server can be written to", errOf(m.Token(bounded(t), carol)))
	idle(t, db)
}

// tooManyConnections (1040): others have taken all of the server's.
func tooManyConnections(t *testing.T, s *server) {
	st := newStage(t, s, provider.Options{})
	db := st.openAs(t, "crowd")
	db.SetMaxIdleConns(0) // each call needs a new one
	m := st.manager(newStore(t, db), hurried)
	bob := keyOf("bob")
	put(t, st.store, bob, renewal("bob's").Grant)
	must(t, errOf(m.Token(bounded(t), bob)))
	presented := st.hold(0)
	exchanging := st.manager(newStore(t, db), hurried)
	first := askSoon(t, exchanging)
	receive(t, "the presentation", st.arrived)

	before := query[int](t, s.admin, "SELECT @@GLOBAL.max_connections")
	execute(t, s.admin, "SET GLOBAL max_connections = 10")
	t.Cleanup(func() { execute(t, s.admin, "SET GLOBAL max_connections = ?", before) })
	taken := s.openAs(t, st.database, "crowd", st.password())
	var connections []*sql.Conn
	for full := false; !full; {
		connection, err := taken.Conn(bounded(t))
		switch {
		case err == nil:
			connections = append(connections, connection)
		case !strings.Contains(err.Error(), "1040"):
			t.Fatal(err)
		default: // unless a connection of the managers is about to end, and make room
			full = query[int](t, s.admin, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'crowd'") ==
				len(connections)
		}
	}
	close(presented.open)
	for who, answers := range map[string]<-chan got{"a caller who reads": askSoon(t, m), "a caller of a save": first} {
		if err := unavailable(t, who, answers); err != nil &&
			!strings.Contains(err.Error(), "1040") {
			t.Errorf("%s: the error does not say why: %v", who, err)
		}
	}
	if token, err := m.Token(bounded(t), bob); err != nil || token.Value.Reveal() != "bob's" {
		t.Errorf("a cached token: got %q, error %v", token.Value.Reveal(), err)
	}
	for _, connection := range connections {
		_ = connection.Close()
	}
	_ = taken.Close()
	rescued(t, st, exchanging)
	idle(t, db)
}

// TestFrozenServerKeepsNoConnection: a server that answers nothing, on connections that stay open,
// costs each call its own time and no more: no connection of the pool is in use when they have
// ended, and no goroutine waits for the server.
func TestFrozenServerKeepsNoConnection(t *testing.T) {
	t.Parallel()
	must(t, errOf(localmysql.Find()))
	const pool, callers = 4, 16
	s := startPrivate(t, "private")
	db := s.open(t, s.migrated(t), interpolated)
	db.SetMaxOpenConns(pool)
	store := newStore(t, db)
	put(t, store, alice, renewal("token").Grant)
	s.silence(t)
	defer s.resume(t)
	var calls sync.WaitGroup
	for range callers {
		calls.Go(func() {
			for range 3 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				began := time.Now()
				_, err := store.Get(ctx, alice)
				cancel()
				if took := time.Since(began); !errors.Is(err, credentials.ErrUnavailable) ||
					took > 5*time.Second {
					t.Errorf("after %v: got error %v, want ErrUnavailable after 1s", took, err)
				}
			}
		})
	}
	calls.Wait()
	eventuallyWithin(t, 5*time.Second, func() bool { return db.Stats().OpenConnections == 0 })
	if n := db.Stats().OpenConnections; n > 0 {
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "go-sql-driver") {
				t.Log(stack)
			}
		}
		t.Errorf("%d connections of the pool are kept: %+v", n, db.Stats())
	}
}

// eventuallyWithin waits for ok, for no longer than that.
func eventuallyWithin(t *testing.T, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}
