package storm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm"
)

// TestOneFault does each fault once. On a slow machine more exchanges than the one that is hit may be interrupted; what
// must hold is that each repetition had a reason, that nothing was lost, and that everyone was told something.
func TestOneFault(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(*storm.Config)
		check func(*testing.T, storm.Report)
	}{
		"killed after the claim": {
			fault: func(c *storm.Config) { c.Kill = storm.KillAfterClaim },
			check: func(t *testing.T, r storm.Report) { wantKilled(t, r, 0) },
		},
		"killed in the exchange": {
			fault: func(c *storm.Config) { c.Kill = storm.KillInExchange },
			check: func(t *testing.T, r storm.Report) { wantKilled(t, r, 1) },
		},
		"killed before the save": {
			fault: func(c *storm.Config) { c.Kill = storm.KillBeforeSave },
			check: func(t *testing.T, r storm.Report) { wantKilled(t, r, 1) },
		},
		"killed before the save, provider revokes": {
			fault: func(c *storm.Config) { c.Kill, c.Reuse = storm.KillBeforeSave, storm.Revoke },
			check: func(t *testing.T, r storm.Report) {
				if r.LostWithHolder != 1 || r.Refreshes.ReuseDetected != 1 || r.CallersOK != 0 || r.Errors["reauth_required"] != r.CallersFailed {
					t.Errorf("lost with holder = %d, reuse = %d, %d callers ok, errors = %v; want 1, 1, none, all to authorize again",
						r.LostWithHolder, r.Refreshes.ReuseDetected, r.CallersOK, r.Errors)
				}
			},
		},
		"paused": {
			fault: func(c *storm.Config) { c.Pause = true },
			check: func(t *testing.T, r storm.Report) {
				if r.Pauses != 1 || r.Replays < 1 || r.CallersOK != r.Callers {
					t.Errorf("%d pauses, %d replays, %d of %d callers ok; want 1, at least 1, all", r.Pauses, r.Replays, r.CallersOK, r.Callers)
				}
			},
		},
		"server restarted at the claim":    {func(c *storm.Config) { c.Restart = storm.RestartAtClaim }, wantRestarted},
		"server restarted in the exchange": {func(c *storm.Config) { c.Restart = storm.RestartInExchange }, wantRestarted},
		"server restarted at the save":     {func(c *storm.Config) { c.Restart = storm.RestartAtSave }, wantRestarted},
		"killed in each of several rounds": {func(c *storm.Config) { c.Kill, c.Rounds, c.Accounts = storm.KillInExchange, 2, 3 }, wantEachRound},
		"paused, and the provider revokes": {func(c *storm.Config) { c.Pause, c.Reuse, c.Rounds = true, storm.Revoke, 2 }, wantEachRound},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(database(t), "")
			cfg.Database, cfg.Accounts, cfg.Latency = private.server, 1, 200*time.Millisecond
			cfg.Timeout = 2 * time.Minute
			test.fault(&cfg)
			if cfg.Restart == "" { // the server is everyone's
				t.Parallel()
			}
			r, err := storm.Run(t.Context(), cfg)
			must(t, err)
			if !r.OK || r.TokensLost != 0 || !r.History.OK {
				t.Errorf("tokens lost = %d, violations = %q", r.TokensLost, r.Violations)
			}
			if got := r.Refreshes.Needed + r.Replays + r.Retries; r.Refreshes.Calls != got || r.Refreshes.Needed != cfg.Accounts*max(cfg.Rounds, 1) {
				t.Errorf("refreshes = %+v with %d replays and %d retries; want %d needed and the calls accounted for",
					r.Refreshes, r.Replays, r.Retries, cfg.Accounts*max(cfg.Rounds, 1))
			}
			test.check(t, r)
			if rows := remaining(t, cfg.DSN); rows != 0 {
				t.Errorf("%d rows remain", rows)
			}
		})
	}
}

func wantKilled(t *testing.T, r storm.Report, replays int) {
	t.Helper()
	if r.Kills != 1 || r.CallersKilled != r.Threads*r.Accounts || r.CallersOK != r.Callers-r.CallersKilled || r.LostWithHolder != 0 {
		t.Errorf("%d kills with %d callers, %d of %d ok, %d grants lost with their holder; want 1, those of one process, the others, none",
			r.Kills, r.CallersKilled, r.CallersOK, r.Callers, r.LostWithHolder)
	}
	if r.Replays < replays {
		t.Errorf("%d replays, want %d", r.Replays, replays)
	}
}

func wantRestarted(t *testing.T, r storm.Report) {
	t.Helper()
	if r.Restarts != 1 || r.CallersOK != r.Callers {
		t.Errorf("%d restarts, %d of %d callers ok; want 1 and all", r.Restarts, r.CallersOK, r.Callers)
	}
}

