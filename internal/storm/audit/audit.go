// Package audit holds the record of a storm against the invariants, and counts the figures of its
// report.
//
// [Rounds], [Lifetimes] and [Faults] are the audits of the three kinds of storms. An audit takes
// plain data, completes a report and adds the violations to the report.
package audit

import (
	"maps"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// clockSlack is how far the database's clock, by which leases and tokens end, may deviate from
// history.Now over a few seconds.
const clockSlack = 100 * time.Millisecond

// Round is the record of one round.
type Round struct {
	Results map[int]wire.Result // The results of the workers that lived, by worker.
	Rows    []Row               // The rows after the round, in the order of the accounts.
	Stats   provider.Stats      // The token endpoint's record of this round and all earlier ones.
}

// Row is the content of an account's row. Tokens are fingerprints.
type Row struct {
	Token, Refresh string
	Serial         int64 // The provider's number of the refresh token.
	Newest         bool  // The refresh token is the provider's newest, and alive.
}

// tally counts the callers of each account.
type tally struct {
	took   [][]time.Duration // The waits of the callers that got a token.
	failed []int
}

func newTally(r *report.Report) tally {
	n := len(r.PerAccount)
	return tally{took: make([][]time.Duration, n), failed: make([]int, n)}
}

// fill completes the callers' part of the report.
func (t tally) fill(r *report.Report) {
	for i := range r.PerAccount {
		account := &r.PerAccount[i]
		account.CallersOK, account.CallersFailed = len(t.took[i]), t.failed[i]
		account.LatencyMS = report.LatencyOf(t.took[i])
	}
	r.SumCallers()
	r.LatencyMS = report.LatencyOf(slices.Concat(t.took...))
}

// judgeCalls holds the number of calls against the number that was needed. needless says which
// calls were too many.
func judgeCalls(r *report.Report, needless string) {
	counts := r.Refreshes
	if counts.Calls != counts.Needed {
		r.Violated("the endpoint got %d calls where %d were needed", counts.Calls, counts.Needed)
	}
	if counts.Duplicates > 0 {
		r.Violated("%d exchanges too many: %s", counts.Duplicates, needless)
	}
	if counts.ReuseDetected > 0 {
		r.Violated("the endpoint detected the reuse of a refresh token %d times", counts.ReuseDetected)
	}
	if n := counts.MaxParallelPerAccount; n > 1 {
		r.Violated("%d exchanges of one account were under way at the same moment", n)
	}
	if r.CallersFailed > 0 {
		r.Violated("%d of %d callers got no token", r.CallersFailed, r.Callers)
	}
}

// judgeConnections holds the workers' connections against invariant 6, and returns the highest
// number of connections that were in use after a manager had been closed.
func judgeConnections(r *report.Report, rounds []Round) (inUse int) {
	for _, round := range rounds {
		for _, worker := range slices.Sorted(maps.Keys(round.Results)) {
			result := round.Results[worker]
			r.HeldConnections.Max = max(r.HeldConnections.Max, result.Held)
			inUse = max(inUse, result.InUse)
			if result.Unattributed > 0 {
				r.Violated("worker %d: %d times it could not be told whether an exchange held a "+
					"connection: one was asked for in nobody's name", worker, result.Unattributed)
			}
		}
	}
	if r.HeldConnections.Max > 0 {
		r.Violated("a call held %d connections during its exchange", r.HeldConnections.Max)
	}
	if inUse > 0 {
		r.Violated("%d connections were in use after a manager had been closed", inUse)
	}
	return inUse
}
