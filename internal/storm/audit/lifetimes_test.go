package audit_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// issue is an access token of account-1. Times are milliseconds from the storm's begin. by is the
// worker that got the token, and 0 for a seeded one.
type issue struct {
	token         string
	by            int
	presented, at int
}

// call is a call of a worker for account-1, in milliseconds from the storm's begin.
type call struct {
	worker     int
	token      string // "" after an error.
	start, end int
	first      bool
}

// Tokens live ten seconds here; t1 takes the place of t0 after eight.
var (
	both = []issue{
		{token: "t0"}, {token: "t1", by: 1, presented: 8000, at: 8200},
	}
	usual = []call{
		got(1, "t0", 100), got(2, "t0", 100), got(1, "t0", 8250), got(1, "t1", 8260),
		got(2, "t0", 8300), got(2, "t1", 8310),
	}
)

// got is a call that took a millisecond.
func got(worker int, token string, start int) call {
	return call{worker: worker, token: token, start: start, end: start + 1}
}

func fingerprint(token string) string {
	return wire.Fingerprint(credentials.NewSecret(token))
}

// judgeLifetimes judges a storm of workers 1 and 2, whose workers stopped asking at end. The
// provider saw a presentation for each renewed token, and the extra ones.
func judgeLifetimes(
	issues []issue, calls []call, row audit.Row, end int, extra ...provider.Presentation,
) report.Report {
	begin := time.Now()
	base := history.At(begin)
	at := func(ms int) int64 { return base + int64(ms)*int64(time.Millisecond) }
	ms := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	results := make(map[int]wire.Result)
	for worker := 1; worker <= 2; worker++ {
		var account wire.AccountCalls
		failures := make(map[string]int)
		for _, i := range issues {
			if i.by == worker {
				account.Own(fingerprint(i.token))
			}
		}
		for _, c := range calls {
			if c.worker != worker {
				continue
			}
			account.Add(wire.EndedCall{
				Token: fingerprint(c.token), First: c.first,
				Start: at(c.start), End: at(c.end), Took: ms(c.end - c.start),
			})
			if c.token == "" {
				failures["out of luck"]++
			}
		}
		results[worker] = wire.Result{Calls: &wire.Calls{
			Accounts: []wire.AccountCalls{account}, Failures: failures, Until: at(end),
		}}
	}
	var issued []provider.Issue
	var presentations []provider.Presentation
	for n, i := range issues {
		one := provider.Issue{Account: "account-1", Token: i.token, At: begin.Add(ms(i.at))}
		if i.by > 0 {
			one.Presented = begin.Add(ms(i.presented))
			presentations = append(presentations, provider.Presentation{
				Account: "account-1", Serial: int64(n), Next: int64(n + 1), Outcome: provider.Issued,
				Start: one.Presented, End: one.At,
			})
		}
		issued = append(issued, one)
	}
	for _, p := range extra {
		p.Start, p.End = begin.Add(11*time.Second), begin.Add(11*time.Second)
		presentations = append(presentations, p)
	}
	stats := provider.Summarize(presentations)
	r := report.New(stats, []string{"account-1"})
	r.Processes, r.Threads, r.Renewals = 2, 1, new(report.Renewals)
	round := audit.Round{Results: results, Rows: []audit.Row{row}, Stats: stats}
	audit.Lifetimes(&r, round, 10*time.Second, issued)
	return r
}

// lifetimesCase is a storm over one lifetime.
type lifetimesCase struct {
	issues []issue // Both if nil.
	calls  []call  // The usual ones if nil.
	call   *call   // One more call.
	row    string  // The token in the row, "t1" if empty.
	old    bool    // The refresh token in the row is not the newest.
	end    int     // 12 s if zero.
	extra  []provider.Presentation

	unneeded                   bool // No exchange is needed, and else one.
	duplicates, waited, failed int
	want                       []string
}

