package storm

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// Report is what a storm came to.
type Report struct {
	Strategy  string `json:"strategy"`
	Server    string `json:"server"`
	Processes int    `json:"processes"`
	Threads   int    `json:"threads"`
	Accounts  int    `json:"accounts"`
	Rounds    int    `json:"rounds"`
	Pool      int    `json:"pool"` // connections that each process may open

	// Callers is how many asked, over all rounds: processes × threads × accounts × rounds. Each got a token or an
	// error, or its worker died. Over several lifetimes it is the number of calls.
	Callers       int `json:"callers"`
	CallersOK     int `json:"callers_ok"`
	CallersFailed int `json:"callers_failed"`

	Refreshes         Refreshes       `json:"refreshes"`
	EndpointLatencyMS float64         `json:"endpoint_latency_ms"`
	LatencyMS         Latency         `json:"latency_ms"`
	HeldConnections   HeldConnections `json:"connections_in_use_during_exchange"`
	ElapsedMS         float64         `json:"elapsed_ms"` // of the whole run, its preparation included

	*Faults   // of a storm with faults; else nil and absent
	*Renewals // of a storm over several lifetimes; else nil and absent

	PerAccount []Account `json:"per_account"`

	// Violations says what broke, in a sentence each; OK that nothing did.
	Violations []string `json:"violations"`
	OK         bool     `json:"ok"`
}

// Refreshes counts what the token endpoint saw.
type Refreshes struct {
	// Needed is one for each account and round. Under chaos, where tokens expire as they like, it is the number of
	// refresh tokens that were presented. Over several lifetimes it is one for each token that was renewed in the
	// second half of its life, or had expired at the end.
	Needed int `json:"needed"`
	Calls  int `json:"calls"`

	// Duplicates are the calls beyond the first for the same account in the same round; in a storm with faults, those
	// for which there was no reason: see Faults.Replays; over several lifetimes, those that nobody needed yet or that
	// brought no token.
	Duplicates    int `json:"duplicates"`
	ReuseDetected int `json:"reuse_detected"`

	MaxParallelPerAccount int `json:"max_parallel_per_account"`
	MaxParallelAccounts   int `json:"max_parallel_accounts"` // that were exchanged at the same moment
}

// Latency describes how long callers waited for their token, from the signal on, in milliseconds. Over several lifetimes
// it is how long a call took; see [Renewals].
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// HeldConnections counts connections that a flight held itself while it exchanged.
type HeldConnections struct {
	Max int `json:"max"`
}

// Account is one account's part.
type Account struct {
	Account       string  `json:"account"`
	Needed        int     `json:"needed"`
	Calls         int     `json:"calls"`
	ReuseDetected int     `json:"reuse_detected"`
	MaxParallel   int     `json:"max_parallel"`
	CallersOK     int     `json:"callers_ok"`
	CallersFailed int     `json:"callers_failed"`
	LatencyMS     Latency `json:"latency_ms"`
}

// violations say what broke, in a sentence each.
type violations []string

// maxViolations keeps a storm that breaks everything from filling the screen.
const maxViolations = 20

// violated adds one. Where there are too many, the last says that there were more.
func (v *violations) violated(format string, args ...any) {
	switch {
	case len(*v) < maxViolations:
		*v = append(*v, fmt.Sprintf(format, args...))
	case len(*v) == maxViolations:
		*v = append(*v, "and more")
	}
}

// ledger gathers what the callers got.
type ledger struct {
	violations

	cfg        Config
	names      []string
	took       [][]time.Duration // of the callers that got a token, by account
	held       int
	calls      map[string]int // presentations by account until the end of the last round
	duplicates int
}

func newLedger(cfg Config, names []string) *ledger {
	return &ledger{cfg: cfg, names: names, took: make([][]time.Duration, len(names)), calls: make(map[string]int)}
}

