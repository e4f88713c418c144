package storm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm"
)

const second = time.Second

// tokens live ten seconds here; t1 takes the place of t0 after eight.
var (
	seeded  = storm.LifeIssue{Token: "t0"}
	renewed = storm.LifeIssue{Token: "t1", By: 1, Presented: 8 * second, At: 8200 * time.Millisecond}
)

func at(milliseconds int) time.Duration { return time.Duration(milliseconds) * time.Millisecond }

// got is a call that took a millisecond.
func got(worker int, token string, start int) storm.LifeCall {
	return storm.LifeCall{Worker: worker, Token: token, Start: at(start), End: at(start + 1)}
}

func TestLifetimesAreHeldAgainstWhatWasNeeded(t *testing.T) {
	usual := []storm.LifeCall{got(1, "t0", 100), got(2, "t0", 100), got(1, "t0", 8250), got(1, "t1", 8260), got(2, "t0", 8300), got(2, "t1", 8310)}
	for name, test := range map[string]struct {
		issues []storm.LifeIssue
		calls  []storm.LifeCall
		row    string // t1 if empty
		old    bool   // the refresh token in the row is not the newest
		end    int    // 12 s if zero
		extra  []provider.Presentation

		needed, duplicates, waited, failed int
		want                               []string
	}{
		"as it should be": {issues: []storm.LifeIssue{seeded, renewed}, calls: usual, needed: 1},
		"again for the same expiry": {
			issues: []storm.LifeIssue{seeded, renewed, {Token: "t2", By: 2, Presented: at(8300), At: at(8500)}}, calls: usual, row: "t2",
			needed: 1, duplicates: 1,
			want: []string{"2 calls where 1 were needed", "1 exchanges too many"},
		},
		"expired": {
			issues: []storm.LifeIssue{seeded}, row: "t0", calls: []storm.LifeCall{got(1, "t0", 100)},
			needed: 1, want: []string{"0 calls where 1 were needed"},
		},
		"not yet expired": {issues: []storm.LifeIssue{seeded}, row: "t0", calls: []storm.LifeCall{got(1, "t0", 100)}, end: 9000},
		"a call waited": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, waited: 1, want: []string{"1 callers waited"},
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Token: "t1", Start: at(8100), End: at(8250), Waited: true}),
		},
		"a call overlapped the exchange": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, waited: 1, want: []string{"1 callers waited"},
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Token: "t1", Start: at(7900), End: at(8250)}),
		},
		"a call that waited overlapped the exchange": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, waited: 1, want: []string{"1 callers waited"},
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Token: "t1", Start: at(7900), End: at(8250), Waited: true}),
		},
		"a call was interrupted before it looked": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1,
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Token: "t1", Start: at(8100), End: at(8250)}),
		},
		"the first look reads the row": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1,
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Token: "t0", Start: at(1), End: at(90), First: true, Waited: true}),
		},
		"the first look waited for the exchange": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, waited: 1, want: []string{"1 callers waited"},
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Token: "t1", Start: at(7900), End: at(8250), First: true, Waited: true}),
		},
		"a call failed": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, failed: 1,
			calls: append(slices.Clone(usual), storm.LifeCall{Worker: 2, Start: at(9000), End: at(9001), Err: errors.New("out of luck")}),
			want:  []string{"worker 2: 1 callers failed: out of luck", "1 of 7 callers got no token"},
		},
		"nobody's token": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, calls: append(slices.Clone(usual), got(2, "t9", 9000)),
			want: []string{"worker 2: callers got a token of account-1 that was not issued for it"},
		},
		"an expired token": {
			issues: []storm.LifeIssue{seeded, renewed}, needed: 1, calls: append(slices.Clone(usual), got(2, "t0", 10_500)),
			want: []string{"worker 2: callers got a token of account-1 that had expired"},
		},
		"the row was left behind": {
			issues: []storm.LifeIssue{seeded, renewed}, calls: usual, row: "t0", old: true, needed: 1,
			want: []string{"does not hold the newest token", "does not hold the newest refresh token"},
		},
		"an old refresh token": {
			issues: []storm.LifeIssue{seeded, renewed}, calls: usual, needed: 1, duplicates: 1,
			extra: []provider.Presentation{{Account: "account-1", Serial: 1, Outcome: provider.Reused}},
			want:  []string{"2 calls where 1 were needed", "1 exchanges too many", "reuse of a refresh token 1 times", "1 calls of the endpoint brought no token"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			var presentations []provider.Presentation
			for i, one := range test.issues {
				if one.By > 0 {
					presentations = append(presentations, provider.Presentation{
						Account: "account-1", Serial: int64(i), Next: int64(i + 1), Outcome: provider.Issued, Start: begin.Add(one.Presented), End: begin.Add(one.At),
					})
				}
			}
			for _, p := range test.extra {
				p.Start, p.End = begin.Add(11*second), begin.Add(11*second)
				presentations = append(presentations, p)
			}
			row, end := test.row, at(test.end)
			if row == "" {
				row = "t1"
			}
			if end == 0 {
				end = 12 * second
			}
			r := storm.JudgeLifetimes(10*second, test.issues, test.calls, row, !test.old, end, provider.Summarize(presentations))
			if r.OK != (len(test.want) == 0) || len(r.Violations) != len(test.want) {
				t.Errorf("OK = %v, violations = %q, want %q", r.OK, r.Violations, test.want)
			}
			for _, text := range test.want {
				if !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.Contains(v, text) }) {
					t.Errorf("violations = %q, want %q among them", r.Violations, text)
				}
			}
			if r.Refreshes.Needed != test.needed || r.Refreshes.Calls != len(presentations) || r.Refreshes.Duplicates != test.duplicates {
				t.Errorf("refreshes = %+v, want %d needed, %d calls, %d duplicates", r.Refreshes, test.needed, len(presentations), test.duplicates)
			}
			if r.CallersWaited != test.waited || r.CallersFailed != test.failed || r.Callers != len(test.calls) {
				t.Errorf("%d of %d callers waited, %d failed; want %d of %d, %d",
					r.CallersWaited, r.Callers, r.CallersFailed, test.waited, len(test.calls), test.failed)
			}
		})
	}
}

