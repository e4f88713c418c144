package integration_test

import (
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// seedDue registers that many accounts with the provider and inserts their rows, all of them due.
func seedDue(t testing.TB, db *sql.DB, p *provider.Provider, rows int) {
	t.Helper()
	insertRows(t, db, rows, func(i int) newRow {
		account := fmt.Sprint("account ", i)
		return newRow{alice.Service, account, p.Register(account), "UTC_TIMESTAMP(6)"}
	})
	execute(t, db, "UPDATE credentials SET expiration = due_at")
}

// untilRenewed waits until no row is due or leased, for as long as there is progress. A dead
// keeper's rows make none for two leases: a batch takes a lease over that ended a lease ago.
func untilRenewed(t testing.TB, db *sql.DB) {
	t.Helper()
	const left = "SELECT COUNT(*) FROM credentials WHERE due_at <= UTC_TIMESTAMP(6) OR lease_id <> ''"
	least, since := query[int](t, db, left), time.Now()
	for least > 0 {
		time.Sleep(50 * time.Millisecond)
		if n := query[int](t, db, left); n < least {
			least, since = n, time.Now()
		}
		if time.Since(since) > 2*patience {
			t.Fatalf("%d rows are left, and for %v there were no fewer", least, 2*patience)
		}
	}
}

// checkRenewed fails the test unless every row holds a fresh token and the newest refresh token,
// under no lease.
func checkRenewed(t testing.TB, store *latchkey.Store, p *provider.Provider, rows int) {
	t.Helper()
	n := 0
	var wrong []string
	for _, c := range everyRow(t, store) {
		n++
		state, newest := c.State(credentials.Claim{}), p.Current(c.Key.Account,
			c.RefreshToken.Reveal())
		if state != credentials.StateFresh || !newest || c.Lease.ID != "" || c.Failure.Count != 0 {
			wrong = append(wrong,
				fmt.Sprintf("%v: state %v, newest refresh token %v, lease %+v, failure %+v",
					c.Key, state, newest, c.Lease, c.Failure))
		}
	}
	equal(t, "rows", n, rows)
	if len(wrong) > 0 {
		t.Errorf("%d rows were not renewed; the first is %s", len(wrong), wrong[0])
	}
}

// TestKeepersExchangeOncePerRow (invariant 1): keeper processes share what is due, and the provider
// sees each refresh token once.
func TestKeepersExchangeOncePerRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) { shareDue(t, s, 2000) })
}

// shareDue has 8 keeper processes renew that many rows, all of them due.
func shareDue(t testing.TB, s *server, rows int) {
	t.Helper()
	const keepers = 8
	p := provider.New(provider.Options{Latency: 5 * time.Millisecond})
	served, err := provider.Start("", p)
	must(t, err)
	defer func() { _ = served.Close() }()
	database := s.migrated(t)
	db := s.open(t, database, interpolated)
	seedDue(t, db, p, rows)
	renewers := startRenewers(t, keepers, renewerWork{
		DSN: s.dsn(database, interpolated), Pool: 4, TokenURL: served.TokenURL(),
	}, nil)
	untilRenewed(t, db)

	sum, busy := 0, 0
	for _, r := range renewers {
		kept := r.stop()
		sum += kept.Renewed
		if kept.Renewed > 0 {
			busy++
		}
		equal(t, r.Name+": Failed, Dead and Exchanging", kept.Failed+kept.Dead+kept.Exchanging, 0)
	}
	equal(t, "renewals that the keepers count", sum, rows)
	if busy < 2 {
		t.Errorf("%d of %d keepers renewed anything", busy, keepers)
	}
	stats := p.Stats()
	equal(t, "exchanges", stats.Calls, rows)
	equal(t, "exchanges that issued tokens", stats.Issued, rows)
	equal(t, "accounts", len(stats.Accounts), rows)
	equal(t, "duplicates", stats.Duplicates, 0)
	equal(t, "replays", stats.Replays, 0)
	equal(t, "reuse detected", stats.ReuseDetected, 0)
	checkRenewed(t, newStore(t, db), p, rows)
}

