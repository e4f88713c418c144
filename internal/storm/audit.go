package storm

import (
	"cmp"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
)

// clockSlack is how far the database's clock, by which leases and tokens end, may run ahead of or behind
// history.Now over a few seconds.
const clockSlack = 100 * time.Millisecond

// hangs is how long after its deadline a caller may return on a slow machine. One whose process was stopped returns
// later.
const hangs = 10 * time.Second

// audit is what a journal comes to.
type audit struct {
	*journal // a copy, to which it adds the violations that it finds

	names     []string
	claims    map[string]*claimed
	presented []*presented
}

// claimed is one claim and what followed.
type claimed struct {
	entry
	leaseEnd int64  // the earliest moment at which the lease may have ended by itself
	answer   *entry // nil: the holder said none
	writes   []entry
	putAt    int64 // when a put began to end it; history.Forever if none did
}

// presented is a presentation with what its holder made of it.
type presented struct {
	presentation
	claim *claimed // nil: there is none
	used  bool     // the refresh token was used up, and the holder knew and could say so in time
	clean bool     // the provider refused, and left the refresh token as it was
}

func newAudit(j *journal, names []string, presentations []presentation) *audit {
	a := &audit{journal: j, names: names, claims: make(map[string]*claimed)}
	for _, e := range j.entries {
		if e.Deed == didClaim {
			a.claims[e.Claim] = &claimed{entry: e, leaseEnd: e.Start + int64(e.EndsIn-clockSlack), putAt: history.Forever}
		}
	}
	for _, e := range j.entries {
		c := a.claims[e.Claim]
		switch {
		case c == nil:
		case e.Deed == didAnswer:
			c.answer = &e
		case e.Deed != didClaim:
			c.writes = append(c.writes, e)
		}
	}
	for _, c := range a.claims {
		for _, p := range j.puts {
			if p.account == c.Account && p.end > c.Start {
				c.putAt = min(c.putAt, p.start)
			}
		}
	}
	under := make(map[string]bool)
	for _, p := range presentations {
		one := &presented{presentation: p, claim: a.claims[p.Claim]}
		switch c := one.claim; {
		case c == nil:
			a.violated("%s presented a refresh token of %s without a claim (invariant 2)", holder(p.Worker), p.Account)
		case under[p.Claim]:
			a.violated("%s presented a refresh token of %s twice under one claim", holder(p.Worker), p.Account)
			fallthrough
		default:
			one.used, one.clean = a.outcome(c)
			under[p.Claim] = true
		}
		a.presented = append(a.presented, one)
	}
	slices.SortStableFunc(a.presented, func(x, y *presented) int { return cmp.Compare(x.Start, y.Start) })
	return a
}

// outcome says what is known of the exchange under a claim.
func (a *audit) outcome(c *claimed) (used, clean bool) {
	if c.answer == nil {
		return !a.excused(c, history.Forever), false
	}
	switch credentials.Class(c.answer.Class) {
	case credentials.Transient:
		return false, true
	case credentials.Unknown:
		return false, false
	}
	// It is used up. The others know it when that is written.
	for _, w := range c.writes {
		if (w.Deed == didSave || w.Deed == didFail) && w.Class != unwritten {
			return w.End <= c.leaseEnd || !a.excused(c, w.End), false
		}
	}
	return !a.excused(c, history.Forever), false
}

// excused reports whether something was done to the claim's holder, or to the server, until that time, for which it
// cannot be blamed that nothing was written before the lease ended.
func (a *audit) excused(c *claimed, until int64) bool {
	if at, ok := a.killed[c.worker]; ok && at >= c.Start {
		return true
	}
	for _, s := range a.pauses {
		if s.worker == c.worker && s.overlaps(c.Start, until) {
			return true
		}
	}
	for _, s := range a.restarts {
		if s.overlaps(c.Start, until) {
			return true
		}
	}
	return slices.ContainsFunc(c.writes, func(w entry) bool { return w.Class == unwritten })
}