func TestServedAfterReplaced(t *testing.T) {
	issues := []storm.LifeIssue{seeded, renewed, {Token: "t2", By: 2, Presented: at(16_200), At: at(16_400)}}
	for name, test := range map[string]struct {
		calls []storm.LifeCall
		want  storm.ServedAfterReplaced
	}{
		"nobody asked": {},
		"began before, and ended after": {
			calls: []storm.LifeCall{{Worker: 2, Token: "t0", Start: at(8199), End: at(8900)}},
		},
		"elsewhere, later than where it was renewed": {
			calls: []storm.LifeCall{got(2, "t0", 8300), got(1, "t0", 8210), got(2, "t0", 8290), got(1, "t1", 8220)},
			want:  storm.ServedAfterReplaced{P99: 100, Max: 100, MaxInRenewer: 10, MaxInOthers: 100},
		},
		"each one's own renewer": {
			calls: []storm.LifeCall{got(1, "t0", 8230), got(2, "t1", 16_440), got(1, "t1", 16_450)},
			want:  storm.ServedAfterReplaced{P99: 50, Max: 50, MaxInRenewer: 40, MaxInOthers: 50},
		},
		"the newest is not replaced": {calls: []storm.LifeCall{got(1, "t2", 20_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := storm.JudgeLifetimes(10*second, issues, test.calls, "t2", true, 20*second, provider.Summarize(nil))
			if r.ServedAfterReplaced != test.want {
				t.Errorf("served after replaced = %+v, want %+v", r.ServedAfterReplaced, test.want)
			}
			if r.Renewers != 2 {
				t.Errorf("renewers = %d, want 2", r.Renewers)
			}
		})
	}
}

// The log must not grow with the calls, of which a storm makes millions.
func TestCallLogIsBounded(t *testing.T) {
	if got := storm.EarlyCalls(10_000, 8); got != 8 {
		t.Errorf("the log keeps the starts of %d calls of 8 threads, want 8", got)
	}
}

func TestHistogram(t *testing.T) {
	for d := time.Duration(0); d < math.MaxInt64/2; d += d/37 + 1 {
		n, end := storm.Buckets(d)
		next, _ := storm.Buckets(end + 1)
		if end < d || end-d > d/16 || next != n+1 {
			t.Fatalf("%d ns is in bucket %d, which ends at %d and has bucket %d behind it", d, n, end, next)
		}
	}
	var took []time.Duration
	for i := range 1000 {
		took = append(took, time.Duration(i+1)*time.Microsecond)
	}
	got := storm.Histogram(took)
	near := func(got, want float64) bool { return got >= want && got <= want*17/16 }
	if !near(got.P50, 0.5) || !near(got.P99, 0.99) || got.Max != 1 {
		t.Errorf("latency = %+v of 0.001 to 1 ms", got)
	}
	if got := storm.Histogram(nil); got != (storm.Latency{}) {
		t.Errorf("latency = %+v of no calls", got)
	}
}

// The provider's times and the workers' are compared.
func TestClocksArePaired(t *testing.T) {
	if off := storm.ClockPairs(); off > time.Millisecond {
		t.Errorf("the clocks are %v apart", off)
	}
}

// Who waits for anything watches for the end of its context, and who has a token at hand does not.
func TestCallsThatWaitAreSeen(t *testing.T) {
	store := memstore.New()
	key := credentials.Key{Service: "s", Account: "a"}
	must(t, store.Put(t.Context(), key, credentials.Grant{RefreshToken: credentials.NewSecret("r")}))
	m, err := credentials.NewManager(store, credentials.Services{"s": {Refresher: credentials.RefresherFunc(
		func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{Token: credentials.NewSecret("t"), Lifetime: time.Hour}, nil
		})}}, nil)
	must(t, err)
	for i, want := range []bool{true, false} {
		ctx, waited := storm.CallContext(t.Context())
		_, err := m.Token(ctx, key)
		must(t, err)
		if waited() != want {
			t.Errorf("call %d waited: %v, want %v", i+1, waited(), want)
		}
	}
	must(t, m.Close(t.Context()))
}

func TestLifetimesThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  storm.Config
		want string
	}{
		"a lifetime alone":  {storm.Config{Lifetime: 10 * second}, "no number of lifetimes"},
		"negative":          {storm.Config{Lifetimes: -1}, "-1 is not between"},
		"short":             {storm.Config{Lifetimes: 1, Lifetime: second}, "at least 2s, since"},
		"negative lifetime": {storm.Config{Lifetimes: 1, Lifetime: -second}, "at least 2s"},
		"long":              {storm.Config{Lifetimes: 1, Lifetime: 25 * time.Hour}, "at most 24h"},
		"fractions":         {storm.Config{Lifetimes: 1, Lifetime: at(2500)}, "whole seconds"},
		"slow endpoint":     {storm.Config{Lifetimes: 1, Lifetime: 2 * second, Latency: at(201)}, "may take half"},
		"faults":            {storm.Config{Lifetimes: 1, Pause: true}, "together with kill"},
		"rounds":            {storm.Config{Lifetimes: 1, Rounds: 2}, "together with rounds"},
		"too little time":   {storm.Config{Lifetimes: 3, Timeout: 30 * second}, "timeout 30s is not longer"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.cfg.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Check = %v, want %q", err, test.want)
			}
		})
	}
	for name, cfg := range map[string]storm.Config{
		"defaults": {Lifetimes: storm.DefaultLifetimes}, "the shortest": {Lifetimes: 1, Lifetime: 2 * second}, "none": {},
	} {
		if err := cfg.Check(); err != nil {
			t.Errorf("%s: Check = %v", name, err)
		}
	}
}

// The members of a storm over several lifetimes are in its JSON, and in no other's.
func TestLifetimesJSON(t *testing.T) {
	for _, test := range []struct {
		report storm.Report
		want   bool
	}{
		{storm.Report{Renewals: &storm.Renewals{}}, true},
		{storm.Report{}, false},
	} {
		text, err := json.Marshal(test.report)
		must(t, err)
		for _, name := range []string{
			"lifetimes", "lifetime_ms", "callers_waited", "served_after_replaced_ms", "max_in_renewer", "max_in_others", "processes_that_renewed", "claims_lost",
		} {
			if bytes.Contains(text, []byte(`"`+name+`"`)) != test.want {
				t.Errorf("%s is in %s: %v, want %v", name, text, !test.want, test.want)
			}
		}
	}
}

func TestLifetimesReportWhatBroke(t *testing.T) {
	for fault, want := range map[string][]string{
		"dies":               {"worker 1 ended unexpectedly: exit status 3: out of luck"},
		"calls twice":        {"exchanges too many", "1 calls of the endpoint brought no token"},
		"holds a connection": {"a flight held 1 connections during its exchange"},
	} {
		t.Run(fault, func(t *testing.T) {
			cfg := config(database(t), fault)
			cfg.Processes, cfg.Lifetimes, cfg.Lifetime, cfg.Latency = 2, 1, 2*second, at(20)
			r, err := storm.Run(t.Context(), cfg)
			must(t, err)
			if r.OK {
				t.Error("OK = true")
			}
			got := strings.Join(r.Violations, "\n")
			for _, text := range want {
				if !strings.Contains(got, text) {
					t.Errorf("violations:\n%s\nwant %q among them", got, text)
				}
			}
			if rows := remaining(t, cfg.DSN); rows != 0 {
				t.Errorf("%d rows remain", rows)
			}
		})
	}
}