// TestKilledKeeper: the exchanges that a keeper had under way when it was killed are made by the
// others when its leases have ended, and they alone are made twice, once more each.
func TestKilledKeeper(t *testing.T) {
	const keepers, rows, parallel = 4, 300, 8
	onServers(t, func(t *testing.T, s *server) {
		half := newHalfway(rows / 2)
		p := provider.New(provider.Options{
			Latency: 5 * time.Millisecond, Grace: time.Hour, OnPresentation: half.presented,
		})
		served, err := provider.Start("", p)
		must(t, err)
		t.Cleanup(func() {
			half.release()
			_ = served.Close()
		})
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		seedDue(t, db, p, rows)
		renewers := startRenewers(t, keepers, renewerWork{
			DSN: s.dsn(database,
				interpolated), Pool: 4, TokenURL: served.TokenURL(), Parallel: parallel,
			Lease: 12 * time.Second, ExchangeTimeout: 8 * time.Second,
			StoreTimeout: 3 * time.Second,
		}, nil)
		receive(t, "half of the rows to be presented", half.reached)
		victim := half.holder(t, db, renewers)
		victim.Kill()
		leased := make(map[string]bool)
		for _, r := range rowsOf(t, db, "SELECT account_name FROM credentials WHERE lease_holder = ?", victim.Name) {
			leased[r.text("account_name")] = true
		}
		if len(leased) == 0 || len(leased) > parallel {
			t.Fatalf("%s died with %d leases, want 1 to %d", victim.Name, len(leased), parallel)
		}
		half.release()
		untilRenewed(t, db)
		checkTwice(t, p.Stats(), rows, leased)
		for _, r := range renewers {
			if r != victim {
				r.stop()
			}
		}
		checkRenewed(t, newStore(t, db), p, rows)
	})
}

// halfway has all presentations from the n-th on wait, so that a keeper dies with exchanges under
// way.
type halfway struct {
	n       int
	reached chan struct{} // closed when the n-th has come
	release func()

	mu    sync.Mutex
	count int // of presentations; guarded by mu
	goOn  chan struct{}
}

func newHalfway(n int) *halfway {
	h := &halfway{n: n, reached: make(chan struct{}), goOn: make(chan struct{})}
	h.release = sync.OnceFunc(func() { close(h.goOn) })
	return h
}

func (h *halfway) presented(provider.Presentation) {
	h.mu.Lock()
	h.count++
	n := h.count
	h.mu.Unlock()
	if n == h.n {
		close(h.reached)
	}
	if n >= h.n {
		<-h.goOn
	}
}

// holder waits until every lease is that of an exchange which waits, and so remains, and returns
// one of their holders.
func (h *halfway) holder(t *testing.T, db *sql.DB, renewers []renewer) (holder renewer) {
	t.Helper()
	eventually(t, "all that is leased to be presented", func() bool {
		h.mu.Lock()
		waiting := h.count - h.n + 1
		h.mu.Unlock()
		leases := rowsOf(t, db, "SELECT lease_holder FROM credentials WHERE lease_id <> ''")
		if len(leases) == 0 || len(leases) != waiting {
			return false
		}
		i := slices.IndexFunc(renewers, func(r renewer) bool {
			return r.Name == leases[0].text("lease_holder")
		})
		if i >= 0 {
			holder = renewers[i]
		}
		return i >= 0
	})
	return holder
}

// checkTwice fails the test unless refresh tokens of leased accounts alone were presented twice,
// and some were.
func checkTwice(t *testing.T, stats provider.Stats, rows int, leased map[string]bool) {
	t.Helper()
	twice := 0
	for account, counts := range stats.Accounts {
		switch {
		case counts.Calls == 2 && leased[account]:
			twice++
		case counts.Calls != 1:
			t.Errorf("%s: %d exchanges; leased by the keeper that was killed: %v",
				account, counts.Calls, leased[account])
		}
	}
	t.Logf("%d leases were left behind, %d of these refresh tokens were presented twice",
		len(leased), twice)
	if twice == 0 {
		t.Error("nothing was presented twice; the keeper had nothing under way")
	}
	equal(t, "accounts", len(stats.Accounts), rows)
	equal(t, "exchanges", stats.Calls, rows+twice)
	equal(t, "reuse detected", stats.ReuseDetected, 0)
}
