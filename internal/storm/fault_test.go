package storm_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/internal/storm/report"
)

// twice has two rounds, and a provider that revokes.
func twice(c *storm.Config) { c.Reuse, c.Rounds = storm.Revoke, 2 }

var oneFaultCases = map[string]struct {
	fault func(*storm.Config)
	check func(*testing.T, report.Report)
}{
	"killed after the claim": {
		func(c *storm.Config) { c.Kill = storm.KillAfterClaim },
		func(t *testing.T, r report.Report) { wantKilled(t, r, 0) },
	},
	"killed in the exchange": {
		func(c *storm.Config) { c.Kill = storm.KillInExchange },
		func(t *testing.T, r report.Report) { wantKilled(t, r, 1) },
	},
	"killed before the save": {
		func(c *storm.Config) { c.Kill = storm.KillBeforeSave },
		func(t *testing.T, r report.Report) { wantKilled(t, r, 1) },
	},
	"killed before the save, provider revokes": {
		func(c *storm.Config) { c.Kill, c.Reuse = storm.KillBeforeSave, storm.Revoke }, wantRevoked,
	},
	"paused": {
		func(c *storm.Config) { c.Pause = true },
		func(t *testing.T, r report.Report) {
			if r.Pauses != 1 || r.Replays < 1 || r.CallersOK != r.Callers {
				t.Errorf("%d pauses, %d replays, %d of %d callers ok; want 1, at least 1, all",
					r.Pauses, r.Replays, r.CallersOK, r.Callers)
			}
		},
	},
	"server restarted at the claim": {
		func(c *storm.Config) { c.Restart = storm.RestartAtClaim }, wantRestarted,
	},
	"server restarted in the exchange": {
		func(c *storm.Config) { c.Restart = storm.RestartInExchange }, wantRestarted,
	},
	"server restarted at the save": {
		func(c *storm.Config) { c.Restart = storm.RestartAtSave }, wantRestarted,
	},
	"server away for longer than a lease at the save": {func(c *storm.Config) {
		twice(c)
		c.Restart, c.Outage = storm.RestartAtSave, 5*time.Second
	}, wantOutages},
	"server away for longer than a lease in the exchange": {func(c *storm.Config) {
		twice(c)
		c.Restart, c.Outage = storm.RestartInExchange, 5*time.Second
	}, wantOutages},
	"killed in each of several rounds": {func(c *storm.Config) {
		c.Kill, c.Rounds, c.Accounts = storm.KillInExchange, 2, 3
	}, wantEachRound},
	"paused, and the provider revokes": {func(c *storm.Config) {
		twice(c)
		c.Pause = true
	}, wantEachRound},
}

// TestOneFault does each fault once. On a slow machine more exchanges than the one that is hit may
// be interrupted. Each repetition must have a reason, nothing may be lost, and every caller gets an
// answer.
func TestOneFault(t *testing.T) {
	for name, test := range oneFaultCases {
		t.Run(name, func(t *testing.T) {
			cfg := config(database(t), "")
			cfg.Database, cfg.Accounts, cfg.Latency = private.server, 1, 200*time.Millisecond
			cfg.Timeout = 2 * time.Minute
			test.fault(&cfg)
			if cfg.Restart == "" { // A restart is one of the server of all tests.
				t.Parallel()
			}
			r := run(t, cfg)
			if !r.OK || r.TokensLost != 0 || !r.History.OK {
				t.Errorf("tokens lost = %d, violations = %q", r.TokensLost, r.Violations)
			}
			wantReasons(t, r)
			if want := cfg.Accounts * max(cfg.Rounds, 1); r.Refreshes.Needed != want {
				t.Errorf("refreshes = %+v, want %d needed", r.Refreshes, want)
			}
			test.check(t, r)
		})
	}
}

// wantReasons holds that each call of the endpoint is accounted for.
func wantReasons(t *testing.T, r report.Report) {
	t.Helper()
	if got := r.Refreshes.Needed + r.Replays + r.Retries; got != r.Refreshes.Calls {
		t.Errorf("refreshes = %+v with %d replays and %d retries do not add up",
			r.Refreshes, r.Replays, r.Retries)
	}
}

