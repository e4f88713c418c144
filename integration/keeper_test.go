package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
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
	values := make([]string, 0, 1000)
	for i := range rows {
		account := fmt.Sprint("account ", i)
		values = append(values, fmt.Sprintf("('%s', '%s', '', '%s', '{}', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
			alice.Service, account, p.Register(account)))
		if len(values) == cap(values) || i == rows-1 {
			execute(t, db, "INSERT INTO credentials (service_name, account_name, token, refresh_token, extra, expiration, due_at, created_at) VALUES "+
				strings.Join(values, ", "))
			values = values[:0]
		}
	}
	execute(t, db, "ANALYZE TABLE credentials")
}

// untilRenewed waits until no row is due or leased, for as long as there is progress.
func untilRenewed(t testing.TB, db *sql.DB) {
	t.Helper()
	const left = "SELECT COUNT(*) FROM credentials WHERE due_at <= UTC_TIMESTAMP(6) OR lease_id <> ''"
	least, since := query[int](t, db, left), time.Now()
	for least > 0 {
		time.Sleep(50 * time.Millisecond)
		if n := query[int](t, db, left); n < least {
			least, since = n, time.Now()
		}
		if time.Since(since) > patience {
			t.Fatalf("%d rows are left, and for %v there were no fewer", least, patience)
		}
	}
}

// checkRenewed fails the test unless every row holds a fresh token and the newest refresh token, under no lease.
func checkRenewed(t testing.TB, store *latchkey.Store, p *provider.Provider, rows int) {
	t.Helper()
	n := 0
	var wrong []string
	for c, err := range store.List(bounded(t), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
		state, newest := c.State(credentials.Secret{}), p.Current(c.Key.Account, c.RefreshToken.Reveal())
		if state != credentials.Fresh || !newest || c.Lease.ID != "" || c.Failure.Count != 0 {
			wrong = append(wrong, fmt.Sprintf("%v: state %v, newest refresh token %v, lease %+v, failure %+v",
				c.Key, state, newest, c.Lease, c.Failure))
		}
	}
	equal(t, "rows", n, rows)
	if len(wrong) > 0 {
		t.Errorf("%d rows were not renewed; the first is %s", len(wrong), wrong[0])
	}
}

// TestKeepersExchangeOncePerRow (invariant 1): keeper processes share what is due, and the provider sees each refresh token
// once.
func TestKeepersExchangeOncePerRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) { shareDue(t, s, 2000) })
}

// shareDue has 8 keeper processes renew that many rows, all of them due.
func shareDue(t testing.TB, s *server, rows int) {
	t.Helper()
	const keepers = 8
	p := provider.New(provider.Options{Latency: 5 * time.Millisecond})
	served, err := provider.Start("", p)
	if err != nil {
		t.Fatal(err)
	}
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
		kept := r.stop(t)
		sum += kept.Renewed
		if kept.Renewed > 0 {
			busy++
		}
		equal(t, r.name+": Failed, Rejected and Exchanging", kept.Failed+kept.Rejected+kept.Exchanging, 0)
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

// TestKilledKeeper: what a keeper had under way when it was killed is renewed by the others when its leases have ended, and
// that alone is presented twice, once more each.
func TestKilledKeeper(t *testing.T) {
	const keepers, rows, parallel = 4, 300, 8
	onServers(t, func(t *testing.T, s *server) {
		// From the middle on, what is presented waits, so that the victim dies with exchanges under way.
		middle, goOn := make(chan struct{}), make(chan struct{})
		var mu sync.Mutex
		presented := 0
		p := provider.New(provider.Options{
			Latency: 5 * time.Millisecond, Grace: time.Hour,
			OnPresentation: func(provider.Presentation) {
				mu.Lock()
				presented++
				n := presented
				mu.Unlock()
				if n == rows/2 {
					close(middle)
				}
				if n >= rows/2 {
					<-goOn
				}
			},
		})
		served, err := provider.Start("", p)
		if err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		release := func() { once.Do(func() { close(goOn) }) }
		t.Cleanup(func() {
			release()
			_ = served.Close()
		})
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		seedDue(t, db, p, rows)
		renewers := startRenewers(t, keepers, renewerWork{
			DSN: s.dsn(database, interpolated), Pool: 4, TokenURL: served.TokenURL(), Parallel: parallel,
			Lease: 12 * time.Second, ExchangeTimeout: 8 * time.Second, StoreTimeout: 3 * time.Second,
		}, nil)
		receive(t, "half of the rows to be presented", middle)
		// Until every lease is that of an exchange which waits, and so remains. Any of their holders will do.
		var victim *renewer
		eventually(t, "all that is leased to be presented", func() bool {
			mu.Lock()
			waiting := presented - rows/2 + 1
			mu.Unlock()
			var leases int
			var holder string
			const look = "SELECT COUNT(*), COALESCE(MAX(lease_holder), '') FROM credentials WHERE lease_id <> ''"
			if err := db.QueryRowContext(bounded(t), look).Scan(&leases, &holder); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(renewers, func(r *renewer) bool { return r.name == holder })
			if i < 0 || leases != waiting {
				return false
			}
			victim = renewers[i]
			return true
		})
		victim.kill()
		leased := make(map[string]bool)
		found, err := db.QueryContext(context.Background(), "SELECT account_name FROM credentials WHERE lease_holder = ?", victim.name)
		if err != nil {
			t.Fatal(err)
		}
		for found.Next() {
			var account string
			if err := found.Scan(&account); err != nil {
				t.Fatal(err)
			}
			leased[account] = true
		}
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
		if len(leased) == 0 || len(leased) > parallel {
			t.Fatalf("%s died with %d leases, want 1 to %d", victim.name, len(leased), parallel)
		}
		release()
		untilRenewed(t, db)

		twice := 0
		stats := p.Stats()
		for account, counts := range stats.Accounts {
			switch {
			case counts.Calls == 2 && leased[account]:
				twice++
			case counts.Calls != 1:
				t.Errorf("%s: %d exchanges; leased by the keeper that was killed: %v", account, counts.Calls, leased[account])
			}
		}
		t.Logf("%d leases were left behind, %d of these refresh tokens were presented twice", len(leased), twice)
		if twice == 0 {
			t.Error("nothing was presented twice; the keeper had nothing under way")
		}
		equal(t, "accounts", len(stats.Accounts), rows)
		equal(t, "exchanges", stats.Calls, rows+twice)
		equal(t, "reuse detected", stats.ReuseDetected, 0)
		for _, r := range renewers {
			if r != victim {
				r.stop(t)
			}
		}
		checkRenewed(t, newStore(t, db), p, rows)
	})
}