// add takes one worker's round. tokens are the fingerprints of the tokens in the rows after the round: what a caller
// got must have been committed.
func (l *ledger) add(worker int, r result, tokens []string) {
	failures := make(map[string]int)
	foreign := make([]int, len(l.names))
	for _, caller := range r.Callers {
		switch {
		case caller.Error != "":
			failures[caller.Error]++
			continue
		case caller.Token != tokens[caller.Account]:
			foreign[caller.Account]++
		}
		l.took[caller.Account] = append(l.took[caller.Account], caller.Took)
	}
	for text, n := range failures {
		l.violated("round %d, worker %d: %d callers failed: %s", r.Round, worker, n, text)
	}
	for account, n := range foreign {
		if n > 0 {
			l.violated("round %d, worker %d: %d callers got a token of %s that is not the one in its row", r.Round, worker, n, l.names[account])
		}
	}
	l.held = max(l.held, r.Held)
	if r.Lost > 0 {
		l.violated("round %d, worker %d: %d times it could not be told whether an exchange held a connection: one was asked for in nobody's name",
			r.Round, worker, r.Lost)
	}
}

// endRound holds the endpoint's record against what the round needed: one call for each account.
func (l *ledger) endRound(stats provider.Stats) {
	for _, name := range l.names {
		calls := stats.Accounts[name].Calls - l.calls[name]
		l.duplicates += max(0, calls-1)
		l.calls[name] += calls
	}
}

// report computes the numbers and the verdict.
func (l *ledger) report(stats provider.Stats) Report {
	cfg := l.cfg
	r := Report{
		Strategy: "lease", Server: cfg.Server, Processes: cfg.Processes, Threads: cfg.Threads, Accounts: cfg.Accounts,
		Rounds: cfg.Rounds, Pool: cfg.Pool, Callers: cfg.callersPerRound() * cfg.Rounds,
		Refreshes: Refreshes{
			Needed: cfg.Accounts * cfg.Rounds, Calls: stats.Calls, Duplicates: l.duplicates, ReuseDetected: stats.ReuseDetected,
			MaxParallelPerAccount: stats.MaxParallelPerAccount, MaxParallelAccounts: stats.MaxParallelAccounts,
		},
		EndpointLatencyMS: milliseconds(cfg.Latency),
		LatencyMS:         latency(slices.Concat(l.took...)),
		HeldConnections:   HeldConnections{Max: l.held},
	}
	for i, name := range l.names {
		counts := stats.Accounts[name]
		account := Account{
			Account: name, Needed: cfg.Rounds, Calls: counts.Calls, ReuseDetected: counts.ReuseDetected,
			MaxParallel: counts.MaxParallelPerAccount, CallersOK: len(l.took[i]), LatencyMS: latency(l.took[i]),
		}
		account.CallersFailed = cfg.Processes*cfg.Threads*cfg.Rounds - account.CallersOK
		r.CallersOK += account.CallersOK
		r.CallersFailed += account.CallersFailed
		r.PerAccount = append(r.PerAccount, account)
	}

	l.judge(&r, "the same account again in the same round")
	return r
}

// judge holds the numbers against what they must be. needless says which exchanges were too many.
func (l *ledger) judge(r *Report, needless string) {
	if r.Refreshes.Calls != r.Refreshes.Needed {
		l.violated("the endpoint got %d calls where %d were needed", r.Refreshes.Calls, r.Refreshes.Needed)
	}
	if r.Refreshes.Duplicates > 0 {
		l.violated("%d exchanges too many: %s", r.Refreshes.Duplicates, needless)
	}
	if r.Refreshes.ReuseDetected > 0 {
		l.violated("the endpoint detected the reuse of a refresh token %d times", r.Refreshes.ReuseDetected)
	}
	if r.Refreshes.MaxParallelPerAccount > 1 {
		l.violated("%d exchanges of one account were under way at the same moment", r.Refreshes.MaxParallelPerAccount)
	}
	if r.HeldConnections.Max > 0 {
		l.violated("a flight held %d connections during its exchange", r.HeldConnections.Max)
	}
	if r.CallersFailed > 0 {
		l.violated("%d of %d callers got no token", r.CallersFailed, r.Callers)
	}
	r.Violations = append([]string{}, l.violations...)
	r.OK = len(r.Violations) == 0
}

// latency computes percentiles by the nearest rank. All are 0 for nobody.
func latency(took []time.Duration) Latency {
	if len(took) == 0 {
		return Latency{}
	}
	slices.Sort(took)
	rank := func(p float64) float64 {
		return milliseconds(took[max(0, int(math.Ceil(p*float64(len(took))))-1)])
	}
	return Latency{P50: rank(0.50), P99: rank(0.99), Max: rank(1)}
}

// milliseconds rounds to a tenth.
func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e4) / 10 }
