package storm

import (
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// Renewals is what a report says of a storm over several lifetimes. The latencies in the Report are then those of single
// calls, without each process's first call for each account, which reads the row: it has nothing in its cache yet.
type Renewals struct {
	Lifetimes  int     `json:"lifetimes"`
	LifetimeMS float64 `json:"lifetime_ms"`

	// CallersWaited are the calls that found no valid token in their process's cache, or that began before the exchange
	// did of which they returned the token. There must be none: a token is renewed before it expires.
	CallersWaited int `json:"callers_waited"`

	// ServedAfterReplaced is for how long processes went on to serve a token after the provider had issued the next one,
	// which at a provider that ends the old one then is how long callers may be turned down. Calls that began before
	// that do not count.
	ServedAfterReplaced ServedAfterReplaced `json:"served_after_replaced_ms"`

	// Renewers is how many of the processes made an exchange. ClaimsLost is how often one tried to, and found that
	// another was at it, or had been.
	Renewers   int `json:"processes_that_renewed"`
	ClaimsLost int `json:"claims_lost"`
}

// ServedAfterReplaced is in milliseconds. One value counts for each process and token: from the issue of the next one
// to the beginning of the last call that returned this one; 0 if that was before.
type ServedAfterReplaced struct {
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`

	// MaxInRenewer is the most in the process that made the exchange, MaxInOthers in those that read its result.
	MaxInRenewer float64 `json:"max_in_renewer"`
	MaxInOthers  float64 `json:"max_in_others"`
}

// lifetimesBook gathers what a storm over several lifetimes came to.
type lifetimesBook struct {
	*ledger

	workers map[int]result
	issued  [][]issued // by account, in the order of issue
	rows    []stored   // by account, at the end
}

// report computes the numbers and the verdict.
func (b *lifetimesBook) report(stats provider.Stats) Report {
	cfg := b.cfg
	r := Report{
		Strategy: "lease", Server: cfg.Server, Processes: cfg.Processes, Threads: cfg.Threads, Accounts: cfg.Accounts, Pool: cfg.Pool,
		Refreshes: Refreshes{
			Calls: stats.Calls, ReuseDetected: stats.ReuseDetected,
			MaxParallelPerAccount: stats.MaxParallelPerAccount, MaxParallelAccounts: stats.MaxParallelAccounts,
		},
		EndpointLatencyMS: milliseconds(cfg.Latency),
		Renewals:          &Renewals{Lifetimes: cfg.Lifetimes, LifetimeMS: milliseconds(cfg.Lifetime)},
	}
	renewed := 0
	var took histogram
	var late, lateRenewer, lateOthers []time.Duration
	renewers := make(map[int]bool)
	for i, name := range b.names {
		counts := stats.Accounts[name]
		account := Account{Account: name, Calls: counts.Calls, ReuseDetected: counts.ReuseDetected, MaxParallel: counts.MaxParallelPerAccount}
		ahead, expired := b.needed(b.issued[i])
		account.Needed = ahead + expired
		r.Refreshes.Needed += account.Needed
		renewed += ahead
		b.judgeRow(i)

		var own histogram
		for _, worker := range b.inOrder() {
			a := b.workers[worker].Asked.Accounts[i]
			own.merge(a.Took)
			account.CallersOK += a.OK
			account.CallersFailed += a.Failed
			r.CallersWaited += a.Waited + b.overlapped(i, a)
			b.judgeTokens(worker, i, a)
			for _, t := range a.Tokens {
				if t.Own {
					renewers[worker] = true
				}
			}
			for _, s := range servedLate(b.issued[i], a) {
				late = append(late, s.by)
				if s.renewer {
					lateRenewer = append(lateRenewer, s.by)
				} else {
					lateOthers = append(lateOthers, s.by)
				}
			}
		}
		account.LatencyMS = own.latency()
		took.merge(own)
		r.CallersOK += account.CallersOK
		r.CallersFailed += account.CallersFailed
		r.PerAccount = append(r.PerAccount, account)
	}
	for _, worker := range b.inOrder() {
		one := b.workers[worker]
		r.HeldConnections.Max = max(r.HeldConnections.Max, one.Held)
		r.ClaimsLost += one.Asked.ClaimsLost
		for text, n := range one.Asked.Failures {
			b.violated("worker %d: %d callers failed: %s", worker, n, text)
		}
		if one.Lost > 0 {
			b.violated("worker %d: %d times it could not be told whether an exchange held a connection: one was asked for in nobody's name", worker, one.Lost)
		}
	}
	r.Refreshes.Duplicates = max(0, stats.Calls-renewed)
	r.Callers, r.LatencyMS = r.CallersOK+r.CallersFailed, took.latency()
	r.Renewers = len(renewers)
	all := latency(late)
	r.ServedAfterReplaced = ServedAfterReplaced{P99: all.P99, Max: all.Max, MaxInRenewer: latency(lateRenewer).Max, MaxInOthers: latency(lateOthers).Max}

	if n := stats.Calls - stats.Issued; n > 0 {
		b.violated("%d calls of the endpoint brought no token", n)
	}
	if r.CallersWaited > 0 {
		b.violated("%d callers waited for an exchange, though the token is to be renewed before it expires", r.CallersWaited)
	}
	b.judge(&r, "the token was not due, or they brought none")
	return r
}

// inOrder returns the numbers of the workers that lived to the end.
func (b *lifetimesBook) inOrder() []int {
	var workers []int
	for worker := range b.cfg.Processes {
		if _, ok := b.workers[worker+1]; ok {
			workers = append(workers, worker+1)
		}
	}
	return workers
}

// needed counts one account's tokens that were renewed when it was time, and those that expired and were not. A second
// exchange for the same expiry comes right after the first, when the new token has its life before it.
func (b *lifetimesBook) needed(tokens []issued) (ahead, expired int) {
	life := int64(b.cfg.Lifetime)
	until := int64(0)
	for _, one := range b.workers {
		until = max(until, one.Asked.Until)
	}
	for i, t := range tokens {
		switch {
		case i+1 < len(tokens) && tokens[i+1].presented-t.at > life/2:
			ahead++
		case i+1 == len(tokens) && until-t.at > life:
			expired++
		}
	}
	return ahead, expired
}

// judgeRow holds an account's row against the provider's record: with the newest tokens in it, each exchange had the
// refresh token of the one before.
func (b *lifetimesBook) judgeRow(account int) {
	tokens, row := b.issued[account], b.rows[account]
	if len(tokens) == 0 || row.token != tokens[len(tokens)-1].token {
		b.violated("the row of %s does not hold the newest token", b.names[account])
	}
	if !row.newest {
		b.violated("the row of %s does not hold the newest refresh token", b.names[account])
	}
}

// judgeTokens holds the tokens that callers of one account got against those that were issued.
func (b *lifetimesBook) judgeTokens(worker, account int, a askedAccount) {
	for token, t := range a.Tokens {
		i := slices.IndexFunc(b.issued[account], func(i issued) bool { return i.token == token })
		switch {
		case i < 0:
			b.violated("worker %d: callers got a token of %s that was not issued for it", worker, b.names[account])
		case t.Last > b.issued[account][i].at+int64(b.cfg.Lifetime+clockSlack):
			b.violated("worker %d: callers got a token of %s that had expired", worker, b.names[account])
		}
	}
}

// overlapped counts the calls that began before the exchange did which made the token that they returned.
func (b *lifetimesBook) overlapped(account int, a askedAccount) int {
	n := 0
	for _, i := range b.issued[account] {
		for _, start := range a.Tokens[i.token].Early {
			if start <= i.presented {
				n++
			}
		}
	}
	return n
}

// lateness is how long a process served a token after it had been replaced.
type lateness struct {
	by      time.Duration
	renewer bool // the process made the exchange that replaced it
}

// servedLate returns one for each token that the process served and that was replaced.
func servedLate(tokens []issued, a askedAccount) []lateness {
	var all []lateness
	for i := range len(tokens) - 1 {
		if t := a.Tokens[tokens[i].token]; t.Last > 0 {
			next := tokens[i+1]
			all = append(all, lateness{by: time.Duration(max(0, t.Last-next.at)), renewer: a.Tokens[next.token].Own})
		}
	}
	return all
}
