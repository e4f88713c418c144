package audit

import (
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// maxOvertime is how long after its deadline a caller may return on a slow machine. A caller whose
// process was stopped may return later.
const maxOvertime = 10 * time.Second

// historyLimit bounds the search for one account's history.
const historyLimit = 15 * time.Second

// Evidence is the record of a storm with faults.
type Evidence struct {
	Log
	Chaos bool // Faults came at random, and not one in each round.
	Grace bool // The provider answers a used refresh token with new tokens.

	Rounds        []Round
	Presentations []Presentation          // As they arrived, with the claim of each.
	Provider      []provider.Presentation // As the provider recorded them.
	Rows          []Row                   // The rows at the end.
}

// Faults audits a storm with faults: each repetition has a reason, no grant is lost that could be
// kept, and the history of each account can be explained.
func Faults(r *report.Report, e Evidence) {
	a := newFaults(r, e)
	f := r.Faults
	f.Kills, f.Pauses, f.Restarts = len(e.Killed), len(e.Pauses), len(e.Restarts)
	f.Outages, f.LongestOutage = len(e.Outages), report.Milliseconds(longest(e.Outages))
	f.Withdrawals, f.Replacements = e.Withdrawals, e.Replacements
	f.Reauthorizations = len(e.Puts) - r.Accounts - e.Replacements
	f.UnknownOutcomes, f.MaxLiveClaims, f.PresentedLate = a.unknown(), a.liveClaims(), a.late()
	f.Replays, f.Retries, r.Refreshes.Duplicates = a.repeats()
	r.Refreshes.Needed = r.Refreshes.Calls - f.Replays - f.Retries - r.Refreshes.Duplicates
	a.judgeLost()
	a.judgeCallers()
	f.ConnectionsInUse = judgeConnections(r, e.Rounds)
	a.judgeWrites()
	a.judgeRepeats()
	a.judgeHistory()
}

// faults is the evidence, with its parts connected.
type faults struct {
	Evidence
	r *report.Report

	claims    map[string]*claim
	presented []*presentation
	needless  map[*presentation]bool // See repeats.
}

// name returns the name of an account.
func (a *faults) name(account int) string { return a.r.PerAccount[account].Account }

// judgeCallers counts the callers, and holds each error against the errors that a caller may get.
func (a *faults) judgeCallers() {
	r, t := a.r, newTally(a.r)
	r.Errors = make(map[string]int)
	waited, overdue := 0, 0 // Callers that waited until their deadline, and a second longer.
	for _, e := range a.Entries {
		if e.Action != wire.Call {
			continue
		}
		if e.Class != "" {
			r.Errors[e.Class]++
		}
		late := time.Duration(e.End-e.Start) - e.Deadline - overlap(a.Pauses, e.Worker, e.Start, e.End)
		if e.Deadline > 0 && late >= 0 {
			waited++
			if late > time.Second {
				overdue++
			}
		}
		switch {
		case e.Deadline > 0 && late > maxOvertime:
			r.Violated("a caller of %s got its answer %v after its deadline", wire.Holder(e.Worker), late)
		case e.Class == wire.Untyped:
			r.Violated("a caller of %s got an error of no known type: %s", wire.Holder(e.Worker), e.Text)
		}
		switch {
		case e.Again:
		case e.Class == "":
			t.took[e.Account] = append(t.took[e.Account], e.Took)
		default:
			t.failed[e.Account]++
			if !a.Chaos {
				a.judgeError(e)
			}
		}
	}
	// A slow machine makes one caller late, but not most of them.
	if overdue >= 5 && overdue > waited/4 {
		r.Violated("%d of the %d callers whose time was over waited another second, or longer",
			overdue, waited)
	}
	t.fill(r)
	if !a.Chaos {
		a.judgeKilledCallers()
	}
}

// judgeError holds the error that a caller was left with against the fault. Only a provider that
// revokes on reuse may leave callers with a dead grant, when the refresh token of the holder that
// was hit had to be presented again. The error names that holder.
func (a *faults) judgeError(e Entry) {
	hit := false
	for worker := range a.Killed {
		hit = hit || e.Blames == wire.Holder(worker)
	}
	for _, d := range a.Pauses {
		hit = hit || e.Blames == wire.Holder(d.Worker)
	}
	switch {
	case e.Class == wire.GrantDead && !a.Grace && hit:
	case e.Class == wire.GrantDead && !a.Grace:
		a.r.Violated("a caller of %s was told to authorize %s again, and the error does not name the "+
			"holder that was hit, but %q", wire.Holder(e.Worker), a.name(e.Account), e.Blames)
	case e.Class != wire.Untyped:
		a.r.Violated("a caller of %s was left without a token of %s: %s",
			wire.Holder(e.Worker), a.name(e.Account), e.Class)
	}
}

// judgeKilledCallers holds the callers without an answer against the workers that were killed.
func (a *faults) judgeKilledCallers() {
	r := a.r
	perWorker := r.Threads * r.Accounts
	answered := r.Callers
	r.Callers = r.Processes * perWorker * r.Rounds
	r.CallersKilled = r.Callers - answered
	if limit := r.Kills * perWorker; r.CallersKilled > limit {
		r.Violated("%d of %d callers got neither a token nor an error, and only %d of them were killed",
			r.CallersKilled, r.Callers, limit)
	}
}

// judgeRepeats holds the number of presentations against the number that was needed.
func (a *faults) judgeRepeats() {
	r := a.r
	for i, account := range r.PerAccount {
		first := make(map[int64]bool)
		for _, p := range a.presented {
			if p.Account == account.Account {
				first[p.Serial] = true
			}
		}
		r.PerAccount[i].Needed = len(first)
	}
	if want := r.Accounts * r.Rounds; !a.Chaos && r.Refreshes.Needed != want {
		r.Violated("the endpoint got %d calls where %d were needed, %d to repeat one of unknown outcome "+
			"and %d to repeat a refused one", r.Refreshes.Calls, want, r.Replays, r.Retries)
	}
	if r.Refreshes.Duplicates > 0 {
		r.Violated("%d refresh tokens were presented again without a reason", r.Refreshes.Duplicates)
	}
	if r.Refreshes.ReuseDetected > 0 && a.Grace {
		r.Violated("the endpoint took %d refresh tokens for reused, within its grace window",
			r.Refreshes.ReuseDetected)
	}
}

// judgeHistory has package history judge the operations.
func (a *faults) judgeHistory() {
	verdict := history.Check(a.operations(), historyLimit)
	a.r.History = report.History{
		Operations: verdict.Operations, OK: len(verdict.Violations)+len(verdict.Undecided) == 0,
	}
	for _, violation := range verdict.Violations {
		a.r.Violated("history of %s", violation)
	}
	for _, name := range verdict.Undecided {
		a.r.Violated("the history of %s could not be judged within %v", name, historyLimit)
	}
}