// certainlyLive is until when nobody can have ended the claim: until its lease may have ended, a put or a write of its
// holder began, or its holder, when it was killed, had an answer to write, or had waited for one as long as it does.
func (a *audit) certainlyLive(c *claimed) int64 {
	end := min(c.leaseEnd, c.putAt)
	for _, w := range c.writes {
		end = min(end, w.Start)
	}
	if _, killed := a.killed[c.worker]; killed {
		end = min(end, c.End+int64(shortExchange/2))
		if c.answer != nil {
			end = min(end, c.answer.End)
		}
	}
	return end
}

// liveClaims returns how many claims of one account were certainly live at one moment, at most (invariant 1).
func (a *audit) liveClaims() int {
	type edge struct {
		at   int64
		step int
	}
	edges := make(map[int][]edge)
	for _, c := range a.claims {
		if end := a.certainlyLive(c); end > c.End {
			edges[c.Account] = append(edges[c.Account], edge{c.End, 1}, edge{end, -1})
		}
	}
	most := 0
	for account, own := range edges {
		slices.SortFunc(own, func(x, y edge) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.step, y.step)) })
		live := 0
		for _, e := range own {
			live += e.step
			if live > 1 && live > most {
				a.violated("%d claims on %s were live at the same moment (invariant 1)", live, a.names[account])
			}
			most = max(most, live)
		}
	}
	return most
}

// repeats counts presentations of a refresh token that had been presented before: after an unknown outcome, after a
// refusal, and needlessly.
func (a *audit) repeats() (replays, retries, needless int) {
	before := make(map[int64][]*presented)
	for _, p := range a.presented {
		switch earlier := before[p.Serial]; {
		case len(earlier) == 0:
		case slices.ContainsFunc(earlier, func(e *presented) bool { return e.used }):
			needless++
		case slices.ContainsFunc(earlier, func(e *presented) bool { return !e.clean }):
			replays++
		default:
			retries++
		}
		before[p.Serial] = append(before[p.Serial], p)
	}
	return replays, retries, needless
}

// late counts presentations that arrived after their lease had ended: possible only for a holder that was stopped in the
// instant before its request went out.
func (a *audit) late() int {
	late := 0
	for _, p := range a.presented {
		if p.claim == nil || p.Start <= p.claim.End+int64(p.claim.EndsIn+clockSlack) {
			continue
		}
		late++
		if overlap(a.pauses, p.Worker, p.claim.Start, p.Start) == 0 {
			a.violated("%s presented a refresh token of %s after its lease had ended", holder(p.Worker), p.Account)
		}
	}
	return late
}

// unknown counts exchanges of which nobody knew for certain what had become of the refresh token.
func (a *audit) unknown() int {
	n := 0
	for _, p := range a.presented {
		if !p.used && !p.clean {
			n++
		}
	}
	return n
}

// history returns the operations that package history judges.
func (a *audit) history() []history.Operation {
	var operations []history.Operation
	add := func(account int, o history.Operation) {
		o.Credential = a.names[account]
		operations = append(operations, o)
	}
	for _, p := range a.puts {
		add(p.account, history.Operation{Kind: history.Put, By: "the parent", Start: p.start, End: p.end, Refresh: p.refresh})
	}
	for _, c := range a.claims {
		add(c.Account, history.Operation{
			Kind: history.Claim, By: holder(c.worker), Start: c.Start, End: c.End, Refresh: c.Refresh, Version: c.Version,
		})
		if commit, ok := a.commit(c); ok {
			add(c.Account, commit)
		}
	}
	for _, p := range a.presented {
		if p.claim != nil {
			add(p.claim.Account, history.Operation{
				Kind: history.Present, By: holder(p.Worker), Start: p.Start, End: p.Start, Refresh: p.Refresh, Used: p.used,
			})
		}
	}
	for _, e := range a.entries {
		if e.Deed == didCall && e.Token != "" {
			add(e.Account, history.Operation{Kind: history.Observe, By: "a caller of " + holder(e.worker), Start: e.Start, End: e.End, Token: e.Token})
		}
	}
	return operations
}