var lifetimesCases = map[string]lifetimesCase{
	"as it should be": {},
	"again for the same expiry": {
		issues: append(slices.Clone(both), issue{token: "t2", by: 2, presented: 8300, at: 8500}),
		row:    "t2", duplicates: 1,
		want: []string{"2 calls where 1 were needed", "1 exchanges too many"},
	},
	"expired": {
		issues: both[:1], row: "t0", calls: usual[:1], want: []string{"0 calls where 1 were needed"},
	},
	"not yet expired": {
		issues: both[:1], row: "t0", calls: usual[:1], end: 9000, unneeded: true,
	},
	"a call waited for the exchange": {
		call:   &call{worker: 2, token: "t1", start: 7900, end: 8250},
		waited: 1, want: []string{"1 callers waited"},
	},
	"a look waited until the exchange was over": {
		call: &call{worker: 2, token: "t1", start: 8100, end: 8250},
	},
	"a look waited before the exchange": {
		call: &call{worker: 2, token: "t0", start: 7900, end: 7950},
	},
	"the first call waited for the exchange": {
		call:   &call{worker: 2, token: "t1", start: 7900, end: 8250, first: true},
		waited: 1, want: []string{"1 callers waited"},
	},
	"a call failed": {
		call: &call{worker: 2, start: 9000, end: 9001}, failed: 1,
		want: []string{"worker 2: 1 callers failed: out of luck", "1 of 7 callers got no token"},
	},
	"nobody's token": {
		call: &call{worker: 2, token: "t9", start: 9000, end: 9001},
		want: []string{"worker 2: callers got a token of account-1 that was not issued for it"},
	},
	"an expired token": {
		call: &call{worker: 2, token: "t0", start: 10_500, end: 10_501},
		want: []string{"worker 2: callers got a token of account-1 that had expired"},
	},
	"the row was left behind": {
		row: "t0", old: true,
		want: []string{"does not hold the newest token", "does not hold the newest refresh token"},
	},
	"an old refresh token": {
		extra:      []provider.Presentation{{Account: "account-1", Serial: 1, Outcome: provider.Reused}},
		duplicates: 1,
		want: []string{
			"2 calls where 1 were needed", "1 exchanges too many",
			"reuse of a refresh token 1 times", "1 calls of the endpoint brought no token",
		},
	},
}

func TestLifetimesAreHeldAgainstWhatWasNeeded(t *testing.T) {
	for name, test := range lifetimesCases {
		t.Run(name, func(t *testing.T) {
			issues, calls := both, usual
			if test.issues != nil {
				issues = test.issues
			}
			if test.calls != nil {
				calls = test.calls
			}
			if test.call != nil {
				calls = append(slices.Clone(calls), *test.call)
			}
			row := audit.Row{Token: fingerprint(cmp.Or(test.row, "t1")), Newest: !test.old}
			r := judgeLifetimes(issues, calls, row, cmp.Or(test.end, 12_000), test.extra...)
			if r.OK != (len(test.want) == 0) || len(r.Violations) != len(test.want) {
				t.Errorf("OK = %v, violations = %q, want %q", r.OK, r.Violations, test.want)
			}
			for _, text := range test.want {
				contains := func(v string) bool { return strings.Contains(v, text) }
				if !slices.ContainsFunc(r.Violations, contains) {
					t.Errorf("violations = %q, want %q among them", r.Violations, text)
				}
			}
			counts := []int{
				r.Refreshes.Needed, r.Refreshes.Calls, r.Refreshes.Duplicates,
				r.CallersWaited, r.CallersFailed, r.Callers,
			}
			want := []int{
				1, len(issues) - 1 + len(test.extra), test.duplicates,
				test.waited, test.failed, len(calls),
			}
			if test.unneeded {
				want[0] = 0
			}
			if !slices.Equal(counts, want) {
				t.Errorf("needed, calls, duplicates, waited, failed, callers = %v, want %v", counts, want)
			}
		})
	}
}

func TestServedAfterReplaced(t *testing.T) {
	issues := append(slices.Clone(both), issue{token: "t2", by: 2, presented: 16_200, at: 16_400})
	for name, test := range map[string]struct {
		calls []call
		want  report.ServedAfterReplaced
	}{
		"nobody asked": {},
		"began before, and ended after": {
			calls: []call{{worker: 2, token: "t0", start: 8199, end: 8900}},
		},
		"elsewhere, later than where it was renewed": {
			calls: []call{
				got(2, "t0", 8300), got(1, "t0", 8210), got(2, "t0", 8290), got(1, "t1", 8220),
			},
			want: report.ServedAfterReplaced{P99: 100, Max: 100, MaxInRenewer: 10, MaxInOthers: 100},
		},
		"each one's own renewer": {
			calls: []call{got(1, "t0", 8230), got(2, "t1", 16_440), got(1, "t1", 16_450)},
			want:  report.ServedAfterReplaced{P99: 50, Max: 50, MaxInRenewer: 40, MaxInOthers: 50},
		},
		"the newest is not replaced": {calls: []call{got(1, "t2", 20_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			row := audit.Row{Token: fingerprint("t2"), Newest: true}
			r := judgeLifetimes(issues, test.calls, row, 20_000)
			if r.ServedAfterReplaced != test.want {
				t.Errorf("served after replaced = %+v, want %+v", r.ServedAfterReplaced, test.want)
			}
			if r.Renewers != 2 {
				t.Errorf("renewers = %d, want 2", r.Renewers)
			}
		})
	}
}