func wantEachRound(t *testing.T, r storm.Report) {
	t.Helper()
	if r.Kills+r.Pauses != r.Rounds || r.Replays < r.Rounds {
		t.Errorf("%d kills, %d pauses, %d replays in %d rounds; want one and at least one in each", r.Kills, r.Pauses, r.Replays, r.Rounds)
	}
}

func TestChaos(t *testing.T) {
	cfg := config(database(t), "")
	cfg.Database, cfg.Latency = private.server, 100*time.Millisecond
	cfg.Chaos, cfg.Duration, cfg.Seed, cfg.Timeout = true, 5*time.Second, 7, 2*time.Minute
	r, err := storm.Run(t.Context(), cfg)
	must(t, err)
	if !r.OK || r.TokensLost != 0 || !r.History.OK || r.ConnectionsInUse != 0 || r.MaxLiveClaims > 1 {
		t.Errorf("violations = %q in %+v", r.Violations, r.Faults)
	}
	if r.Kills == 0 || r.Pauses == 0 || r.Restarts == 0 || r.CallersOK == 0 || r.Seed != 7 {
		t.Errorf("%d kills, %d pauses, %d restarts, %d callers ok, seed %d; want some of each, and 7", r.Kills, r.Pauses, r.Restarts, r.CallersOK, r.Seed)
	}
	if got := r.Refreshes.Needed + r.Replays + r.Retries; got != r.Refreshes.Calls {
		t.Errorf("refreshes = %+v with %d replays and %d retries do not add up", r.Refreshes, r.Replays, r.Retries)
	}
	if rows := remaining(t, cfg.DSN); rows != 0 {
		t.Errorf("%d rows remain", rows)
	}
}

func TestFaultsRefuseNonsense(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*storm.Config)
		want   string
	}{
		"two faults":           {func(c *storm.Config) { c.Pause, c.Chaos = true, true }, "choose one"},
		"unknown kill":         {func(c *storm.Config) { c.Kill = "gently" }, "after-claim, exchange and before-save"},
		"unknown restart":      {func(c *storm.Config) { c.Restart = "later" }, "claim, exchange and save"},
		"unknown reuse":        {func(c *storm.Config) { c.Pause, c.Reuse = true, "never" }, "grace and revoke"},
		"rate":                 {func(c *storm.Config) { c.Chaos, c.FaultRate = true, 2 }, "0 to 1"},
		"chaos in one process": {func(c *storm.Config) { c.Chaos, c.Processes = true, 1 }, "at least 2 processes"},
		"very slow":            {func(c *storm.Config) { c.Pause, c.Latency = true, time.Hour }, "at most 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config("root:hunter2@tcp(127.0.0.1:1)/x", "")
			test.change(&cfg)
			if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Check = %v, want %q", err, test.want)
			}
		})
	}
	cfg := config("root:hunter2@tcp(127.0.0.1:1)/x", "")
	cfg.Restart = storm.RestartAtSave
	if _, err := storm.Run(t.Context(), cfg); !errors.Is(err, storm.ErrNoDatabase) {
		t.Errorf("Run = %v, want ErrNoDatabase", err)
	}
}

