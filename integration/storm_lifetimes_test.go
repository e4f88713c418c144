package integration_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// TestNobodyWaitsForRenewals: processes that ask all the time renew each token once per expiry, and before it, so that no
// caller waits for that.
func TestNobodyWaitsForRenewals(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		// Where the server or the machine stalls, a token expires before it is renewed, and then callers have to wait.
		// There are more tries for that, and for nothing else.
		const lifetime, tries = 3 * time.Second, 3
		const stall = lifetime / 10 // half of the time that there is to renew a token
		for try := 1; ; try++ {
			slowest := watchRenewals(t, s)
			report := lifetimes(t, s, lifetime)
			took := slowest()
			if least := 2 * report.Accounts; report.Refreshes.Needed < least {
				t.Errorf("refreshes.needed: got %d, want %d or more", report.Refreshes.Needed, least)
			}
			if report.CallersWaited == 0 {
				return
			}
			what := fmt.Sprintf("%d of %d callers waited, and the slowest renewal beside them took %v; served after replaced: %+v ms",
				report.CallersWaited, report.Callers, took, report.ServedAfterReplaced)
			if took < stall || try == tries || report.CallersWaited > report.Callers/100 {
				t.Fatal(what)
			}
			t.Log(what)
		}
	})
}

// watchRenewals claims and saves a credential of its own again and again. slowest ends that and returns how long it took
// at most.
func watchRenewals(t *testing.T, s *server) (slowest func() time.Duration) {
	t.Helper()
	store, _ := s.store(t, interpolated)
	seed(t, store, alice)
	due := renewal("token")
	due.DueIn = 0
	var most time.Duration
	ctx, end := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			time.Sleep(20 * time.Millisecond)
			c, err := store.Claim(bounded(t), alice, claimOf("holder"))
			if err == nil {
				err = store.Save(bounded(t), c.Fence(), due)
			}
			if err != nil {
				t.Errorf("a renewal beside the storm: %v", err)
				return
			}
			most = max(most, time.Since(began))
		}
	})
	slowest = func() time.Duration {
		end()
		watching.Wait()
		return most
	}
	t.Cleanup(func() { _ = slowest() })
	return slowest
}

// lifetimes is a storm over two lifetimes. It fails the test for everything that breaks but that callers waited.
func lifetimes(t *testing.T, s *server, lifetime time.Duration) storm.Report {
	t.Helper()
	report, err := storm.Run(t.Context(), storm.Config{
		DSN: s.dsn(s.database(t), interpolated), Timeout: patience,
		Processes: 2, Accounts: 3, Lifetimes: 2, Lifetime: lifetime, Latency: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, violation := range report.Violations {
		if !strings.Contains(violation, "callers waited") {
			t.Error(violation)
		}
	}
	equal(t, "refreshes.calls", report.Refreshes.Calls, report.Refreshes.Needed)
	equal(t, "refreshes.duplicates", report.Refreshes.Duplicates, 0)
	equal(t, "refreshes.reuse_detected", report.Refreshes.ReuseDetected, 0)
	equal(t, "refreshes.max_parallel_per_account", report.Refreshes.MaxParallelPerAccount, 1)
	equal(t, "callers_failed", report.CallersFailed, 0)
	equal(t, "connections_in_use_during_exchange.max", report.HeldConnections.Max, 0)
	return report
}
