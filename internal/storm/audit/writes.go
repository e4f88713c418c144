package audit

import (
	"slices"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// judgeWrites finds successes that were thrown away (invariant 4) and failures that covered a
// success or a put (invariant 5).
func (a *faults) judgeWrites() {
	settled := func(w Entry) bool { return w.Action == wire.Save && !w.unwritten() }
	for _, c := range a.claims {
		holder, name := wire.Holder(c.Worker), a.name(c.Account)
		_, killed := a.Killed[c.Worker]
		if c.succeeded() && !killed && !slices.ContainsFunc(c.writes, settled) {
			a.r.Violated("the success of %s for %s was never stored, "+
				"though it lived to the end (invariant 4)", holder, name)
		}
		for _, w := range c.writes {
			switch {
			case w.Action == wire.Save && w.Class == wire.Superseded && !a.overtaken(c, w):
				a.r.Violated("the success of %s for %s was turned down, though no later claim's and no put "+
					"was stored (invariant 4)", holder, name)
			case w.Action == wire.Fail && w.Class == "" && a.covers(c, w):
				a.r.Violated("the failure of %s for %s covers what was stored since its claim (invariant 5)",
					holder, name)
			}
		}
	}
}

// overtaken reports whether the result of a later claim, or a put, may have been stored when the
// claim's save was turned down.
func (a *faults) overtaken(c *claim, w Entry) bool {
	return c.putAt < w.End || a.anyCommit(c, func(later *claim, commit history.Operation) bool {
		return later.Version > c.Version && commit.Start < w.End
	})
}

// covers reports whether a success or a put was certainly stored between the claim and the write.
func (a *faults) covers(c *claim, w Entry) bool {
	return slices.ContainsFunc(a.Puts, func(p Put) bool {
		return p.Account == c.Account && p.Start > c.End && p.End < w.Start
	}) || a.anyCommit(c, func(_ *claim, commit history.Operation) bool {
		return commit.Start > c.End && commit.End < w.Start
	})
}

// anyCommit reports whether is holds for the commit of any other claim on the same account.
func (a *faults) anyCommit(c *claim, is func(other *claim, commit history.Operation) bool) bool {
	for _, other := range a.claims {
		if other.Account != c.Account || other == c {
			continue
		}
		if commit, ok := a.commit(other); ok && is(other, commit) {
			return true
		}
	}
	return false
}

// commit returns the operation by which the claim's success was stored, if it may have been.
func (a *faults) commit(c *claim) (history.Operation, bool) {
	if !c.succeeded() {
		return history.Operation{}, false
	}
	o := history.Operation{
		Kind: history.Commit, By: wire.Holder(c.Worker), Start: c.answer.End, End: history.Forever,
		Version: c.Version, Token: c.answer.Token, Refresh: c.Refresh, Next: c.answer.Refresh,
	}
	// Without a record of it, the success may have been stored: the holder died, or the reply was
	// lost.
	maybe := true
	first := true
	for i, w := range c.writes {
		if w.Action != wire.Save {
			continue
		}
		if first {
			o.Start, first = w.Start, false
		}
		switch w.Class {
		case "":
			o.End = w.End
			if w.Lifetime != credentials.Never {
				o.Expires = w.Start + int64(w.Lifetime+clockSlack) // The save may take any time.
			}
			return o, true
		case wire.Superseded:
			maybe = slices.ContainsFunc(c.writes[:i], Entry.unwritten)
		}
	}
	return o, maybe
}

// operations returns the operations that package history judges.
func (a *faults) operations() []history.Operation {
	var operations []history.Operation
	add := func(account int, o history.Operation) {
		o.Credential = a.name(account)
		operations = append(operations, o)
	}
	for _, p := range a.Puts {
		add(p.Account, history.Operation{
			Kind: history.Put, By: "the parent", Start: p.Start, End: p.End, Refresh: p.Refresh,
		})
	}
	for _, c := range a.claims {
		add(c.Account, history.Operation{
			Kind: history.Claim, By: wire.Holder(c.Worker), Start: c.Start, End: c.End,
			Refresh: c.Refresh, Version: c.Version,
		})
		if commit, ok := a.commit(c); ok {
			add(c.Account, commit)
		}
	}
	for _, p := range a.presented {
		if p.claim != nil {
			add(p.claim.Account, history.Operation{
				Kind: history.Present, By: wire.Holder(p.Worker), Start: p.Start, End: p.Start,
				Refresh: p.Refresh, Used: p.used,
			})
		}
	}
	for _, e := range a.Entries {
		if e.Action == wire.Call && e.Token != "" {
			add(e.Account, history.Operation{
				Kind: history.Observe, By: "a caller of " + wire.Holder(e.Worker), Start: e.Start, End: e.End,
				Token: e.Token,
			})
		}
	}
	return operations
}
