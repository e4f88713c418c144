package report_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// members returns the names in the JSON of a report. A nested name follows its parent's after a
// dot.
func members(t *testing.T, r report.Report) []string {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, value := range got {
		names = append(names, name)
		nested, _ := value.(map[string]any)
		for inner, value := range nested {
			if _, ok := value.(float64); !ok {
				t.Errorf("%s.%s is no number in %s", name, inner, text)
			}
			names = append(names, name+"."+inner)
		}
	}
	return names
}

// The names of the members are an interface: scripts read them.
func TestJSON(t *testing.T) {
	usual := strings.Fields(`strategy server sealed processes threads accounts rounds pool callers callers_ok
		callers_failed refreshes refreshes.needed refreshes.calls refreshes.duplicates
		refreshes.reuse_detected refreshes.max_parallel_per_account refreshes.max_parallel_accounts
		endpoint_latency_ms latency_ms latency_ms.p50 latency_ms.p99 latency_ms.max
		connections_in_use_during_exchange connections_in_use_during_exchange.max elapsed_ms per_account
		violations ok`)
	renewals := strings.Fields(`lifetimes lifetime_ms callers_waited served_after_replaced_ms
		served_after_replaced_ms.p99 served_after_replaced_ms.max served_after_replaced_ms.max_in_renewer
		served_after_replaced_ms.max_in_others processes_that_renewed claims_lost`)
	for name, test := range map[string]struct {
		renewals *report.Renewals
		want     []string
	}{
		"rounds":    {nil, usual},
		"lifetimes": {new(report.Renewals), slices.Concat(usual, renewals)},
	} {
		r := report.New(provider.Summarize(nil), []string{"a"})
		r.Renewals = test.renewals
		got := members(t, r)
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: members %q, want %q", name, got, test.want)
		}
	}
}

func TestTooManyViolationsEndWithAndMore(t *testing.T) {
	r := report.New(provider.Summarize(nil), nil)
	if !r.OK || r.Violations == nil {
		t.Errorf("OK = %v, violations = %v; want true and an empty list", r.OK, r.Violations)
	}
	for i := range 30 {
		r.Violated("violation %d", i)
	}
	want := []string{"violation 19", "and more"}
	if r.OK || len(r.Violations) != 21 || !slices.Equal(r.Violations[19:], want) {
		t.Errorf("OK = %v, violations = %q; want 20 and that there were more", r.OK, r.Violations)
	}
}

func TestLatency(t *testing.T) {
	var took []time.Duration
	var h wire.Histogram
	for i := range 1000 {
		took = append(took, time.Duration(1000-i)*time.Millisecond)
		h.Add(time.Duration(i+1) * time.Microsecond)
	}
	want := report.Latency{P50: 500, P99: 990, Max: 1000}
	if got := report.LatencyOf(took); got != want {
		t.Errorf("latency = %+v, want %+v", got, want)
	}
	near := func(got, want float64) bool { return got >= want && got <= want*17/16 }
	got := report.LatencyOfHistogram(h)
	if !near(got.P50, 0.5) || !near(got.P99, 0.99) || got.Max != 1 {
		t.Errorf("latency = %+v of 0.001 to 1 ms", got)
	}
	none := report.Latency{}
	if report.LatencyOf(nil) != none || report.LatencyOfHistogram(wire.Histogram{}) != none {
		t.Error("the latency of no calls is not 0")
	}
}

func TestTextOverLifetimes(t *testing.T) {
	r := report.Report{
		Processes: 4, Threads: 2, Accounts: 3, Callers: 5000, EndpointLatencyMS: 200, Server: "MySQL",
		LatencyMS: report.Latency{P99: 0.0123},
		Renewals: &report.Renewals{
			Lifetimes: 3, LifetimeMS: 10_000, CallersWaited: 2, Renewers: 4, ClaimsLost: 1,
			ServedAfterReplaced: report.ServedAfterReplaced{
				P99: 80, Max: 90, MaxInRenewer: 4, MaxInOthers: 90,
			},
		},
	}
	r.Violated("this")
	wantText(t, r,
		"over 3 lifetimes of 10s on MySQL: 5000 calls, 0 exchanges by 4 processes, "+
			"1 claim lost to another", "2 callers waited", "0.0123",
		"up to 90.0 ms after the provider had issued the next one (p99 80.0): "+
			"4.0 where it was renewed, 90.0 elsewhere", "BROKEN:\n  - this\n")
	r.Violations, r.OK = nil, true
	wantText(t, r, "\nOK: one exchange for each expiry, and nobody waited for it.")
}

func TestTextOfChaos(t *testing.T) {
	r := report.Report{Violations: []string{"this", "and that"}, Faults: &report.Faults{
		Seed: 1, TokensLost: 2, ProviderFaults: map[string]int{"hang": 3},
	}}
	wantText(t, r, "tokens lost", "│    2 │", "3 hang", "breaks the rules",
		"BROKEN:\n  - this\n  - and that\n")
}

func wantText(t *testing.T, r report.Report, parts ...string) {
	t.Helper()
	for _, want := range parts {
		if got := r.Text(); !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
}
