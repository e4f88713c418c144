package audit_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

const (
	second = int64(time.Second)
	lease  = 3 * time.Second
)

// script is the evidence of workers 1 and 2 on one account, which begins with the refresh token
// "r0". Each worker makes one claim, of its own number, which finds "r0"; worker 1 exchanges it for
// "t1" and "r1", and worker 2 for "t2" and "r2".
type script struct {
	audit.Evidence
	version uint64
}

func newScript() *script {
	s := &script{Evidence: audit.Evidence{Chaos: true}, version: 1}
	s.Killed = make(map[int]int64)
	s.Puts = []audit.Put{{Refresh: "r0", Serial: 1, Start: -2, End: -1}}
	return s
}

// add adds a record under the worker's claim.
func (s *script) add(worker int, r wire.Record) *script {
	r.End = cmp.Or(r.End, r.Start)
	if r.Action != wire.Call {
		r.Claim = fmt.Sprint(worker)
	}
	s.Entries = append(s.Entries, audit.Entry{Worker: worker, Record: r})
	return s
}

func (s *script) claim(worker int, at int64) *script {
	s.version++
	return s.add(worker, wire.Record{
		Action: wire.Claim, Start: at, Version: s.version, Refresh: "r0", EndsIn: lease,
	})
}

func (s *script) present(worker int, at int64) *script {
	return s.presentUnder(worker, fmt.Sprint(worker), at)
}

func (s *script) presentUnder(worker int, claim string, at int64) *script {
	s.Presentations = append(s.Presentations, audit.Presentation{
		Worker: worker, Claim: claim, Account: "account-1", Serial: 1, Refresh: "r0", Start: at,
	})
	return s
}

// obtain is a claim and an exchange under it, and renew also saves the result.
func (s *script) obtain(worker int, at int64) *script {
	return s.claim(worker, at).present(worker, at+1).add(worker, wire.Record{
		Action: wire.Answer, Start: at + 1,
		Token: fmt.Sprint("t", worker), Refresh: fmt.Sprint("r", worker),
	})
}

func (s *script) renew(worker int, at int64) *script {
	return s.obtain(worker, at).save(worker, at+2, at+2)
}

// save stores a token that lives for an hour.
func (s *script) save(worker int, from, to int64) *script {
	return s.add(worker, wire.Record{
		Action: wire.Save, Start: from, End: to, Token: fmt.Sprint("t", worker),
		Refresh: fmt.Sprint("r", worker), Lifetime: time.Hour,
	})
}

// turnedDown is a save that found a later result in the row.
func (s *script) turnedDown(worker int, at int64) *script {
	return s.add(worker, wire.Record{Action: wire.Save, Start: at, Class: wire.Superseded})
}

func (s *script) fail(worker int, at int64) *script {
	return s.add(worker, wire.Record{Action: wire.Fail, Start: at})
}

// call is a caller with a deadline of a second.
func (s *script) call(worker int, from, to int64, token string) *script {
	return s.add(worker, wire.Record{
		Action: wire.Call, Start: from, End: to, Deadline: time.Second, Token: token,
	})
}

func (s *script) kill(worker int, at int64) *script {
	s.Killed[worker] = at
	return s
}

func (s *script) pause(worker int, from, to int64) *script {
	s.Pauses = append(s.Pauses, audit.Downtime{Worker: worker, From: from, To: to})
	return s
}

// judge returns the report on the evidence.
func (s *script) judge() report.Report {
	r := report.New(provider.Summarize(nil), []string{"account-1"})
	r.Processes, r.Threads, r.Rounds = 2, 1, 1
	r.Faults = new(report.Faults)
	audit.Faults(&r, s.Evidence)
	return r
}

