package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// stage is what a fault happens on: a table with alice's refresh token, and a token endpoint that
// the test can hold.
type stage struct {
	t        *testing.T
	s        *server
	database string
	db       *sql.DB // of store
	store    *latchkey.Store
	replay   credentials.Replay // of managers

	p       *provider.Provider
	url     string
	arrived chan provider.Presentation // receives each presentation when it arrives

	mu    sync.Mutex    // guards what follows
	calls int           // presentations that arrived
	gates map[int]*gate // where presentation n waits
}

// onOneServer runs the test on one of the servers: by its name, so that a run with several servers
// has each see its share of tests that wait for leases to end.
func onOneServer(t *testing.T, test func(t *testing.T, s *server)) {
	t.Parallel()
	sum := 0
	for _, b := range []byte(t.Name()) {
		sum += int(b)
	}
	s := servers[sum%len(servers)]
	t.Run(s.product(), func(t *testing.T) { test(t, s) })
}

// newStage also watches invariant 2: that at each presentation the row has a lease that has not
// ended.
func newStage(t *testing.T, s *server, options provider.Options) *stage {
	t.Helper()
	st := &stage{t: t, s: s, database: s.migrated(t),
		arrived: make(chan provider.Presentation, 1000), gates: make(map[int]*gate)}
	st.db = s.open(t, st.database, interpolated)
	st.store = newStore(t, st.db)
	options.OnPresentation = st.presented
	st.p = provider.New(options)
	served, err := provider.Start("", st.p)
	must(t, err)
	t.Cleanup(func() { _ = served.Close() })
	st.url = served.TokenURL()
	st.authorize()
	return st
}

// authorize has a person authorize alice, anew if need be, and puts the grant.
func (st *stage) authorize() {
	st.t.Helper()
	put(st.t, st.store, alice, refreshToken(st.p.Register(alice.Account)))
}

// hold has presentation n, counted from 0, wait until the gate is opened.
func (st *stage) hold(n int) *gate {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gates[n] = newGate()
	return st.gates[n]
}

func (st *stage) presented(p provider.Presentation) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	leased := 0
	err := st.db.QueryRowContext(ctx,
		"SELECT COUNT(*) FROM credentials WHERE account_name = ? AND lease_end > UTC_TIMESTAMP(6)",
		p.Account).Scan(&leased)
	if err != nil || leased != 1 {
		st.t.Errorf("%s: a refresh token was presented under %d leases that have not ended (%v), want 1", p.Account, leased, err)
	}
	st.mu.Lock()
	g := st.gates[st.calls]
	st.calls++
	st.mu.Unlock()
	st.arrived <- p
	if g != nil {
		g.hold(ctx)
	}
}

// manager returns one on that store.
func (st *stage) manager(store credentials.Store, options credentials.Options) *credentials.Manager {
	st.t.Helper()
	options.Logger = slog.New(slog.DiscardHandler) // it tells of faults that are made on purpose
	m, err := credentials.NewManager(store, credentials.Services{
		alice.Service: {Refresher: refresherAt(st.url), Replay: st.replay},
	}, &options)
	must(st.t, err)
	st.t.Cleanup(func() {
		succeeds(st.t, "Close", m.Close(bounded(st.t)))
	})
	return m
}

// managerBehind returns a manager whose store is behind that network.
func (st *stage) managerBehind(w *wire, options credentials.Options) *credentials.Manager {
	st.t.Helper()
	return st.manager(newStore(st.t, st.s.openWire(st.t, st.database, "", w)), options)
}

// row is alice's.
func (st *stage) row() credentials.Credential {
	st.t.Helper()
	return get(st.t, st.store, alice)
}

// leaseEnds waits until the lease that alice's row has is over.
func (st *stage) leaseEnds() {
	st.t.Helper()
	eventually(st.t, "the lease to end", func() bool { return !st.row().Lease.Live() })
}

// kept fails the test unless the row has that token, and beside it the newest refresh token of a
// living grant.
func (st *stage) kept(token string) {
	st.t.Helper()
	c := st.row()
	equal(st.t, "the token in the row", c.AccessToken.Reveal(), token)
	equal(st.t, "the newest refresh token is in the row",
		st.p.Current(alice.Account, c.RefreshToken.Reveal()), true)
	equal(st.t, "Failure.Class of the row", c.Failure.Class, "")
	equal(st.t, "Interrupted.By of the row", c.Interrupted.By, "")
}

// called fails the test unless the endpoint was called n times.
func (st *stage) called(n int) {
	st.t.Helper()
	equal(st.t, "calls of the endpoint", st.p.Stats().Calls, n)
}

func refresherAt(url string) credentials.Refresher {
	return oauth2refresh.New(oauth2.Config{
		ClientID: "app",
		Endpoint: oauth2.Endpoint{TokenURL: url, AuthStyle: oauth2.AuthStyleInParams},
	})
}

// granted fails the test unless the caller got a token, which it returns.
func granted(t testing.TB, who string, a got) string {
	t.Helper()
	if a.err != nil || a.token.Value.IsZero() {
		t.Errorf("%s: got the token %q, error %v", who, a.token.Value.Reveal(), a.err)
	}
	return a.token.Value.Reveal()
}

// token asks, and asks again while the process has not noticed that the store is back.
func token(t testing.TB, m *credentials.Manager) (a got) {
	t.Helper()
	eventually(t, "the process to know that the store is back", func() bool {
		a.token, a.err = m.Token(bounded(t), alice)
		return !errors.Is(a.err, credentials.ErrUnavailable)
	})
	return a
}

// soon is when a caller must have its error, whose store has a second to answer.
const soon = 25 * time.Second

// hurried are options under which callers learn soon that the store is gone.
var hurried = credentials.Options{StoreTimeout: time.Second}

// askSoon has one caller ask who must have an answer soon.
func askSoon(t *testing.T, m *credentials.Manager) <-chan got {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ask(ctx, m, 1)
}

// unavailable fails the test unless the caller got ErrUnavailable, and not because its own time was
// over.
func unavailable(t *testing.T, who string, answers <-chan got) error {
	t.Helper()
	a := receive(t, "an answer to "+who, answers)
	if !errors.Is(a.err, credentials.ErrUnavailable) {
		t.Errorf("%s: got the token %q, error %v; want ErrUnavailable",
			who, a.token.Value.Reveal(), a.err)
	}
	return a.err
}

// rescued: the provider had answered when the server went away. Nobody asks, and the token is saved
// all the same.
func rescued(t *testing.T, st *stage, m *credentials.Manager) {
	t.Helper()
	eventually(t, "the token to be saved", func() bool { return !st.row().AccessToken.IsZero() })
	st.kept(granted(t, "the next caller", token(t, m)))
	st.called(1)
}
