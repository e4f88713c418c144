package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/internal/storm"
)

func TestStormKillsAHolder(t *testing.T) {
	useServer(t, "kill")
	got := ok(t, "", "storm", "--kill", "exchange", "--accounts", "1", "--processes", "2")
	if got["ok"] != true || got["kills"] != 1.0 || got["replays"] != 1.0 || got["tokens_lost"] != 0.0 || got["fault"] != "kill exchange" {
		t.Errorf("storm --kill exchange --json: %v", got)
	}
	if refreshes := got["refreshes"].(map[string]any); refreshes["needed"] != 1.0 || refreshes["calls"] != 2.0 {
		t.Errorf("refreshes = %v, want 1 needed and 2 calls", refreshes)
	}
	r := demo("", "storm", "--kill", "before-save", "--provider", "revoke", "--accounts", "1", "--processes", "2")
	if r.status != 0 || !strings.Contains(r.stdout, "1 grant lost with the holder that was killed") || !strings.Contains(r.stdout, "reauth_required") {
		t.Errorf("storm --kill before-save --provider revoke: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestStormRestartsOnlyAServerOfItsOwn(t *testing.T) {
	useNoServer(t, "1")
	got := ok(t, "", "storm", "--restart", "save")
	if got["ok"] != true || got["restarts"] != 1.0 || !strings.HasSuffix(got["server"].(string), "(private)") {
		t.Errorf("storm --restart save --json: %v", got)
	}
	useServer(t, "restart")
	r := demo("", "storm", "--restart", "save", "--json")
	if r.status != exitUsage || r.stdout != "" || !strings.Contains(r.stderr, "--restart restarts a private server") || strings.Count(r.stderr, "\ndemo: ") != 1 {
		t.Errorf("storm --restart save on a server that was named: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestStormChaos(t *testing.T) {
	useServer(t, "chaos")
	r := demo("", "storm", "--chaos", "--duration", "2s", "--seed", "5", "--accounts", "3")
	for _, want := range []string{"what came of it", "(seed 5)", "3 accounts", "\nOK: "} {
		if r.status != 0 || !strings.Contains(r.stdout, want) {
			t.Fatalf("storm --chaos: status %d, want %q in\n%s%s", r.status, want, r.stdout, r.stderr)
		}
	}
}

func TestStormFlagsThatDoNotGoTogether(t *testing.T) {
	useNoServer(t, "1")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"two faults":              {[]string{"--kill", "exchange", "--pause"}, "choose one"},
		"unknown step":            {[]string{"--kill", "never"}, "after-claim, exchange and before-save"},
		"empty kill":              {[]string{"--kill", ""}, "--kill is empty"},
		"empty restart":           {[]string{"--restart="}, "--restart is empty"},
		"empty provider":          {[]string{"--pause", "--provider", ""}, "--provider is empty"},
		"seed of zero":            {[]string{"--chaos", "--seed", "0"}, "--seed is 0"},
		"seed without chaos":      {[]string{"--seed", "3"}, "--seed is for --chaos"},
		"duration without chaos":  {[]string{"--pause", "--duration", "3s"}, "--duration is for --chaos"},
		"no duration":             {[]string{"--chaos", "--duration", "0s"}, "--duration is 0s"},
		"no timeout":              {[]string{"--timeout", "0s"}, "--timeout is 0s"},
		"rounds of chaos":         {[]string{"--chaos", "--rounds", "3"}, "--rounds is not for --chaos"},
		"provider without faults": {[]string{"--provider", "revoke"}, "--provider is for"},
		"unknown provider":        {[]string{"--pause", "--provider", "kind"}, "grace and revoke"},
		"lifetimes and chaos":     {[]string{"--lifetimes", "2", "--chaos"}, "--chaos is not for --lifetimes"},
		"lifetime and rounds":     {[]string{"--lifetime", "4s", "--rounds", "2"}, "--rounds is not for --lifetimes"},
		"lifetimes and provider":  {[]string{"--lifetimes", "2", "--provider", "grace"}, "--provider is for"},
		"lifetimes and seed":      {[]string{"--lifetimes", "2", "--seed", "3"}, "--seed is for --chaos"},
		"no lifetimes":            {[]string{"--lifetimes", "0"}, "--lifetimes is 0"},
		"no lifetime":             {[]string{"--lifetime", "0s"}, "--lifetime is 0s"},
		"short lifetime":          {[]string{"--lifetime", "1s"}, "at least 2s, since"},
		"slow renewal":            {[]string{"--lifetime", "2s", "--latency", "1s"}, "latency 1s is too long"},
		"timeout of lifetimes":    {[]string{"--lifetimes", "2", "--timeout", "5s"}, "timeout 5s is not longer than 2 lifetimes of 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			r := demo("", append([]string{"storm"}, test.args...)...)
			if r.status != exitUsage || !strings.Contains(r.stderr, test.want) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("status %d: %s, want %d and %q in one line", r.status, r.stderr, exitUsage, test.want)
			}
		})
	}
}

func TestStormOverLifetimes(t *testing.T) {
	useServer(t, "lifetimes")
	storm := func() (got map[string]any) {
		r := demo("", "storm", "--lifetime", "6s", "--lifetimes", "2", "--processes", "2", "--latency", "20ms", "--json")
		must(t, json.Unmarshal([]byte(r.stdout), &got))
		if waited := got["callers_waited"] != 0.0; r.status != 0 && !waited || got["ok"] != (r.status == 0) {
			t.Fatalf("storm --lifetimes --json: status %d: %s%s", r.status, r.stdout, r.stderr)
		}
		if waited, calls := got["callers_waited"].(float64), got["callers"].(float64); waited > calls/100 {
			t.Fatalf("%v of %v callers waited, which no stall explains: %s", waited, calls, r.stdout)
		}
		return got
	}
	// A server that stalls for a second lets a token expire, and then callers have to wait: each thread once or
	// twice, since it asks for nothing else meanwhile. So there are more tries for a few of them, and for nothing else.
	got := storm()
	for range 2 {
		if got["callers_waited"] != 0.0 {
			t.Logf("callers waited: %v", got)
			got = storm()
		}
	}
	if got["ok"] != true || got["callers_waited"] != 0.0 || got["callers_failed"] != 0.0 || len(got["violations"].([]any)) != 0 {
		t.Errorf("storm --lifetimes --json: %v", got)
	}
	// 3 accounts, 2 expiries of each.
	if r := got["refreshes"].(map[string]any); r["calls"] != r["needed"] || r["needed"].(float64) < 6 || r["duplicates"] != 0.0 {
		t.Errorf("refreshes = %v, want as many calls as needed, 6 or more", r)
	}
	if calls := got["callers"].(float64); calls < 100 || calls != got["callers_ok"] || got["lifetimes"] != 2.0 || got["lifetime_ms"] != 6000.0 {
		t.Errorf("storm --lifetimes --json: %v", got)
	}
}

func TestLifetimesVerdict(t *testing.T) {
	r := storm.Report{
		Processes: 4, Threads: 2, Accounts: 3, Callers: 5000, EndpointLatencyMS: 200, Server: "MySQL", Violations: []string{"this"},
		LatencyMS: storm.Latency{P99: 0.0123},
		Renewals: &storm.Renewals{
			Lifetimes: 3, LifetimeMS: 10_000, CallersWaited: 2, Renewers: 4, ClaimsLost: 1,
			ServedAfterReplaced: storm.ServedAfterReplaced{P99: 80, Max: 90, MaxInRenewer: 4, MaxInOthers: 90},
		},
	}
	for _, want := range []string{
		"over 3 lifetimes of 10s on MySQL: 5000 calls, 0 exchanges by 4 processes, 1 claim lost to another", "2 callers waited", "0.0123",
		"up to 90.0 ms after the provider had issued the next one (p99 80.0): 4.0 where it was renewed, 90.0 elsewhere", "BROKEN:\n  - this\n",
	} {
		if got := stormTable(r); !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	r.Violations, r.OK = nil, true
	if got := stormTable(r); !strings.Contains(got, "\nOK: one exchange for each expiry, and nobody waited for it.") {
		t.Errorf("the verdict is missing in\n%s", got)
	}
}

func TestVerdictShowsWhatBroke(t *testing.T) {
	r := storm.Report{Violations: []string{"this", "and that"}, Faults: &storm.Faults{
		Seed: 1, TokensLost: 2, ProviderFaults: map[string]int{"hang": 3}, Errors: map[string]int{},
	}}
	for _, want := range []string{"tokens lost", "│    2 │", "3 hang", "breaks the rules", "BROKEN:\n  - this\n  - and that\n"} {
		if got := stormTable(r); !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
}
