package storm

import (
	"context"
	"fmt"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// lost is what became of the grants whose newest refresh token is in no row.
type lost struct {
	tokens     int // somebody had it, and nothing explains that it is gone
	withHolder int // its holder was killed between the provider's answer and the save
	withAnswer int // the provider's answer was lost, so nobody ever had it
}

// findLost goes through the families of refresh tokens that the provider began, one for each put. What was newest in a
// family when its exchanges ended must be in the row or, where another grant was put since, must have been.
func (a *audit) findLost(ctx context.Context, p *provider.Provider, rows *accounts) (lost, error) {
	stored := make(map[string]bool) // refresh tokens, by fingerprint
	for _, put := range a.puts {
		stored[put.refresh] = true
	}
	for _, c := range a.claims {
		for _, w := range c.writes {
			// A save that lost against a put is no loss: the grant was replaced on purpose.
			if w.Deed == didSave && (w.Class == "" || w.Class == superseded && c.putAt < w.End) {
				stored[w.Refresh] = true
			}
		}
	}
	newest := make(map[int64]provider.Presentation) // by family: the presentation that made its newest refresh token
	families := make(map[int64]int64)               // by the serial of a refresh token
	for _, one := range p.Presentations() {
		if one.Family == 0 {
			continue
		}
		families[one.Serial] = one.Family
		if one.Next != 0 {
			families[one.Next] = one.Family
			if one.Next > newest[one.Family].Next {
				newest[one.Family] = one
			}
		}
	}
	current := make(map[int64]bool) // families whose newest refresh token is in a row
	for c, err := range rows.store.List(ctx, rows.service) {
		if err != nil {
			return lost{}, fmt.Errorf("read the rows: %w", err)
		}
		serial := p.Serial(c.RefreshToken.Reveal())
		family := families[serial]
		current[family] = newest[family].Next == serial || p.Current(c.Key.Account, c.RefreshToken.Reveal())
		stored[fingerprint(c.RefreshToken)] = true
	}

	latest := make(map[int]int64) // by account: the family of the last put
	for _, put := range a.puts {
		latest[put.account] = families[put.serial]
	}
	inUse := make(map[int64]bool)
	for _, family := range latest {
		inUse[family] = true
	}
	var sum lost
	for family, one := range newest {
		made := a.madeBy(one)
		switch {
		case current[family], made != nil && made.Next != "" && stored[made.Next] && !inUse[family]:
		case made == nil || made.claim == nil:
			sum.tokens++
			a.violated("nobody knows who presented the refresh token %d of %s", one.Serial, one.Account)
		case a.diedWith(made):
			sum.withHolder++
		case made.Next == "" || made.claim.answer == nil || made.claim.answer.Class != "":
			sum.withAnswer++
		default:
			sum.tokens++
			a.violated("the newest refresh token of %s, which %s got, is lost", one.Account, holder(made.Worker))
		}
	}
	return sum, nil
}

// madeBy returns the presentation that the provider recorded as one.
func (a *audit) madeBy(one provider.Presentation) *presented {
	var best *presented
	for _, p := range a.presented {
		if p.Serial == one.Serial && (best == nil || distance(p, one) < distance(best, one)) {
			best = p
		}
	}
	return best
}

func distance(p *presented, one provider.Presentation) int64 {
	d := p.arrived.Sub(one.Start)
	return int64(d.Abs())
}

// diedWith reports whether the presentation's holder was killed before it had stored its success, if it was one.
func (a *audit) diedWith(p *presented) bool {
	at, killed := a.killed[p.Worker]
	if !killed || at < p.Start {
		return false
	}
	for _, w := range p.claim.writes {
		if w.Class != unwritten {
			return false
		}
	}
	return true
}