// violations has a script for each violation that the audit must see.
var violations = map[string]struct {
	script func(*script)
	want   string // A part of a violation, or "" for none.
}{
	"nothing": {func(s *script) { s.renew(1, 0).call(1, 0, 3, "t1") }, ""},
	"two live claims": {
		func(s *script) { s.claim(1, 0).claim(2, second) },
		"2 claims on account-1 were live at the same moment (invariant 1)",
	},
	"a claim after the lease": {func(s *script) { s.claim(1, 0).claim(2, 4*second) }, ""},
	"presented without a claim": {
		func(s *script) { s.presentUnder(1, "z", 1) }, "without a claim (invariant 2)",
	},
	"presented twice under one claim": {
		func(s *script) { s.renew(1, 0).present(1, 1) }, "twice under one claim",
	},
	"replayed without a reason": {
		func(s *script) { s.obtain(1, 0).renew(2, 4*second).turnedDown(1, 4*second+3) },
		"1 refresh tokens were presented again without a reason",
	},
	"replayed since the holder was killed": {
		func(s *script) { s.obtain(1, 0).kill(1, 2).renew(2, 4*second) }, "",
	},
	"replayed since the server was away": {
		func(s *script) {
			s.Outages = []audit.Downtime{{From: 2, To: 5 * second}}
			s.obtain(1, 0).renew(2, 6*second).turnedDown(1, 6*second+3)
		},
		"1 refresh tokens were presented again without a reason",
	},
	"replayed since the holder was paused": {
		func(s *script) { s.claim(1, 0).present(1, 1).pause(1, 2, 5*second).renew(2, 4*second) }, "",
	},
	"a success is turned down": {
		func(s *script) {
			s.obtain(1, 0).pause(1, 2, 5*second).claim(2, 4*second).turnedDown(1, 5*second)
		},
		"the success of storm worker 1 for account-1 was turned down, though no later claim's",
	},
	"a success is turned down for a later claim's": {
		func(s *script) {
			s.obtain(1, 0).pause(1, 2, 5*second).renew(2, 4*second).turnedDown(1, 5*second)
		}, "",
	},
	"a success is not stored": {
		func(s *script) { s.obtain(1, 0) },
		"was never stored, though it lived to the end (invariant 4)",
	},
	"a failure covers a success": {
		func(s *script) {
			s.obtain(1, 0).pause(1, 2, 5*second).claim(2, 4*second).
				save(1, 5*second, 5*second).fail(2, 5*second+2)
		},
		"the failure of storm worker 2 for account-1 covers what was stored since its claim",
	},
	"a failure covers a put": {
		func(s *script) {
			s.Puts = append(s.Puts, audit.Put{Refresh: "r9", Start: 2, End: 3})
			s.claim(1, 0).present(1, 1).fail(1, 4)
		},
		"the failure of storm worker 1 for account-1 covers what was stored since its claim",
	},
	"presented late": {
		func(s *script) { s.claim(1, 0).present(1, 4*second) }, "after its lease had ended",
	},
	"got a token that nobody committed": {
		func(s *script) { s.renew(1, 0).call(1, 0, 3, "t9") }, "nobody committed",
	},
	"got an expired token, though it was long to be saved": {
		func(s *script) {
			s.obtain(1, 0).save(1, second, 3*second).call(1, 3602*second, 3602*second+1, "t1")
		},
		"after the token t1 had expired, and got it; to store it took storm worker 1 2s",
	},
	"hangs": {
		func(s *script) { s.renew(1, 0).call(1, 0, 20*second, "t1") }, "after its deadline",
	},
	"hangs while its process is stopped": {
		func(s *script) { s.renew(1, 0).pause(1, 3, 20*second).call(1, 0, 20*second, "t1") }, "",
	},
}

// The audit must see each violation that it is for.
func TestFaultsShowViolations(t *testing.T) {
	for name, test := range violations {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			test.script(s)
			got := s.judge().Violations
			wanted := func(v string) bool { return strings.Contains(v, test.want) }
			if (test.want == "") != (len(got) == 0) || !slices.ContainsFunc(append(got, ""), wanted) {
				t.Errorf("violations = %q, want %q", got, test.want)
			}
		})
	}
}
