package storm

import (
	"slices"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
)

// wrongWrites looks for successes that were thrown away (invariant 4) and failures that covered something (invariant 5).
func (a *audit) wrongWrites() {
	for _, c := range a.claims {
		_, killed := a.killed[c.worker]
		settled := func(w entry) bool { return w.Deed == didSave && w.Class != unwritten }
		if c.answer != nil && c.answer.Class == "" && !killed && !slices.ContainsFunc(c.writes, settled) {
			a.violated("the success of %s for %s was never stored, though it lived to the end (invariant 4)", holder(c.worker), a.names[c.Account])
		}
		for _, w := range c.writes {
			switch {
			case w.Deed == didSave && w.Class == superseded && !a.overtaken(c, w):
				a.violated("the success of %s for %s was turned down, though no later claim's and no put was stored (invariant 4)",
					holder(c.worker), a.names[c.Account])
			case w.Deed == didFail && w.Class == "" && a.covers(c, w):
				a.violated("the failure of %s for %s covers what was stored since its claim (invariant 5)", holder(c.worker), a.names[c.Account])
			}
		}
	}
}

// overtaken reports whether the result of a later claim, or a put, may have been stored when the claim's was turned down.
func (a *audit) overtaken(c *claimed, w entry) bool {
	if c.putAt < w.End {
		return true
	}
	for _, later := range a.claims {
		if later.Account != c.Account || later.Version <= c.Version {
			continue
		}
		if commit, ok := a.commit(later); ok && commit.Start < w.End {
			return true
		}
	}
	return false
}

// covers reports whether a success or a put was certainly stored between the claim and the write.
func (a *audit) covers(c *claimed, w entry) bool {
	for _, p := range a.puts {
		if p.account == c.Account && p.start > c.End && p.end < w.Start {
			return true
		}
	}
	for _, other := range a.claims {
		if other.Account != c.Account || other == c {
			continue
		}
		if commit, ok := a.commit(other); ok && commit.Start > c.End && commit.End < w.Start {
			return true
		}
	}
	return false
}

// commit returns the operation by which the claim's success was stored, if it may have been.
func (a *audit) commit(c *claimed) (history.Operation, bool) {
	if c.answer == nil || c.answer.Class != "" {
		return history.Operation{}, false
	}
	o := history.Operation{
		Kind: history.Commit, By: holder(c.worker), Start: c.answer.End, End: history.Forever, Version: c.Version,
		Token: c.answer.Token, Refresh: c.Refresh, Next: c.answer.Refresh,
	}
	maybe := true // it may have been stored without anybody saying so: the holder died, or the reply was lost
	first := true
	for i, w := range c.writes {
		if w.Deed != didSave {
			continue
		}
		if first {
			o.Start, first = w.Start, false
		}
		switch w.Class {
		case "":
			o.End = w.End
			if w.Lifetime != credentials.Never {
				o.Expires = w.Start + int64(w.Lifetime+clockSlack) // however long the save took
			}
			return o, true
		case superseded:
			maybe = slices.ContainsFunc(c.writes[:i], func(w entry) bool { return w.Class == unwritten })
		}
	}
	return o, maybe
}
