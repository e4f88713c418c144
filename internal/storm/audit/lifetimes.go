package audit

import (
	"maps"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Lifetimes audits a storm over several lifetimes of a token: each expiry needs one exchange, which
// no caller waits for. issues are the access tokens that the provider issued, in that order.
func Lifetimes(r *report.Report, round Round, lifetime time.Duration, issues []provider.Issue) {
	a := &lifetimes{
		r: r, round: round, lifetime: int64(lifetime), issued: issuedTokens(r, issues),
		workers: slices.Sorted(maps.Keys(round.Results)), renewers: make(map[int]bool),
	}
	for account := range r.PerAccount {
		a.account(account)
	}
	for _, worker := range a.workers {
		calls := round.Results[worker].Calls
		r.ClaimsLost += calls.ClaimsLost
		for _, text := range slices.Sorted(maps.Keys(calls.Failures)) {
			r.Violated("worker %d: %d callers failed: %s", worker, calls.Failures[text], text)
		}
	}
	r.SumCallers()
	r.LatencyMS = report.LatencyOfHistogram(a.took)
	r.Renewers = len(a.renewers)
	late := report.LatencyOf(slices.Concat(a.lateRenewer, a.lateOthers))
	r.ServedAfterReplaced = report.ServedAfterReplaced{
		P99: late.P99, Max: late.Max,
		MaxInRenewer: report.LatencyOf(a.lateRenewer).Max,
		MaxInOthers:  report.LatencyOf(a.lateOthers).Max,
	}
	r.Refreshes.Duplicates = max(0, r.Refreshes.Calls-a.renewed)
	if n := round.Stats.Calls - round.Stats.Issued; n > 0 {
		r.Violated("%d calls of the endpoint brought no token", n)
	}
	if r.CallersWaited > 0 {
		r.Violated("%d callers waited for an exchange, "+
			"though the token is to be renewed before it expires", r.CallersWaited)
	}
	judgeConnections(r, []Round{round})
	judgeCalls(r, "the token was not due, or they brought none")
}

type lifetimes struct {
	r        *report.Report
	round    Round
	lifetime int64
	workers  []int      // The workers that lived to the end.
	issued   [][]issued // The tokens of each account, in the order of issue.

	took        wire.Histogram
	renewed     int // The tokens that were renewed when they were due.
	renewers    map[int]bool
	lateRenewer []time.Duration // See report.ServedAfterReplaced.
	lateOthers  []time.Duration
}

// issued is an access token that the provider issued. Times are those of history.Now.
type issued struct {
	token     string // The fingerprint.
	presented int64  // The arrival of the presentation that it answers; 0 for a seeded token.
	at        int64
}

func issuedTokens(r *report.Report, issues []provider.Issue) [][]issued {
	tokens := make([][]issued, len(r.PerAccount))
	for account := range tokens {
		for _, i := range issues {
			if i.Account != r.PerAccount[account].Account {
				continue
			}
			one := issued{token: wire.Fingerprint(credentials.NewSecret(i.Token)), at: history.At(i.At)}
			if !i.Presented.IsZero() {
				one.presented = history.At(i.Presented)
			}
			tokens[account] = append(tokens[account], one)
		}
	}
	return tokens
}

// account counts and judges one account's part.
func (a *lifetimes) account(i int) {
	account, tokens := &a.r.PerAccount[i], a.issued[i]
	renewed, expired := a.needed(tokens)
	a.renewed += renewed
	account.Needed = renewed + expired
	a.r.Refreshes.Needed += account.Needed
	a.judgeRow(account.Account, tokens, a.round.Rows[i])

	var took wire.Histogram
	for _, worker := range a.workers {
		calls := a.round.Results[worker].Calls.Accounts[i]
		took.Merge(calls.Took)
		account.CallersOK += calls.OK
		account.CallersFailed += calls.Failed
		a.r.CallersWaited += waited(tokens, calls)
		a.judgeTokens(worker, account.Account, tokens, calls)
		a.addServed(worker, tokens, calls)
	}
	account.LatencyMS = report.LatencyOfHistogram(took)
	a.took.Merge(took)
}

// needed counts one account's tokens that were renewed when they were due, and those that expired
// unrenewed. A second exchange for the same expiry comes right after the first, when the new token
// has its life before it.
func (a *lifetimes) needed(tokens []issued) (renewed, expired int) {
	until := int64(0)
	for _, result := range a.round.Results {
		until = max(until, result.Calls.Until)
	}
	for i, t := range tokens {
		switch {
		case i+1 < len(tokens) && tokens[i+1].presented-t.at > a.lifetime/2:
			renewed++
		case i+1 == len(tokens) && until-t.at > a.lifetime:
			expired++
		}
	}
	return renewed, expired
}

// judgeRow holds an account's row against the provider's record: with the newest tokens in the row,
// each exchange had the refresh token of the one before.
func (a *lifetimes) judgeRow(name string, tokens []issued, row Row) {
	if len(tokens) == 0 || row.Token != tokens[len(tokens)-1].token {
		a.r.Violated("the row of %s does not hold the newest token", name)
	}
	if !row.Newest {
		a.r.Violated("the row of %s does not hold the newest refresh token", name)
	}
}

// judgeTokens holds the tokens of one account's callers against those that were issued.
func (a *lifetimes) judgeTokens(worker int, name string, tokens []issued, calls wire.AccountCalls) {
	for token, t := range calls.Tokens {
		i := slices.IndexFunc(tokens, func(i issued) bool { return i.token == token })
		switch {
		case i < 0:
			a.r.Violated("worker %d: callers got a token of %s that was not issued for it", worker, name)
		case t.Last > tokens[i].at+a.lifetime+int64(clockSlack):
			a.r.Violated("worker %d: callers got a token of %s that had expired", worker, name)
		}
	}
}

// addServed adds for how long the worker served each token after the token had been replaced, and
// notes the worker if it got one of the tokens from the provider.
func (a *lifetimes) addServed(worker int, tokens []issued, calls wire.AccountCalls) {
	for i, t := range tokens {
		if calls.Tokens[t.token].Own {
			a.renewers[worker] = true
		}
		last := calls.Tokens[t.token].Last
		if i+1 == len(tokens) || last == 0 {
			continue
		}
		next := tokens[i+1]
		late := &a.lateOthers
		if calls.Tokens[next.token].Own {
			late = &a.lateRenewer
		}
		*late = append(*late, time.Duration(max(0, last-next.at)))
	}
}

// waited counts the calls that began before the exchange of the token that they returned.
func waited(tokens []issued, calls wire.AccountCalls) int {
	n := 0
	for _, t := range tokens {
		for _, start := range calls.Tokens[t.token].Early {
			if start <= t.presented {
				n++
			}
		}
	}
	return n
}
