package audit

import (
	"cmp"
	"slices"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// claim is one claim, and the records under it.
type claim struct {
	Entry
	leaseEnd int64  // The earliest moment at which the lease may have ended by itself.
	answer   *Entry // Nil if the holder recorded none.
	writes   []Entry
	putAt    int64 // A put began to end the claim then; history.Forever if none did.
}

func newFaults(r *report.Report, e Evidence) *faults {
	a := &faults{
		r: r, Evidence: e, claims: make(map[string]*claim), needless: make(map[*presentation]bool),
	}
	for _, e := range a.Entries {
		if e.Action == wire.Claim {
			a.claims[e.Claim] = &claim{
				Entry: e, leaseEnd: e.Start + int64(e.EndsIn-clockSlack), putAt: history.Forever,
			}
		}
	}
	for _, e := range a.Entries {
		c := a.claims[e.Claim]
		switch {
		case c == nil:
		case e.Action == wire.Answer:
			c.answer = &e
		case e.Action != wire.Claim:
			c.writes = append(c.writes, e)
		}
	}
	for _, c := range a.claims {
		for _, p := range a.Puts {
			if p.Account == c.Account && p.End > c.Start {
				c.putAt = min(c.putAt, p.Start)
			}
		}
	}
	a.connectPresentations()
	return a
}

// succeeded reports whether the provider answered the claim's holder with new tokens.
func (c *claim) succeeded() bool { return c.answer != nil && c.answer.Class == "" }

// excused reports whether the claim's holder was killed, or stopped before until, so that a write
// after the lease's end is no fault of the holder. Faults of the server are no excuse: as long as
// the holder lives and runs, nobody may take its claim for abandoned.
func (a *faults) excused(c *claim, until int64) bool {
	if at, ok := a.Killed[c.Worker]; ok && at >= c.Start {
		return true
	}
	return slices.ContainsFunc(a.Pauses, func(d Downtime) bool {
		return d.Worker == c.Worker && d.overlaps(c.Start, until)
	})
}

// certainlyLive returns the time until which nobody can have ended the claim. The claim may have
// ended when its lease ended, or when a put or a write of its holder began. A holder that was
// killed may have ended its claim after it had an answer to write, or had waited as long for one as
// a holder does.
func (a *faults) certainlyLive(c *claim) int64 {
	end := min(c.leaseEnd, c.putAt)
	for _, w := range c.writes {
		end = min(end, w.Start)
	}
	if _, killed := a.Killed[c.Worker]; killed {
		end = min(end, c.End+int64(wire.MinExchangeTimeout/2))
		if c.answer != nil {
			end = min(end, c.answer.End)
		}
	}
	return end
}

// liveClaims returns the highest number of claims of one account that were certainly live at one
// moment (invariant 1).
func (a *faults) liveClaims() (highest int) {
	type edge struct {
		at   int64
		step int
	}
	edges := make([][]edge, len(a.r.PerAccount))
	for _, c := range a.claims {
		if end := a.certainlyLive(c); end > c.End {
			edges[c.Account] = append(edges[c.Account], edge{c.End, 1}, edge{end, -1})
		}
	}
	for account, own := range edges {
		slices.SortFunc(own, func(x, y edge) int {
			return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.step, y.step))
		})
		live := 0
		for _, e := range own {
			live += e.step
			if live > 1 && live > highest {
				a.r.Violated("%d claims on %s were live at the same moment (invariant 1)",
					live, a.name(account))
			}
			highest = max(highest, live)
		}
	}
	return highest
}

// outcome returns what is known of the exchange under a claim. used reports that the refresh token
// is used up, and that the holder knew and could say so in time. clean reports that the provider
// refused, and left the refresh token as it was.
func (a *faults) outcome(c *claim) (used, clean bool) {
	if c.answer == nil {
		return !a.excused(c, history.Forever), false
	}
	switch credentials.Class(c.answer.Class) {
	case credentials.ClassTransient:
		return false, true
	case credentials.ClassUnknown:
		return false, false
	}
	// The refresh token is used up. Other workers know when the holder has written.
	for _, w := range c.writes {
		if (w.Action == wire.Save || w.Action == wire.Fail) && !w.unwritten() {
			return w.End <= c.leaseEnd || !a.excused(c, w.End), false
		}
	}
	return !a.excused(c, history.Forever), false
}