// The audit must see what it is for. Each case is a journal of two workers and one account with something wrong in it.
func TestAuditSeesWhatBroke(t *testing.T) {
	const lease = 3 * time.Second
	second := int64(time.Second)
	for name, test := range map[string]struct {
		script func(*storm.Script)
		want   string // part of a violation; "": there is none
	}{
		"nothing": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Save(1, "a", 2, "t1", "r1").Call(1, 0, 3, "t1")
		}, ""},
		"two live claims": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Claim(2, "b", second, "r0", lease)
		}, "2 claims on account-1 were live at the same moment (invariant 1)"},
		"a claim after the lease": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Claim(2, "b", 4*second, "r0", lease)
		}, ""},
		"presented without a claim": {func(s *storm.Script) {
			s.Present(1, "z", 1, "r0", "r1")
		}, "without a claim (invariant 2)"},
		"replayed without a reason": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").
				Claim(2, "b", 4*second, "r0", lease).Present(2, "b", 4*second+1, "r0", "r2").Answer(2, "b", 4*second+1, "t2", "r2").Save(2, "b", 4*second+2, "t2", "r2").
				TurnedDown(1, "a", 4*second+3)
		}, "1 refresh tokens were presented again without a reason"},
		"replayed since the holder was killed": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Kill(1, 2).
				Claim(2, "b", 4*second, "r0", lease).Present(2, "b", 4*second+1, "r0", "r2").Answer(2, "b", 4*second+1, "t2", "r2").Save(2, "b", 4*second+2, "t2", "r2")
		}, ""},
		"replayed since the holder was paused": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Pause(1, 2, 5*second).
				Claim(2, "b", 4*second, "r0", lease).Present(2, "b", 4*second+1, "r0", "r2").Answer(2, "b", 4*second+1, "t2", "r2").Save(2, "b", 4*second+2, "t2", "r2")
		}, ""},
		"a success is turned down": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Pause(1, 2, 5*second).
				Claim(2, "b", 4*second, "r0", lease).TurnedDown(1, "a", 5*second)
		}, "the success of storm worker 1 for account-1 was turned down, though no later claim's"},
		"a success is turned down for a later claim's": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Pause(1, 2, 5*second).
				Claim(2, "b", 4*second, "r0", lease).Present(2, "b", 4*second+1, "r0", "r2").Answer(2, "b", 4*second+1, "t2", "r2").Save(2, "b", 4*second+2, "t2", "r2").
				TurnedDown(1, "a", 5*second)
		}, ""},
		"a success is not stored": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1")
		}, "was never stored, though it lived to the end (invariant 4)"},
		"a failure covers a success": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Pause(1, 2, 5*second).
				Claim(2, "b", 4*second, "r0", lease).Save(1, "a", 5*second, "t1", "r1").Fail(2, "b", 5*second+2)
		}, "the failure of storm worker 2 for account-1 covers what was stored since its claim"},
		"presented late": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 4*second, "r0", "r1")
		}, "after its lease had ended"},
		"got what was never committed": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Save(1, "a", 2, "t1", "r1").Call(1, 0, 3, "t9")
		}, "nobody committed"},
		"got when it had expired, though it was long to be saved": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").
				SaveUntil(1, "a", second, 3*second, "t1", "r1").Call(1, 3602*second, 3602*second+1, "t1")
		}, "after the token t1 had expired, and got it; to store it took storm worker 1 2s"},
		"hangs": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Save(1, "a", 2, "t1", "r1").Call(1, 0, 20*second, "t1")
		}, "after its deadline"},
		"hangs while its process is stopped": {func(s *storm.Script) {
			s.Claim(1, "a", 0, "r0", lease).Present(1, "a", 1, "r0", "r1").Answer(1, "a", 1, "t1", "r1").Save(1, "a", 2, "t1", "r1").Pause(1, 3, 20*second).Call(1, 0, 20*second, "t1")
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := storm.NewScript()
			test.script(s)
			got := s.Violations()
			if (test.want == "") != (len(got) == 0) || !slices.ContainsFunc(append(got, ""), func(v string) bool { return strings.Contains(v, test.want) }) {
				t.Errorf("violations = %q, want %q", got, test.want)
			}
		})
	}
}

func TestTooManyViolationsEndWithAndMore(t *testing.T) {
	s := storm.NewScript()
	for i := range 30 {
		s.Present(1, fmt.Sprint("nobody's claim ", i), 1, "r0", "r1")
	}
	got := s.Violations()
	if len(got) != 21 || !strings.Contains(got[19], "without a claim") || got[20] != "and more" {
		t.Errorf("violations = %q, want 20 and that there were more", got)
	}
}

// In a record, no class is a success.
func TestEveryErrorHasAClass(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"authorize again":       {credentials.ErrReauthRequired, "reauth_required"},
		"exchange":              {&credentials.RefreshError{Class: credentials.Unknown}, "unknown"},
		"exchange of no class":  {new(credentials.RefreshError), "untyped"},
		"store":                 {credentials.ErrUnavailable, "unavailable"},
		"the caller's own end":  {context.Canceled, "deadline"},
		"nothing that is known": {errors.New("out of luck"), "untyped"},
	} {
		if got := storm.ErrorClass(over, test.err); got != test.want {
			t.Errorf("%s: class %q, want %q", name, got, test.want)
		}
	}
}

// A lost refresh token is told from one that died with its holder or with the answer.
func TestAuditFindsLostTokens(t *testing.T) {
	for name, test := range map[string]struct {
		answered, killed, saved bool
		want                    [3]int // lost, with the holder, with the answer
	}{
		"saved":               {answered: true, saved: true},
		"thrown away":         {answered: true, want: [3]int{1, 0, 0}},
		"died with holder":    {answered: true, killed: true, want: [3]int{0, 1, 0}},
		"saved, then killed":  {answered: true, saved: true, killed: true},
		"lost with an answer": {want: [3]int{0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := provider.New(provider.Options{})
			s := storm.NewScript()
			got := s.Lost(t, p, open(t, database(t)), test.answered, test.killed, test.saved)
			if got != test.want {
				t.Errorf("lost = %v, want %v", got, test.want)
			}
		})
	}
}
