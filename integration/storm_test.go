package integration_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// runStorm has real processes, which are this program again, ask for tokens, and fails the test if
// an invariant broke.
func runStorm(t testing.TB, s *server, config storm.Config) report.Report {
	t.Helper()
	config.DSN = s.dsn(s.database(t), interpolated)
	config.Timeout = patience
	r, err := storm.Run(context.Background(), config)
	must(t, err)
	for _, violation := range r.Violations {
		t.Error(violation)
	}
	equal(t, "ok", r.OK, true)
	equal(t, "refreshes.calls", r.Refreshes.Calls, r.Refreshes.Needed)
	equal(t, "refreshes.duplicates", r.Refreshes.Duplicates, 0)
	equal(t, "refreshes.reuse_detected", r.Refreshes.ReuseDetected, 0)
	equal(t, "refreshes.max_parallel_per_account", r.Refreshes.MaxParallelPerAccount, 1)
	equal(t, "callers_ok", r.CallersOK, r.Callers)
	equal(t, "connections_in_use_during_exchange.max", r.HeldConnections.Max, 0)
	return r
}

// TestWorkersShareOneToken: 4 processes of 2 threads need one token, and one of the 8 fetches it.
func TestWorkersShareOneToken(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		report := runStorm(t, s, storm.Config{Processes: 4, Threads: 2, Accounts: 1})
		equal(t, "callers", report.Callers, 8)
		equal(t, "refreshes.needed", report.Refreshes.Needed, 1)
	})
}

// TestAccountsOverlap (invariant 8): of 12 callers 4 want each of 3 accounts. 3 exchanges happen,
// at the same time.
func TestAccountsOverlap(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		report := runStorm(t, s,
			storm.Config{Processes: 4, Threads: 1, Accounts: 3, Latency: 5 * time.Second})
		equal(t, "callers", report.Callers, 12)
		equal(t, "refreshes.needed", report.Refreshes.Needed, 3)
		equal(t, "refreshes.max_parallel_accounts", report.Refreshes.MaxParallelAccounts, 3)
	})
}

// TestStorm has the storm's defaults, several expiries, and a single connection for all that a
// process does: an exchange that held one would keep it from the other accounts (invariant 6).
func TestStorm(t *testing.T) {
	for _, test := range []struct {
		name   string
		config storm.Config
	}{
		{"defaults", storm.Config{}},
		{"several rounds", storm.Config{Processes: 3, Threads: 8, Accounts: 5, Rounds: 4,
			Latency: 50 * time.Millisecond}},
		{"one connection for each process",
			storm.Config{Processes: 3, Threads: 2, Accounts: 6, Pool: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				report := runStorm(t, s, test.config)
				if got := report.Refreshes.MaxParallelAccounts; got < 2 {
					t.Errorf("refreshes.max_parallel_accounts: got %d, want 2 or more", got)
				}
			})
		})
	}
}

// holding is a store that claims with a transaction which stays open until the save, as a row lock
// held across the exchange would.
func holding(rows credentials.Store, db *sql.DB) credentials.Store {
	var tx *sql.Tx
	store := testkit.NewStore(rows)
	store.After(testkit.Claim, func(ctx context.Context, call *testkit.Call) (err error) {
		if call.Err == nil {
			tx, err = db.BeginTx(context.WithoutCancel(ctx), nil)
		}
		return err
	})
	store.Before(testkit.Save, func(context.Context, *testkit.Call) error { return tx.Rollback() })
	return store
}

// TestHeldConnectionIsSeen puts the storm's measure (invariant 6) to the test: it is 0 for the
// store, and would not be for one that holds a transaction during the exchange.
func TestHeldConnectionIsSeen(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db, connections, err := worker.Open(s.configFor(t, s.migrated(t), interpolated))
		must(t, err)
		t.Cleanup(func() { _ = db.Close() })
		store := newStore(t, db)
		for _, test := range []struct {
			name  string
			store credentials.Store
			want  int
		}{
			{"the store", store, 0},
			{"a store that holds a transaction", holding(store, db), 1},
		} {
			seed(t, store, alice)
			held := -1
			manager := newManager(t, test.store, credentials.RefresherFunc(
				func(ctx context.Context, _ credentials.RefreshInput) (credentials.Grant, error) {
					held, _ = connections.Held(ctx)
					return renewal("new").Grant, nil
				}))
			succeeds(t, test.name, errOf(manager.Token(worker.NewCaller(bounded(t)), alice)))
			equal(t, "connections that the call held under "+test.name, held, test.want)
		}
		idle(t, db)
	})
}

// newManager returns a manager of one service, alice's.
func newManager(t testing.TB, store credentials.Store, refresher credentials.Refresher) *credentials.Manager {
	t.Helper()
	manager, err := credentials.NewManager(store,
		credentials.Services{alice.Service: {Refresher: refresher}}, nil)
	must(t, err)
	t.Cleanup(func() {
		succeeds(t, "Close", manager.Close(bounded(t)))
	})
	return manager
}

// TestNobodyWaitsForRenewals: processes that ask all the time renew each token once per expiry, and
// before it, so that no caller waits for that.
func TestNobodyWaitsForRenewals(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		// A server that stalls for a second and a half lets a token expire, and then callers have
		// to wait: each thread once or twice, since it asks for nothing else meanwhile. There are
		// more tries for that, and for nothing else.
		var r report.Report
		for range 3 {
			if r = lifetimes(t, s); r.CallersWaited == 0 {
				break
			}
			if r.CallersWaited > r.Callers/100 {
				t.Fatalf("%d of %d callers waited, which no stall explains",
					r.CallersWaited, r.Callers)
			}
			t.Logf("%d callers waited; served after replaced: %+v ms",
				r.CallersWaited, r.ServedAfterReplaced)
		}
		equal(t, "callers_waited", r.CallersWaited, 0)
		if least := 2 * r.Accounts; r.Refreshes.Needed < least {
			t.Errorf("refreshes.needed: got %d, want %d or more", r.Refreshes.Needed, least)
		}
	})
}

// lifetimes is a storm over two lifetimes, and fails the test for everything that breaks but that
// callers waited.
func lifetimes(t *testing.T, s *server) report.Report {
	t.Helper()
	r, err := storm.Run(t.Context(), storm.Config{
		DSN: s.dsn(s.database(t), interpolated), Timeout: 2 * patience,
		Processes: 2, Accounts: 3, Lifetimes: 2, Lifetime: 8 * time.Second,
		Latency: 20 * time.Millisecond,
	})
	must(t, err)
	calm(t, r)
	return r
}

// calm fails the test for everything that breaks in a storm over several lifetimes, but for callers
// that waited, as they do where the server stalls.
func calm(t *testing.T, r report.Report) {
	t.Helper()
	for _, violation := range r.Violations {
		if !strings.Contains(violation, "callers waited") {
			t.Error(violation)
		}
	}
	equal(t, "refreshes.calls", r.Refreshes.Calls, r.Refreshes.Needed)
	equal(t, "refreshes.duplicates", r.Refreshes.Duplicates, 0)
	equal(t, "refreshes.reuse_detected", r.Refreshes.ReuseDetected, 0)
	equal(t, "refreshes.max_parallel_per_account", r.Refreshes.MaxParallelPerAccount, 1)
	equal(t, "callers_failed", r.CallersFailed, 0)
	equal(t, "connections_in_use_during_exchange.max", r.HeldConnections.Max, 0)
}
