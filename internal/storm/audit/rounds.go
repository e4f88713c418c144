package audit

import (
	"maps"
	"slices"

	"github.com/latchkey-go/latchkey/internal/storm/report"
)

// Rounds audits a storm of rounds without faults: each round needs one exchange for each account,
// and each caller gets the token that was committed.
func Rounds(r *report.Report, rounds []Round) {
	t := newTally(r)
	calls := make([]int, len(r.PerAccount))
	for i, round := range rounds {
		for _, worker := range slices.Sorted(maps.Keys(round.Results)) {
			t.addRound(r, i+1, worker, round)
		}
		for k, account := range r.PerAccount {
			n := round.Stats.Accounts[account.Account].Calls - calls[k]
			r.Refreshes.Duplicates += max(0, n-1)
			calls[k] += n
		}
	}
	for i := range r.PerAccount {
		r.PerAccount[i].Needed = r.Rounds
		t.failed[i] = r.Processes*r.Threads*r.Rounds - len(t.took[i])
	}
	t.fill(r)
	r.Refreshes.Needed = r.Accounts * r.Rounds
	judgeConnections(r, rounds)
	judgeCalls(r, "the same account again in the same round")
}

// addRound adds the callers of one worker in one round, and holds their tokens against the rows.
func (t tally) addRound(r *report.Report, number, worker int, round Round) {
	failures := make(map[string]int)
	foreign := make([]int, len(r.PerAccount))
	for _, caller := range round.Results[worker].Callers {
		if caller.Class != "" {
			failures[caller.Text]++
			continue
		}
		if caller.Token != round.Rows[caller.Account].Token {
			foreign[caller.Account]++
		}
		t.took[caller.Account] = append(t.took[caller.Account], caller.Took)
	}
	for _, text := range slices.Sorted(maps.Keys(failures)) {
		r.Violated("round %d, worker %d: %d callers failed: %s", number, worker, failures[text], text)
	}
	for account, n := range foreign {
		if n > 0 {
			r.Violated("round %d, worker %d: %d callers got a token of %s that is not the one in its row",
				number, worker, n, r.PerAccount[account].Account)
		}
	}
}
