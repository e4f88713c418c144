package storm

import (
	"context"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
)

// Faults is what a report says of a storm with faults.
type Faults struct {
	Fault      string  `json:"fault"`    // "kill exchange", "pause", …, "chaos"
	Provider   Reuse   `json:"provider"` // what it does about a used refresh token
	Seed       uint64  `json:"seed,omitempty"`
	DurationMS float64 `json:"duration_ms,omitempty"` // of the chaos

	// What was done. Restarts are the server's, Withdrawals grants that their owner ended at the provider, Replacements
	// grants in place of which another was put during their exchange.
	Kills          int            `json:"kills"`
	Pauses         int            `json:"pauses"`
	Restarts       int            `json:"restarts"`
	Withdrawals    int            `json:"withdrawals"`
	Replacements   int            `json:"replacements"`
	ProviderFaults map[string]int `json:"provider_faults,omitempty"`

	// What came of it. UnknownOutcomes are calls of the endpoint of which nobody knew in time what had become of the
	// refresh token. Replays are calls with a refresh token of unknown outcome, Retries those with one that the endpoint
	// had refused to look at.
	UnknownOutcomes  int `json:"unknown_outcomes"`
	Replays          int `json:"replays"`
	Retries          int `json:"retries"`
	Reauthorizations int `json:"reauthorizations"` // grants that were put for accounts that asked for one

	// TokensLost are grants that the provider handed out whose newest refresh token is not in the table. Two kinds are
	// counted by themselves: those whose holder was killed between the answer and the save, and those that were lost
	// together with the answer.
	TokensLost     int `json:"tokens_lost"`
	LostWithHolder int `json:"lost_with_holder"`
	LostWithAnswer int `json:"lost_with_answer"`

	// Errors counts what callers were told, by class; those who asked again, every time.
	Errors map[string]int `json:"errors"`

	// CallersKilled is how many callers their process took with it.
	CallersKilled int `json:"callers_killed"`

	MaxLiveClaims    int     `json:"max_live_claims_per_account"`
	PresentedLate    int     `json:"presented_after_lease"` // by holders that were stopped in the instant before
	ConnectionsInUse int     `json:"connections_in_use_at_end"`
	History          History `json:"history"`
}

// History is what package history made of a storm.
type History struct {
	Operations int  `json:"operations"`
	OK         bool `json:"ok"`
}

// historyLimit bounds the search for one account's history.
const historyLimit = 15 * time.Second

// report judges the storm.
func (t *trouble) report(ctx context.Context) (Report, error) {
	cfg := t.cfg
	a := newAudit(t.journal.copy(), t.rows.names, t.gate.presentations())
	stats := t.p.Stats()

	f := &Faults{
		Fault: cfg.fault(), Provider: cfg.Reuse, Kills: len(a.killed), Pauses: len(a.pauses), Restarts: len(a.restarts),
		Withdrawals: a.withdrawn, Replacements: a.replaced, Reauthorizations: len(a.puts) - cfg.Accounts - a.replaced, Errors: make(map[string]int),
		UnknownOutcomes: a.unknown(), MaxLiveClaims: a.liveClaims(), PresentedLate: a.late(),
	}
	var needless int
	f.Replays, f.Retries, needless = a.repeats()
	found, err := a.findLost(ctx, t.p, t.rows)
	if err != nil {
		return Report{}, err
	}
	f.TokensLost, f.LostWithHolder, f.LostWithAnswer = found.tokens, found.withHolder, found.withAnswer
	r := Report{
		Strategy: "lease", Server: cfg.Server, Processes: cfg.Processes, Threads: cfg.Threads, Accounts: cfg.Accounts,
		Rounds: cfg.Rounds, Pool: cfg.Pool, EndpointLatencyMS: milliseconds(cfg.Latency), Faults: f,
		Refreshes: Refreshes{
			Needed: stats.Calls - f.Replays - f.Retries - needless, Calls: stats.Calls, Duplicates: needless,
			ReuseDetected: stats.ReuseDetected, MaxParallelPerAccount: stats.MaxParallelPerAccount, MaxParallelAccounts: stats.MaxParallelAccounts,
		},
	}
	t.callers(a, &r)
	for _, one := range t.finished {
		r.HeldConnections.Max = max(r.HeldConnections.Max, one.Held)
		f.ConnectionsInUse = max(f.ConnectionsInUse, one.InUse)
		if one.Lost > 0 {
			a.violated("%d times it could not be told whether an exchange held a connection: one was asked for in nobody's name", one.Lost)
		}
	}
	if cfg.Chaos {
		r.Rounds, f.Seed, f.DurationMS, f.ProviderFaults = 0, cfg.Seed, milliseconds(cfg.Duration), t.gate.faultCounts()
	} else if want := cfg.Accounts * cfg.Rounds; r.Refreshes.Needed != want {
		a.violated("the endpoint got %d calls where %d were needed, %d to repeat one of unknown outcome and %d to repeat a refused one",
			r.Refreshes.Calls, want, f.Replays, f.Retries)
	}
	t.judge(a, &r)
	return r, nil
}

