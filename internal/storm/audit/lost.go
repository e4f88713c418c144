package audit

import (
	"slices"

	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// judgeLost counts the grants whose newest refresh token is in no row. The provider began a family
// of refresh tokens for each put. The newest refresh token of a family must be in the row or, where
// another grant was put since, must have been.
func (a *faults) judgeLost() {
	newest, families := a.families()
	stored := a.stored()
	current := make(map[int64]bool) // The families whose newest refresh token is in a row.
	for _, row := range a.Rows {
		family := families[row.Serial]
		current[family] = row.Newest || newest[family].Next == row.Serial
		stored[row.Refresh] = true
	}
	latest := make(map[int]int64) // The family of the last put, by account.
	for _, put := range a.Puts {
		latest[put.Account] = families[put.Serial]
	}
	inUse := make(map[int64]bool)
	for _, family := range latest {
		inUse[family] = true
	}
	for family, one := range newest {
		made := a.madeBy(one)
		answered := made != nil && made.claim != nil && made.claim.succeeded()
		replaced := answered && stored[made.claim.answer.Refresh] && !inUse[family]
		if !current[family] && !replaced {
			a.lost(one, made)
		}
	}
}

// lost counts one grant. one is the presentation that made its newest refresh token.
func (a *faults) lost(one provider.Presentation, made *presentation) {
	switch {
	case made == nil || made.claim == nil:
		a.r.TokensLost++
		a.r.Violated("nobody knows who presented the refresh token %d of %s", one.Serial, one.Account)
	case a.diedWith(made):
		a.r.LostWithHolder++
	case !made.claim.succeeded():
		a.r.LostWithAnswer++
	default:
		a.r.TokensLost++
		a.r.Violated("the newest refresh token of %s, which %s got, is lost",
			one.Account, wire.Holder(made.Worker))
	}
}

// families returns the presentation that made the newest refresh token of each family, and the
// family of each refresh token by its serial. The families that were revoked needlessly are counted
// as lost.
func (a *faults) families() (newest map[int64]provider.Presentation, families map[int64]int64) {
	newest, families = make(map[int64]provider.Presentation), make(map[int64]int64)
	for _, one := range a.Provider {
		if one.Family == 0 {
			continue
		}
		if made := a.madeBy(one); one.Outcome == provider.Reused && made != nil && a.needless[made] {
			a.r.TokensLost++
			a.r.Violated("the grant of %s was revoked: %s presented its refresh token while another "+
				"holder lived with its successor", one.Account, wire.Holder(made.Worker))
		}
		families[one.Serial] = one.Family
		if one.Next != 0 {
			families[one.Next] = one.Family
			if one.Next > newest[one.Family].Next {
				newest[one.Family] = one
			}
		}
	}
	return newest, families
}

// stored returns the fingerprints of the refresh tokens that were stored by puts and saves.
func (a *faults) stored() map[string]bool {
	stored := make(map[string]bool)
	for _, put := range a.Puts {
		stored[put.Refresh] = true
	}
	for _, c := range a.claims {
		for _, w := range c.writes {
			// A save that lost against a put is no loss: the grant was replaced on purpose.
			replaced := w.Class == wire.Superseded && c.putAt < w.End
			if w.Action == wire.Save && (w.Class == "" || replaced) {
				stored[w.Refresh] = true
			}
		}
	}
	return stored
}

// madeBy returns the presentation that the provider recorded as one: the nearest in time.
func (a *faults) madeBy(one provider.Presentation) (nearest *presentation) {
	at := history.At(one.Start)
	distance := func(p *presentation) int64 { return max(p.Start-at, at-p.Start) }
	for _, p := range a.presented {
		if p.Serial == one.Serial && (nearest == nil || distance(p) < distance(nearest)) {
			nearest = p
		}
	}
	return nearest
}

// diedWith reports whether the presentation's holder was killed before it had stored its success.
func (a *faults) diedWith(p *presentation) bool {
	at, killed := a.Killed[p.Worker]
	if !killed || at < p.Start {
		return false
	}
	return !slices.ContainsFunc(p.claim.writes, func(w Entry) bool { return !w.unwritten() })
}
