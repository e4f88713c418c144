// Package report holds the figures of a storm, as JSON and as text.
package report

import (
	"fmt"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// Report is the outcome of a storm.
type Report struct {
	Strategy  string `json:"strategy"`
	Server    string `json:"server"`
	Sealed    bool   `json:"sealed"` // The tokens in the table were sealed.
	Processes int    `json:"processes"`
	Threads   int    `json:"threads"`
	Accounts  int    `json:"accounts"`
	Rounds    int    `json:"rounds"`
	Pool      int    `json:"pool"` // Each process may open that many connections.

	// Callers is the number of callers over all rounds: processes × threads × accounts × rounds.
	// Each caller got a token or an error, or its worker died. Over several lifetimes Callers is
	// the number of calls.
	Callers       int `json:"callers"`
	CallersOK     int `json:"callers_ok"`
	CallersFailed int `json:"callers_failed"`

	Refreshes         Refreshes       `json:"refreshes"`
	EndpointLatencyMS float64         `json:"endpoint_latency_ms"`
	LatencyMS         Latency         `json:"latency_ms"`
	HeldConnections   HeldConnections `json:"connections_in_use_during_exchange"`
	ElapsedMS         float64         `json:"elapsed_ms"` // The whole run, its preparation included.

	*Faults   // Nil and absent unless the storm has faults.
	*Renewals // Nil and absent unless the storm is over several lifetimes.

	PerAccount []Account `json:"per_account"`

	// Violations has a sentence for each violated invariant. OK reports that there are none.
	Violations []string `json:"violations"`
	OK         bool     `json:"ok"`
}

// Refreshes counts the calls of the token endpoint.
type Refreshes struct {
	// Needed is one for each account and round. Under chaos, where tokens expire at any time, it is
	// the number of refresh tokens that were presented. Over several lifetimes it is one for each
	// token that was renewed in the second half of its life, or had expired at the end.
	Needed int `json:"needed"`
	Calls  int `json:"calls"`

	// Duplicates are the calls beyond the first for the same account in the same round; in a storm
	// with faults, the calls without a reason (see Faults.Replays); over several lifetimes, the
	// calls that nobody needed yet or that brought no token.
	Duplicates    int `json:"duplicates"`
	ReuseDetected int `json:"reuse_detected"`

	MaxParallelPerAccount int `json:"max_parallel_per_account"`
	MaxParallelAccounts   int `json:"max_parallel_accounts"` // Accounts exchanged at one moment.
}

// HeldConnections counts the connections that a call held itself while it exchanged.
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

// New returns a report of a storm on these accounts, without violations, with the record of the
// token endpoint in it.
func New(stats provider.Stats, accounts []string) Report {
	r := Report{
		Strategy: "lease", Accounts: len(accounts), Violations: []string{}, OK: true,
		Refreshes: Refreshes{
			Calls: stats.Calls, ReuseDetected: stats.ReuseDetected,
			MaxParallelPerAccount: stats.MaxParallelPerAccount,
			MaxParallelAccounts:   stats.MaxParallelAccounts,
		},
	}
	for _, name := range accounts {
		counts := stats.Accounts[name]
		r.PerAccount = append(r.PerAccount, Account{
			Account: name, Calls: counts.Calls, ReuseDetected: counts.ReuseDetected,
			MaxParallel: counts.MaxParallelPerAccount,
		})
	}
	return r
}

// SumCallers computes the numbers of callers from those of the accounts.
func (r *Report) SumCallers() {
	for _, a := range r.PerAccount {
		r.CallersOK += a.CallersOK
		r.CallersFailed += a.CallersFailed
	}
	r.Callers = r.CallersOK + r.CallersFailed
}

// maxViolations keeps a storm that violates everything from filling the screen.
const maxViolations = 20

// Violated adds a violation. Where there are too many, the last says that there were more.
func (r *Report) Violated(format string, args ...any) {
	r.OK = false
	switch {
	case len(r.Violations) < maxViolations:
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	case len(r.Violations) == maxViolations:
		r.Violations = append(r.Violations, "and more")
	}
}
