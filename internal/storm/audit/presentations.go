package audit

import (
	"cmp"
	"slices"

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Presentation is a request to the token endpoint, with the claim under which it was made.
type Presentation struct {
	Worker  int
	Claim   string
	Account string
	Serial  int64  // The provider's number of the refresh token.
	Refresh string // The fingerprint of the refresh token.
	Start   int64  // The time of arrival, by history.Now.
}

// presentation is a Presentation with the outcome that its holder knew.
type presentation struct {
	Presentation
	claim       *claim // Nil if there is none.
	used, clean bool   // See outcome.
}

// connectPresentations finds the claim of each presentation (invariant 2).
func (a *faults) connectPresentations() {
	under := make(map[string]bool)
	for _, p := range a.Presentations {
		one := &presentation{Presentation: p, claim: a.claims[p.Claim]}
		if one.claim == nil {
			a.r.Violated("%s presented a refresh token of %s without a claim (invariant 2)",
				wire.Holder(p.Worker), p.Account)
		} else {
			if under[p.Claim] {
				a.r.Violated("%s presented a refresh token of %s twice under one claim",
					wire.Holder(p.Worker), p.Account)
			}
			under[p.Claim] = true
			one.used, one.clean = a.outcome(one.claim)
		}
		a.presented = append(a.presented, one)
	}
	slices.SortStableFunc(a.presented, func(x, y *presentation) int {
		return cmp.Compare(x.Start, y.Start)
	})
}

// repeats counts presentations of a refresh token that had been presented before: after an unknown
// outcome (replays), after a refusal (retries), and of a token that another holder was about to
// replace (needless).
func (a *faults) repeats() (replays, retries, needless int) {
	before := make(map[int64][]*presentation)
	for _, p := range a.presented {
		switch earlier := before[p.Serial]; {
		case len(earlier) == 0:
		case slices.ContainsFunc(earlier, func(e *presentation) bool { return e.used }):
			needless++
			a.needless[p] = true
		case slices.ContainsFunc(earlier, func(e *presentation) bool { return !e.clean }):
			replays++
		default:
			retries++
		}
		before[p.Serial] = append(before[p.Serial], p)
	}
	return replays, retries, needless
}

// late counts presentations that arrived after their lease had ended. Only a holder that was
// stopped in the instant before its request went out may present that late.
func (a *faults) late() int {
	late := 0
	for _, p := range a.presented {
		if p.claim == nil || p.Start <= p.claim.End+int64(p.claim.EndsIn+clockSlack) {
			continue
		}
		late++
		if overlap(a.Pauses, p.Worker, p.claim.Start, p.Start) == 0 {
			a.r.Violated("%s presented a refresh token of %s after its lease had ended",
				wire.Holder(p.Worker), p.Account)
		}
	}
	return late
}

// unknown counts exchanges of which nobody knew for certain whether the refresh token was used up.
func (a *faults) unknown() int {
	n := 0
	for _, p := range a.presented {
		if !p.used && !p.clean {
			n++
		}
	}
	return n
}
