package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestStormKillsAHolder(t *testing.T) {
	useServer(t, "kill")
	got := ok(t, "", "storm", "--kill", "exchange", "--accounts", "1", "--processes", "2")
	fields{
		"ok": true, "fault": "kill exchange", "kills": 1.0, "replays": 1.0, "tokens_lost": 0.0,
	}.in(t, got)
	fields{"needed": 1.0, "calls": 2.0}.in(t, got["refreshes"])
	r := demo(t, "", "storm", "--kill", "before-save", "--provider", "revoke",
		"--accounts", "1", "--processes", "2")
	r.ends(0).shows("1 grant lost with the holder that was killed", "dead")
}

func TestStormRestartsOnlyAServerOfItsOwn(t *testing.T) {
	useNoServer(t, "1")
	got := ok(t, "", "storm", "--restart", "save")
	fields{"ok": true, "restarts": 1.0}.in(t, got)
	if !strings.HasSuffix(got["server"].(string), "(private)") {
		t.Errorf("storm --restart save --json: %v", got)
	}
	useServer(t, "restart")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"storm", "--restart", "save", "--json"}, "--restart restarts a private server"},
		{[]string{"storm", "--chaos", "--outage", "9s", "--json"}, "--outage takes a private server away"},
	} {
		r := demo(t, "", test.args...).ends(exitUsage).says(test.want)
		if r.stdout != "" || strings.Count(r.stderr, "\ndemo: ") != 1 {
			t.Errorf("demo %q on a server that was named:\n%s%s", test.args, r.stdout, r.stderr)
		}
	}
}

func TestStormChaos(t *testing.T) {
	useServer(t, "chaos")
	demo(t, "", "storm", "--chaos", "--duration", "2s", "--seed", "5", "--accounts", "3").ends(0).
		shows("what came of it", "server outages", "(seed 5)", "3 accounts", "\nOK: ")
}

func TestStormSeals(t *testing.T) {
	useServer(t, "sealed")
	got := ok(t, "", "storm", "--seal", "--latency", "20ms", "--processes", "2")
	fields{"ok": true, "sealed": true}.in(t, got)
	demo(t, "", "storm", "--chaos", "--seal", "--duration", "2s", "--accounts", "3").ends(0).
		shows("tokens sealed", "\nOK: ")
}

func TestStormFlagsThatDoNotGoTogether(t *testing.T) {
	useNoServer(t, "1")
	fail(t, exitUsage, "", map[string]line{
		"two faults":              {"storm|--kill|exchange|--pause", "choose one"},
		"unknown step":            {"storm|--kill|never", "after-claim, exchange and before-save"},
		"empty kill":              {"storm|--kill|", "--kill is empty"},
		"empty restart":           {"storm|--restart=", "--restart is empty"},
		"empty provider":          {"storm|--pause|--provider|", "--provider is empty"},
		"seed of zero":            {"storm|--chaos|--seed|0", "--seed is 0"},
		"seed without chaos":      {"storm|--seed|3", "--seed is for --chaos"},
		"duration without chaos":  {"storm|--pause|--duration|3s", "--duration is for --chaos"},
		"no duration":             {"storm|--chaos|--duration|0s", "--duration is 0s"},
		"no timeout":              {"storm|--timeout|0s", "--timeout is 0s"},
		"outage without chaos":    {"storm|--kill|exchange|--outage|9s", "--outage is for --chaos and --restart"},
		"no outage":               {"storm|--chaos|--outage|0s", "--outage is 0s"},
		"rounds of chaos":         {"storm|--chaos|--rounds|3", "--rounds is not for --chaos"},
		"provider without faults": {"storm|--provider|revoke", "--provider is for"},
		"unknown provider":        {"storm|--pause|--provider|kind", "grace and revoke"},
		"lifetimes and chaos":     {"storm|--lifetimes|2|--chaos", "--chaos is not for --lifetimes"},
		"lifetime and rounds":     {"storm|--lifetime|4s|--rounds|2", "--rounds is not for --lifetimes"},
		"lifetimes and provider":  {"storm|--lifetimes|2|--provider|grace", "--provider is for"},
		"lifetimes and seed":      {"storm|--lifetimes|2|--seed|3", "--seed is for --chaos"},
		"keyset of others":        {"storm|--keyset|keyset.json", "--seal"},
		"no lifetimes":            {"storm|--lifetimes|0", "--lifetimes is 0"},
		"no lifetime":             {"storm|--lifetime|0s", "--lifetime is 0s"},
		"short lifetime":          {"storm|--lifetime|1s", "at least 2s, since"},
		"slow renewal":            {"storm|--lifetime|2s|--latency|1s", "latency 1s is too long"},
		"timeout of lifetimes":    {"storm|--lifetimes|2|--timeout|5s", "timeout 5s is not longer than 2 lifetimes of 10s"},
	})
}

func TestStormOverLifetimes(t *testing.T) {
	useServer(t, "lifetimes")
	storm := func() (got map[string]any) {
		r := demo(t, "", "storm", "--lifetime", "6s", "--lifetimes", "2",
			"--processes", "2", "--latency", "20ms", "--json")
		must(t, json.Unmarshal([]byte(r.stdout), &got))
		if waited := got["callers_waited"] != 0.0; r.status != 0 && !waited || got["ok"] != (r.status == 0) {
			t.Fatalf("storm --lifetimes --json: status %d: %s%s", r.status, r.stdout, r.stderr)
		}
		if waited, calls := got["callers_waited"].(float64), got["callers"].(float64); waited > calls/100 {
			t.Fatalf("%v of %v callers waited, which no stall explains: %s", waited, calls, r.stdout)
		}
		return got
	}
	// A server that stalls for a second lets a token expire, and then callers have to wait: each
	// thread once or twice, since it asks for nothing else meanwhile. So a few callers that wait
	// are the one reason for another try.
	got := storm()
	for range 2 {
		if got["callers_waited"] != 0.0 {
			t.Logf("callers waited: %v", got)
			got = storm()
		}
	}
	fields{
		"ok": true, "callers_waited": 0.0, "callers_failed": 0.0, "lifetimes": 2.0, "lifetime_ms": 6000.0,
	}.in(t, got)
	if len(got["violations"].([]any)) != 0 {
		t.Errorf("storm --lifetimes --json: %v", got)
	}
	// 3 accounts, 2 expiries of each.
	r := got["refreshes"].(map[string]any)
	fields{"calls": r["needed"], "duplicates": 0.0}.in(t, r)
	if r["needed"].(float64) < 6 {
		t.Errorf("refreshes = %v, want 6 or more needed", r)
	}
	if calls := got["callers"].(float64); calls < 100 || calls != got["callers_ok"] {
		t.Errorf("storm --lifetimes --json: %v", got)
	}
}
