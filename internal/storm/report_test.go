package storm_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm"
)

func TestReportHoldsTheRecordAgainstWhatWasNeeded(t *testing.T) {
	at := time.Now()
	call := func(account string, serial int64, start, end int, outcome provider.Outcome) provider.Presentation {
		return provider.Presentation{
			Account: account, Serial: serial, Outcome: outcome,
			Start: at.Add(time.Duration(start) * time.Second), End: at.Add(time.Duration(end) * time.Second),
		}
	}
	first := []provider.Presentation{call("a", 1, 0, 2, provider.Issued), call("b", 2, 1, 3, provider.Issued)}
	for name, test := range map[string]struct {
		second []provider.Presentation
		want   []string
	}{
		"as needed": {
			second: []provider.Presentation{call("a", 3, 10, 12, provider.Issued), call("b", 4, 11, 13, provider.Issued)},
		},
		"too few": {
			second: []provider.Presentation{call("a", 3, 10, 12, provider.Issued)},
			want:   []string{"the endpoint got 3 calls where 4 were needed"},
		},
		"one account twice, the other not": {
			second: []provider.Presentation{call("a", 3, 10, 12, provider.Issued), call("a", 5, 13, 14, provider.Issued)},
			want:   []string{"1 exchanges too many: the same account again in the same round"},
		},
		"at the same moment": {
			second: []provider.Presentation{
				call("a", 3, 10, 12, provider.Issued), call("b", 4, 11, 13, provider.Issued), call("b", 4, 12, 14, provider.Reused),
			},
			want: []string{
				"the endpoint got 5 calls where 4 were needed",
				"1 exchanges too many: the same account again in the same round",
				"the endpoint detected the reuse of a refresh token 1 times",
				"2 exchanges of one account were under way at the same moment",
			},
		},
		"nobody's token": {
			second: []provider.Presentation{
				call("a", 3, 10, 12, provider.Issued), call("b", 4, 11, 13, provider.Issued), call("", 0, 20, 21, provider.NeverWas),
			},
			want: []string{"the endpoint got 5 calls where 4 were needed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storm.Config{Processes: 2, Threads: 2, Accounts: 2, Rounds: 2}
			r := storm.Judge(cfg, []string{"a", "b"}, []provider.Stats{
				provider.Summarize(first), provider.Summarize(slices.Concat(first, test.second)),
			})
			if !slices.Equal(r.Violations, test.want) || r.OK != (len(test.want) == 0) {
				t.Errorf("OK = %v, violations = %q, want %q", r.OK, r.Violations, test.want)
			}
		})
	}
}

// The names of the members are an interface: scripts read them.
func TestReportJSON(t *testing.T) {
	text, err := json.Marshal(storm.Judge(storm.Config{Processes: 1, Threads: 1, Accounts: 1, Rounds: 1, Latency: 200 * time.Millisecond},
		[]string{"a"}, []provider.Stats{provider.Summarize(nil)}))
	must(t, err)
	var got map[string]any
	must(t, json.Unmarshal(text, &got))
	for _, name := range []string{
		"strategy", "server", "processes", "threads", "accounts", "rounds", "callers", "callers_ok", "callers_failed", "refreshes",
		"endpoint_latency_ms", "latency_ms", "connections_in_use_during_exchange", "violations", "ok",
	} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing in %s", name, text)
		}
	}
	members := map[string][]string{
		"refreshes":                          {"needed", "calls", "duplicates", "reuse_detected", "max_parallel_per_account", "max_parallel_accounts"},
		"latency_ms":                         {"p50", "p99", "max"},
		"connections_in_use_during_exchange": {"max"},
	}
	for name, inner := range members {
		object, _ := got[name].(map[string]any)
		for _, member := range inner {
			if _, ok := object[member].(float64); !ok {
				t.Errorf("%s.%s is no number in %s", name, member, text)
			}
		}
	}
	if got["endpoint_latency_ms"] != 200.0 {
		t.Errorf("endpoint_latency_ms = %v, want 200", got["endpoint_latency_ms"])
	}
}
