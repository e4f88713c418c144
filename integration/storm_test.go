package integration_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/storm"
)

// runStorm has real processes, which are this program again, ask for tokens, and fails the test if an invariant broke.
func runStorm(t testing.TB, s *server, config storm.Config) storm.Report {
	t.Helper()
	config.DSN = s.dsn(s.database(t), interpolated)
	config.Timeout = patience
	report, err := storm.Run(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	for _, violation := range report.Violations {
		t.Error(violation)
	}
	equal(t, "ok", report.OK, true)
	equal(t, "refreshes.calls", report.Refreshes.Calls, report.Refreshes.Needed)
	equal(t, "refreshes.duplicates", report.Refreshes.Duplicates, 0)
	equal(t, "refreshes.reuse_detected", report.Refreshes.ReuseDetected, 0)
	equal(t, "refreshes.max_parallel_per_account", report.Refreshes.MaxParallelPerAccount, 1)
	equal(t, "callers_ok", report.CallersOK, report.Callers)
	equal(t, "connections_in_use_during_exchange.max", report.HeldConnections.Max, 0)
	return report
}

// TestWorkersShareOneToken: 4 processes of 2 threads need one token, and one of the 8 fetches it.
func TestWorkersShareOneToken(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		report := runStorm(t, s, storm.Config{Processes: 4, Threads: 2, Accounts: 1})
		equal(t, "callers", report.Callers, 8)
		equal(t, "refreshes.needed", report.Refreshes.Needed, 1)
	})
}

// TestAccountsOverlap (invariant 8): of 12 callers 4 want each of 3 accounts. 3 exchanges happen, at the same time.
func TestAccountsOverlap(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		report := runStorm(t, s, storm.Config{Processes: 4, Threads: 1, Accounts: 3, Latency: 5 * time.Second})
		equal(t, "callers", report.Callers, 12)
		equal(t, "refreshes.needed", report.Refreshes.Needed, 3)
		equal(t, "refreshes.max_parallel_accounts", report.Refreshes.MaxParallelAccounts, 3)
	})
}

// TestStorm: the defaults; several expiries; and a single connection for everything that a process does, which an
// exchange that held one would keep from the other accounts (invariant 6).
func TestStorm(t *testing.T) {
	for _, test := range []struct {
		name   string
		config storm.Config
	}{
		{"defaults", storm.Config{}},
		{"several rounds", storm.Config{Processes: 3, Threads: 8, Accounts: 5, Rounds: 4, Latency: 50 * time.Millisecond}},
		{"one connection for each process", storm.Config{Processes: 3, Threads: 2, Accounts: 6, Pool: 1}},
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

// holdingStore claims with a transaction that stays open until the save, as a row lock held across the exchange would.
type holdingStore struct {
	*latchkey.Store

	db *sql.DB
	tx *sql.Tx
}

func (s *holdingStore) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (credentials.Credential, error) {
	c, err := s.Store.Claim(ctx, key, claim)
	if err != nil {
		return c, err
	}
	s.tx, err = s.db.BeginTx(context.WithoutCancel(ctx), nil)
	return c, err
}

func (s *holdingStore) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	if err := s.tx.Rollback(); err != nil {
		return err
	}
	return s.Store.Save(ctx, fence, renewal)
}

// TestHeldConnectionIsSeen puts the storm's measure (invariant 6) to the test: it is 0 for the store, and would not be
// for one that holds a transaction during the exchange.
func TestHeldConnectionIsSeen(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db, connections, err := storm.Open(s.configFor(t, s.migrated(t), interpolated))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		store := newStore(t, db)
		for _, test := range []struct {
			name  string
			store credentials.Store
			want  int
		}{
			{"the store", store, 0},
			{"a store that holds a transaction", &holdingStore{Store: store, db: db}, 1},
		} {
			seed(t, store, alice)
			held := -1
			manager := newManager(t, test.store, credentials.RefresherFunc(
				func(ctx context.Context, _ credentials.Credential) (credentials.Grant, error) {
					held, _ = connections.Held(ctx)
					return renewal("new").Grant, nil
				}))
			if _, err := manager.Token(storm.WithOwner(bounded(t), "a caller"), alice); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			equal(t, "connections that the flight held under "+test.name, held, test.want)
		}
		idle(t, db)
	})
}

// newManager returns a manager of one service, alice's.
func newManager(t testing.TB, store credentials.Store, refresher credentials.Refresher) *credentials.Manager {
	t.Helper()
	manager, err := credentials.NewManager(store, credentials.Services{alice.Service: {Refresher: refresher}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := manager.Close(bounded(t)); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return manager
}
