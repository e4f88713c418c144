package model

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/latchkey-go/latchkey/credentials"
)

// tries is how often a plan is tried once one has failed: jitters and the order of goroutines are
// not part of it.
const tries = 12

// repeats is how often [Replay] runs a plan. The race detector of Go 1.26 crashes once in some
// thousand bubbles of this size (SIGSEGV in its table of stacks), so that with it there are few.
func repeats() int {
	if raceDetector {
		return 1
	}
	return tries
}

// enough is how many plans of each kind are drawn without flags. The rarest of the corners that
// each kind must reach, an outage with several holders, comes a dozen times in them.
const enough = 100

// Run draws plans and runs them, -rapid.checks of about -rapid.steps actions for each kind of
// provider and replay policy; 5 of each with the race detector, unless -rapid.checks says more. A
// plan that breaks a rule is shrunk, and printed as Go for [Replay]. Where enough plans have missed
// a corner, so that the rules about it were not tested, Run fails too.
func Run(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); raceDetector && checks.Value.String() == checks.DefValue {
		if err := flag.Set(checks.Name, "5"); err != nil { // see repeats
			t.Fatal(err)
		}
	}
	for _, mode := range []Mode{Revokes, Refuses, Graceful, Keeps} {
		for name, replay := range map[string]credentials.Replay{
			"ReplayOnce": credentials.ReplayOnce, "NeverReplay": credentials.NeverReplay,
		} {
			t.Run(fmt.Sprint(mode, "/", name), func(t *testing.T) {
				e := &explorer{T: t, mode: mode, replay: replay}
				rapid.Check(t, e.check)
				t.Logf("%+v", e.total)
				e.corners()
			})
		}
	}
}

// explorer looks for a plan that breaks a rule.
type explorer struct {
	*testing.T
	mode   Mode
	replay credentials.Replay
	total  Counts

	found string // the rule that the first such plan broke
	again int    // how many plans were tried since
}

// corners fails the test where no plan reached a corner.
func (e *explorer) corners() {
	if e.total.Plans < enough { // -short, or fewer -rapid.checks
		return
	}
	for corner, n := range map[string]int{
		"an exchange": e.total.Exchanges, "a claim": e.total.Claims, "a replay": e.total.Replays,
		"a late save": e.total.LateSaves, "a takeover": e.total.Lapsed,
		"an outage longer than a lease":                       e.total.LongOutages,
		"an outage longer than a lease, with several holders": e.total.CrowdedOutages,
		"a save that an outage kept beyond its lease":         e.total.OutlastedSaves,
		"a process that was cut off":                          e.total.Cuts,
		"a process that reads from a node that is behind":     e.total.Lags,
		"an answer of a node that was behind":                 e.total.StaleReads,
		"a clock that was set":                                e.total.ClocksSet,
		"an exchange of a token that was turned down":         e.total.Forced,
		"a token that was turned down and is too young":       e.total.TooYoung,
	} {
		if n == 0 {
			e.Errorf("none of %d plans led to %s", e.total.Plans, corner)
		}
	}
}

// check is the property: a plan breaks no rule.
func (e *explorer) check(t *rapid.T) {
	plan := draw(t, e.mode, e.replay)
	n := 1
	if e.found != "" {
		n = tries
		if e.again++; e.again == 1 { // rapid gives up on a plan that it cannot reproduce
			n = 20 * tries
		}
	}
	for range n {
		v, history, counts := plan.run(e.T)
		e.total.add(counts)
		if v == nil || e.found != "" && v.Rule != e.found {
			continue
		}
		story := fmt.Sprintf("%s\n%s\n%s", v.Detail, plan, strings.Join(history, "\n"))
		if e.found == "" {
			e.found = v.Rule
			e.Logf("before it is shrunk: %s: %s", v.Rule, story) // should it not happen again
		}
		// The rule alone stands in the message: a case is shrunk while it says the same.
		t.Logf("%s", story)
		t.Fatalf("%s", v.Rule)
	}
}

// Replay runs a plan a few times and fails the test if any of them breaks a rule.
func Replay(t *testing.T, plan Plan) {
	t.Helper()
	for range repeats() {
		if v, history, _ := plan.run(t); v != nil {
			t.Fatalf("%s: %s\n%s", v.Rule, v.Detail, strings.Join(history, "\n"))
		}
	}
}

// run runs the plan in a bubble of its own.
func (p Plan) run(t *testing.T) (v *Violation, history []string, counts Counts) {
	defer func() {
		if r := recover(); r != nil {
			v = broken("no goroutine is left, and none panics", "%v", r)
		}
	}()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(p)
		w.run()
		w.mu.Lock()
		defer w.mu.Unlock()
		v, history, counts = w.broken, w.history, w.Counts
	})
	return v, history, counts
}
