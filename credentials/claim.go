package credentials

import "time"

// Claim asks for a lease.
type Claim struct {
	// ID names the claim: random, unique, at most 32 ASCII letters and digits. A repeated call with
	// the same ID finds the claim that it made.
	ID string

	// Holder says for people who claims; at most 255 printable ASCII characters.
	Holder string

	// Lease is how long the claim lasts.
	Lease time.Duration

	// Invalidated is a token that was turned down by the external API; zero for none.
	Invalidated TokenID

	// MinTokenAge is how long ago an exchange must have brought the token that Invalidated names.
	// Zero: the token is exchanged whatever its age.
	MinTokenAge time.Duration

	// TakeOver is the ID of a lease that this claim may take over, since the process has counted
	// the lease's end on its own clock. The store's clock is not asked. Empty: none.
	TakeOver string

	// Unused is the ID of an earlier claim of this process under which nothing was presented. This
	// claim may take over its lease, live or ended, and that is no interruption. Empty: none.
	Unused string

	// Lapsed is how long ago, by the store's clock, a lease must have ended for a batch to take it
	// over. Zero: a batch takes over none.
	Lapsed time.Duration
}

// Shared returns the claim as a store makes it on several credentials: without Invalidated,
// MinTokenAge, TakeOver and Unused, each of which is about one credential.
func (claim Claim) Shared() Claim {
	claim.Invalidated, claim.MinTokenAge, claim.TakeOver, claim.Unused = TokenID{}, 0, "", ""
	return claim
}

// mayTakeOver reports whether the claim may put its own lease in the place of l.
func (claim Claim) mayTakeOver(l Lease) bool {
	lapsed := claim.Lapsed > 0 && l.EndsIn <= -claim.Lapsed
	return l.ID == "" || l.ID == claim.TakeOver || claim.unused(l) || lapsed
}

// unused reports whether nothing was presented under l, as the process knows: an earlier try of
// this claim included.
func (claim Claim) unused(l Lease) bool { return l.ID == claim.ID || l.ID == claim.Unused }

// State says how a claim may treat a credential now.
type State int

// The states, in the order in which they are decided.
const (
	StateDisabled   State = iota + 1 // an operator has disabled the credential
	StateLeased                      // another lease stands in the row, live or ended
	StateFresh                       // the token is good and not due
	StateDead                        // the grant is dead; a person has to authorize again
	StateBackingOff                  // an exchange failed; none before Failure.RetryIn
	StateTooYoung                    // invalidated, and an exchange has just brought the token
	StateClaimable                   // due, expired or invalidated, and no lease is in the way
)

// State decides whether that claim may be made on the credential. The zero Claim may take over no
// lease, so its state is the one that every process sees. The token that claim.Invalidated names
// does not count as fresh. But such a token is too young to be exchanged, unless it is due or has
// expired, when an exchange brought it less than claim.MinTokenAge ago: an API that turns down
// every token must not cause an exchange per request. A token that was put is never too young.
//
// Every [Store] decides a claim with it while it holds the row, and the manager decides with it
// whether to claim at all, so that there is one rule.
func (c Credential) State(claim Claim) State {
	good := !c.expired() && c.DueIn > 0
	turnedDown := claim.Invalidated != TokenID{} && claim.Invalidated == c.TokenID()
	switch {
	case c.Disabled.By != "":
		return StateDisabled
	case c.Lease.Live() && !claim.mayTakeOver(c.Lease):
		return StateLeased
	case good && !turnedDown:
		return StateFresh
	case !claim.mayTakeOver(c.Lease):
		return StateLeased
	case c.Failure.Class == ClassDead:
		return StateDead
	case c.Failure.RetryIn > 0:
		return StateBackingOff
	case good && c.Refreshed.within(claim.MinTokenAge):
		return StateTooYoung
	default:
		return StateClaimable
	}
}

// Claimed returns the credential as the claim leaves it, for stores that have just made it on c.
//
// A lease that was still set ended with nothing saved: the outcome of its exchange is unknown, and
// the exchange counts as interrupted. There are two exceptions. An earlier holder's late success
// was saved since the lease began, so the refresh token that the lease's holder may have presented
// is no longer in use. Or nothing was presented under the lease, as the claim's process knows.
func (c Credential) Claimed(claim Claim) Credential {
	unused := claim.unused(c.Lease)
	if c.Lease.ID != "" && !unused && !c.overtaken() {
		c.Interrupted = Interruption{By: c.Lease.Holder, Ago: c.Lease.Age}
	}
	c.TookOver = c.Lease.ID != "" && !unused || c.awaitsHolder()
	c.Version++
	c.DueIn = claim.Lease
	c.Lease = Lease{ID: claim.ID, Holder: claim.Holder, Version: c.Version, EndsIn: claim.Lease}
	return c
}

// awaitsHolder reports whether an exchange was interrupted and nothing was presented since: the
// lease that took its holder's place was given up, or will be, and the holder has not had the grace
// yet.
func (c Credential) awaitsHolder() bool {
	return c.Interrupted.By != "" && (c.Failure.Class == "" || c.Interrupted.Ago < c.Failure.Ago)
}

// FoundAgain returns the credential as a repeated claim finds it, for stores that found the lease
// to be the claim's own: it may have taken another over.
func (c Credential) FoundAgain() Credential {
	c.TookOver = c.Interrupted.By != ""
	return c
}

// overtaken reports whether a success was saved since the lease began: an earlier holder's, which
// was late. Nothing else moves the version on and leaves the lease's behind: an operator's mark
// moves on both.
func (c Credential) overtaken() bool { return c.Version > c.Lease.Version }

// Fence identifies the claim that a result belongs to: the row, the claim's id and the row's
// version at the claim (the fencing version). The version alone would not do, since versions repeat
// when a fail-over forgets a claim. The key is the row's own and tells no two claims apart: a store
// of several servers finds the row by it, and one that seals tokens binds them to it.
type Fence struct {
	Key     Key
	Row     uint64
	Claim   string
	Version uint64
}

// Fence returns the fence of the claim that c was returned for.
func (c Credential) Fence() Fence {
	return Fence{Key: c.Key, Row: c.Row, Claim: c.Lease.ID, Version: c.Lease.Version}
}