func wantKilled(t *testing.T, r report.Report, replays int) {
	t.Helper()
	if r.Kills != 1 || r.CallersKilled != r.Threads*r.Accounts ||
		r.CallersOK != r.Callers-r.CallersKilled || r.LostWithHolder != 0 {
		t.Errorf("%d kills with %d callers, %d of %d ok, %d grants lost with their holder; "+
			"want 1, those of one process, the others, none",
			r.Kills, r.CallersKilled, r.CallersOK, r.Callers, r.LostWithHolder)
	}
	if r.Replays < replays {
		t.Errorf("%d replays, want %d", r.Replays, replays)
	}
}

func wantRevoked(t *testing.T, r report.Report) {
	t.Helper()
	if r.LostWithHolder != 1 || r.Refreshes.ReuseDetected != 1 || r.CallersOK != 0 ||
		r.Errors["dead"] != r.CallersFailed {
		t.Errorf("lost with holder = %d, reuse = %d, %d callers ok, errors = %v; "+
			"want 1, 1, none, all told of a dead grant",
			r.LostWithHolder, r.Refreshes.ReuseDetected, r.CallersOK, r.Errors)
	}
}

func wantRestarted(t *testing.T, r report.Report) {
	t.Helper()
	if r.Restarts != 1 || r.CallersOK != r.Callers {
		t.Errorf("%d restarts, %d of %d callers ok; want 1 and all", r.Restarts, r.CallersOK, r.Callers)
	}
}

// wantOutages holds that nobody presents the refresh token of a holder that lives again.
func wantOutages(t *testing.T, r report.Report) {
	t.Helper()
	if r.Restarts != 2 || r.CallersOK != r.Callers ||
		r.Replays != 0 || r.Refreshes.ReuseDetected != 0 {
		t.Errorf("%d restarts, %d of %d callers ok, %d replays, %d reuses; want 2, all, none, none",
			r.Restarts, r.CallersOK, r.Callers, r.Replays, r.Refreshes.ReuseDetected)
	}
}

func wantEachRound(t *testing.T, r report.Report) {
	t.Helper()
	if r.Kills+r.Pauses != r.Rounds || r.Replays < r.Rounds {
		t.Errorf("%d kills, %d pauses, %d replays in %d rounds; want one and at least one in each",
			r.Kills, r.Pauses, r.Replays, r.Rounds)
	}
}

// TestChaos has storms until each kind of fault has come at least once: the faults that a few
// seconds bring depend on the machine.
func TestChaos(t *testing.T) {
	var kills, pauses, restarts, outages int
	for seed := uint64(7); kills == 0 || pauses == 0 || restarts == 0 || outages == 0; seed++ {
		if seed == 17 {
			t.Fatalf("%d kills, %d pauses, %d restarts, %d outages in ten storms; want some of each",
				kills, pauses, restarts, outages)
		}
		r := chaos(t, seed)
		kills, pauses = kills+r.Kills, pauses+r.Pauses
		restarts, outages = restarts+r.Restarts, outages+r.Outages
	}
}

func chaos(t *testing.T, seed uint64) report.Report {
	t.Helper()
	cfg := config(database(t), "")
	cfg.Database, cfg.Latency = private.server, 100*time.Millisecond
	cfg.Chaos, cfg.Duration, cfg.Seed, cfg.Timeout = true, 8*time.Second, seed, 2*time.Minute
	r := run(t, cfg)
	if !r.OK || r.TokensLost != 0 || !r.History.OK || r.ConnectionsInUse != 0 || r.MaxLiveClaims > 1 {
		t.Errorf("violations = %q in %+v", r.Violations, r.Faults)
	}
	if r.CallersOK == 0 || r.Seed != seed {
		t.Errorf("%d callers ok, seed %d; want some, and %d", r.CallersOK, r.Seed, seed)
	}
	if r.Outages > 0 && r.LongestOutage < 3000 {
		t.Errorf("the longest outage took %v ms; want a lease or more", r.LongestOutage)
	}
	wantReasons(t, r)
	return r
}
