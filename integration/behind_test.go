package integration_test

import (
	"context"
	"database/sql"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// result is a call that ends a claim.
type result struct {
	name   string
	unseen bool // the call misses where the row is there without the claim
	call   func(ctx context.Context, store *latchkey.Store, f credentials.Fence) error
	done   func(c credentials.Credential) bool
}

var results = []result{
	{
		"save", false,
		func(ctx context.Context, store *latchkey.Store, f credentials.Fence) error {
			return store.Save(ctx, f, renewal("new"))
		},
		func(c credentials.Credential) bool { return c.AccessToken.Reveal() == "new" },
	},
	{
		"failure", true,
		func(ctx context.Context, store *latchkey.Store, f credentials.Fence) error {
			return store.Fail(ctx, f, failure())
		},
		func(c credentials.Credential) bool { return c.Failure.Count == 1 && c.Lease.ID == "" },
	},
	{
		"release", true,
		func(ctx context.Context, store *latchkey.Store, f credentials.Fence) error {
			return store.Release(ctx, f)
		},
		func(c credentials.Credential) bool { return c.Failure.Count == 0 && c.Lease.ID == "" },
	},
}

// TestServerThatIsBehind: the pool leads to a server that has not applied the claim yet, or not
// even the row, as one of several primaries or one that was just promoted. The result of the
// exchange is not taken for superseded, nor the credential for deleted: the call is tried again, on
// other connections.
func TestServerThatIsBehind(t *testing.T) {
	t.Parallel()
	for _, kind := range requirePrivate(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := holdBack(t, kind)
			for _, result := range results {
				t.Run(result.name+" without the row", func(t *testing.T) {
					h.hold(t)
					seed(t, h.store, alice)
					h.reaches(t, result, claim(t, h.store, alice).Fence())
					h.forget(t)
				})
				if !result.unseen {
					continue // it is stored without the claim
				}
				t.Run(result.name+" without the claim", func(t *testing.T) {
					seed(t, h.store, alice)
					h.settle(t)
					h.hold(t)
					fence := claim(t, h.store, alice).Fence()
					h.reaches(t, result, fence)

					// Where every connection leads to the server that is behind, the outcome stays
					// open.
					err := result.call(within(t, time.Second), newStore(t, h.open(t, -1)), fence)
					failsAs(t, "with a server that stays behind", err, credentials.ErrUnavailable)
					h.forget(t)
				})
			}
			t.Run("it catches up within the call", func(t *testing.T) {
				h.hold(t)
				seed(t, h.store, alice)
				c := claim(t, h.store, alice)
				db, dialed := h.open(t, -1), h.dials.Load()
				ended := start(func() error {
					return newStore(t, db).Release(bounded(t), c.Fence())
				})
				eventually(t, "the release to be tried again", func() bool {
					return h.dials.Load() > dialed+1
				})
				h.goOn(t)
				succeeds(t, "Release", receive(t, "the release", ended))
				equal(t, "the lease in that server's row", get(t, newStore(t, db), alice).Lease.ID,
					"")
				h.forget(t)
			})
		})
	}
}

// reaches makes the call with a pool whose first two connections lead to the replica.
func (h *heldBack) reaches(t *testing.T, r result, fence credentials.Fence) {
	t.Helper()
	succeeds(t, r.name, r.call(bounded(t), newStore(t, h.open(t, 2)), fence))
	equal(t, "it is in the source's row", r.done(get(t, h.store, alice)), true)
}

// heldBack is a source and a replica of it that can be held back: it then applies nothing. It takes
// writes.
type heldBack struct {
	*pair

	store *latchkey.Store // on the source
	dials atomic.Int32    // of all pools that open returned
}

func holdBack(t *testing.T, kind string) *heldBack {
	t.Helper()
	p := startPair(t, kind)
	setReadOnly(t, p.standby.server, false)
	p.settle(t)
	return &heldBack{pair: p, store: newStore(t, p.primary.open(t, pairDatabase, interpolated))}
}