// callers counts what callers got, and holds each error against what a caller may be told.
func (t *trouble) callers(a *audit, r *Report) {
	took := make([][]time.Duration, t.cfg.Accounts)
	failed := make([]int, t.cfg.Accounts)
	waited, overdue := 0, 0 // until their deadline, and a second longer
	for _, e := range a.entries {
		if e.Deed != didCall {
			continue
		}
		if e.Class != "" {
			r.Errors[e.Class]++
		}
		late := time.Duration(e.End-e.Start) - e.Deadline - overlap(a.pauses, e.worker, e.Start, e.End)
		if e.Deadline > 0 && late >= 0 {
			waited++
			if late > time.Second {
				overdue++
			}
		}
		switch {
		case e.Deadline > 0 && late > hangs:
			a.violated("a caller of %s got its answer %v after its deadline", holder(e.worker), late)
		case e.Class == untyped:
			a.violated("a caller of %s got an error of no known type: %s", holder(e.worker), e.Text)
		}
		switch {
		case e.Again:
		case e.Class == "":
			took[e.Account] = append(took[e.Account], e.Took)
		default:
			failed[e.Account]++
			if !t.cfg.Chaos {
				t.expected(a, e)
			}
		}
	}
	// One may be late because the machine is slow, but not most of them.
	if overdue >= 5 && overdue > waited/4 {
		a.violated("%d of the %d callers whose time was over waited another second, or longer", overdue, waited)
	}
	for i, name := range t.rows.names {
		counts := t.p.Stats().Accounts[name]
		account := Account{
			Account: name, Calls: counts.Calls, ReuseDetected: counts.ReuseDetected, MaxParallel: counts.MaxParallelPerAccount,
			CallersOK: len(took[i]), CallersFailed: failed[i], LatencyMS: latency(slices.Clone(took[i])),
		}
		first := make(map[int64]bool)
		for _, p := range a.presented {
			if p.Account == name {
				first[p.Serial] = true
			}
		}
		account.Needed = len(first)
		r.CallersOK += account.CallersOK
		r.CallersFailed += account.CallersFailed
		r.PerAccount = append(r.PerAccount, account)
	}
	r.LatencyMS = latency(slices.Concat(took...))
	r.Callers = r.CallersOK + r.CallersFailed
	if !t.cfg.Chaos {
		r.Callers = t.cfg.callersPerRound() * t.cfg.Rounds
		r.CallersKilled = r.Callers - r.CallersOK - r.CallersFailed
		if most := r.Kills * t.cfg.Threads * t.cfg.Accounts; r.CallersKilled > most {
			a.violated("%d of %d callers got neither a token nor an error, and only %d of them were killed", r.CallersKilled, r.Callers, most)
		}
	}
}

// expected holds the error that a caller was left with against the fault: one caller's grant may be dead, because its
// refresh token had to be presented again and the provider revokes on reuse. The error says whose exchange it was.
func (t *trouble) expected(a *audit, e entry) {
	blamed := func(worker int) bool { return e.Blames == holder(worker) }
	hit := false
	for worker := range a.killed {
		hit = hit || blamed(worker)
	}
	for _, s := range a.pauses {
		hit = hit || blamed(s.worker)
	}
	for _, s := range a.restarts {
		hit = hit || s.from <= e.End && e.Blames != ""
	}
	switch {
	case e.Class == "reauth_required" && t.cfg.Reuse == Revoke && hit:
	case e.Class == "reauth_required" && t.cfg.Reuse == Revoke:
		a.violated("a caller of %s was told to authorize %s again, and the error does not name the holder that was hit, but %q",
			holder(e.worker), a.names[e.Account], e.Blames)
	case e.Class != untyped:
		a.violated("a caller of %s was left without a token of %s: %s", holder(e.worker), a.names[e.Account], e.Class)
	}
}

// judge gathers the violations.
func (t *trouble) judge(a *audit, r *Report) {
	f := r.Faults
	a.wrongWrites()
	if r.Refreshes.Duplicates > 0 {
		a.violated("%d refresh tokens were presented again without a reason", r.Refreshes.Duplicates)
	}
	if r.Refreshes.ReuseDetected > 0 && t.cfg.Reuse == Grace {
		a.violated("the endpoint took %d refresh tokens for reused, within its grace window", r.Refreshes.ReuseDetected)
	}
	if r.HeldConnections.Max > 0 {
		a.violated("a flight held %d connections during its exchange", r.HeldConnections.Max)
	}
	if f.ConnectionsInUse > 0 {
		a.violated("%d connections were in use after a manager had been closed", f.ConnectionsInUse)
	}
	verdict := history.Check(a.history(), historyLimit)
	f.History = History{Operations: verdict.Operations, OK: len(verdict.Violations)+len(verdict.Undecided) == 0}
	for _, violation := range verdict.Violations {
		a.violated("history of %s", violation)
	}
	for _, name := range verdict.Undecided {
		a.violated("the history of %s could not be judged within %v", name, historyLimit)
	}
	r.Violations = append([]string{}, a.violations...)
	r.OK = len(r.Violations) == 0
}
