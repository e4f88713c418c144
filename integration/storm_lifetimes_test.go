package integration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// TestNobodyWaitsForRenewals: processes that ask all the time renew each token once per expiry, and before it, so that no
// caller waits for that.
func TestNobodyWaitsForRenewals(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		// A server that stalls for a second and a half lets a token expire, and then callers have to wait: each thread once or
		// twice, since it asks for nothing else meanwhile. There are more tries for that, and for nothing else.
		var report storm.Report
		for range 3 {
			if report = lifetimes(t, s); report.CallersWaited == 0 {
				break
			}
			if report.CallersWaited > report.Callers/100 {
				t.Fatalf("%d of %d callers waited, which no stall explains", report.CallersWaited, report.Callers)
			}
			t.Logf("%d callers waited; served after replaced: %+v ms", report.CallersWaited, report.ServedAfterReplaced)
		}
		equal(t, "callers_waited", report.CallersWaited, 0)
		if least := 2 * report.Accounts; report.Refreshes.Needed < least {
			t.Errorf("refreshes.needed: got %d, want %d or more", report.Refreshes.Needed, least)
		}
	})
}

// lifetimes is a storm over two lifetimes, and fails the test for everything that breaks but that callers waited.
func lifetimes(t *testing.T, s *server) storm.Report {
	t.Helper()
	report, err := storm.Run(t.Context(), storm.Config{
		DSN: s.dsn(s.database(t), interpolated), Timeout: 2 * patience,
		Processes: 2, Accounts: 3, Lifetimes: 2, Lifetime: 8 * time.Second, Latency: 20 * time.Millisecond,
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