// open returns a pool whose first connections, all for -1, lead to the replica, and the others to
// the source.
func (h *heldBack) open(t *testing.T, toReplica int) *sql.DB {
	t.Helper()
	config := h.primary.configFor(t, pairDatabase, interpolated)
	config.User, config.Passwd = "app", h.password
	var dialed atomic.Int32
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		h.dials.Add(1)
		addr := h.primary.config.Addr
		if n := int(dialed.Add(1)); toReplica < 0 || n <= toReplica {
			addr = h.standby.config.Addr
		}
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, addr)
	}
	return openFor(t, config)
}

func (h *heldBack) hold(t *testing.T) { replication(t, h.standby, "STOP REPLICA SQL_THREAD") }
func (h *heldBack) goOn(t *testing.T) { replication(t, h.standby, "START REPLICA SQL_THREAD") }

// forget ends a test: the credential is gone on both servers.
func (h *heldBack) forget(t *testing.T) {
	t.Helper()
	h.goOn(t)
	must(t, h.store.Delete(bounded(t), alice))
	h.settle(t)
}

// TestSaveReachesThePromotedServer: the host's pool has connections through a forwarder to A. While
// an exchange is under way A is demoted, becomes read-only and keeps its connections open, or falls
// silent; B, which has the same rows, is promoted, and new connections lead there. The save reaches
// B within the time of one call, though each connection that the pool has leads to A.
func TestSaveReachesThePromotedServer(t *testing.T) {
	const idleConnections = 12
	for _, test := range []struct {
		name   string
		demote func(t *testing.T, a *private)
	}{
		{"read-only", func(t *testing.T, a *private) { setReadOnly(t, a.server, true) }},
		{"silent", func(t *testing.T, a *private) {
			a.silence(t)
			t.Cleanup(func() { a.resume(t) })
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := startPrivate(t, "private"), startPrivate(t, "private")
			st := newStage(t, a.server, provider.Options{})
			onB := copyOf(t, st, b)
			for _, s := range []*private{a, b} {
				s.createUser(t, "app", "pw",
					"SELECT, INSERT, UPDATE, DELETE ON `"+st.database+"`.*")
			}
			f := forwardTo(t, a.config.Addr)
			config := a.configFor(t, st.database, interpolated)
			config.User, config.Passwd, config.Addr = "app", "pw", f.Addr()
			db := openFor(t, config)
			store := newStore(t, db)
			presented := st.hold(0)
			first := ask(bounded(t), st.manager(store, credentials.Options{}), 1)
			receive(t, "the presentation", st.arrived)
			fill(t, db, idleConnections)

			copyRow(t, st.db, onB)
			test.demote(t, a)
			f.To(b.config.Addr)
			close(presented.open)
			token := granted(t, "the caller", receive(t, "an answer", first))
			c := get(t, newStore(t, onB), alice)
			equal(t, "the token in B's row", c.AccessToken.Reveal(), token)
			equal(t, "the newest refresh token is in B's row",
				st.p.Current(alice.Account, c.RefreshToken.Reveal()), true)
			st.called(1)
			equal(t, "the version in a read after the save", get(t, store, alice).Version,
				c.Version)
		})
	}
}

// copyOf makes the stage's table on another server too.
func copyOf(t *testing.T, st *stage, s *private) *sql.DB {
	t.Helper()
	execute(t, s.admin, "CREATE DATABASE `"+st.database+"`")
	db := s.open(t, st.database, interpolated)
	migrate(t, db, nil)
	return db
}

// copyRow copies the table's one row, as replication would have.
func copyRow(t *testing.T, from, to *sql.DB) {
	t.Helper()
	var columns []string
	var values []any
	for column, value := range rowsOf(t, from, "SELECT * FROM credentials")[0] {
		columns, values = append(columns, "`"+column+"`"), append(values, value)
	}
	execute(t, to, "INSERT INTO credentials ("+strings.Join(columns, ", ")+") VALUES (?"+
		strings.Repeat(", ?", len(columns)-1)+")", values...)
}

// fill has the pool keep that many idle connections.
func fill(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	var together, done sync.WaitGroup
	together.Add(n)
	ctx := bounded(t)
	for range n {
		done.Go(func() {
			conn, err := db.Conn(ctx)
			together.Done()
			together.Wait()
			if err == nil {
				err = conn.Close()
			}
			succeeds(t, "a connection", err)
		})
	}
	done.Wait()
	equal(t, "idle connections", db.Stats().Idle >= n, true)
}
