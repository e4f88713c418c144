package model

import (
	"errors"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// op is one call of a store and its answer.
type op struct {
	kind Op
	at   span

	claim   credentials.Claim // of a batch too
	batch   credentials.Batch // of ClaimDue, but for its claim
	alone   bool              // nothing else was done at the same time, nor did the batch claim as much as it may
	fence   credentials.Fence
	renewal credentials.Renewal
	from    span // when the renewal's lifetimes count from; zero: from at
	failure credentials.Failure
	grant   credentials.Grant

	got credentials.Credential // of Get, Claim and ClaimDue; zero: the batch has not this one
	err error
}

// Op names a call that a process makes.
type Op = testkit.Method

// The calls of a store, that of the provider, and those of a person.
const (
	Get         = testkit.Get
	GetAll      = testkit.GetAll
	Versions    = testkit.Versions
	Claim       = testkit.Claim
	ClaimAll    = testkit.ClaimAll
	Save        = testkit.Save
	Fail        = testkit.Fail
	Release     = testkit.Release
	ClaimDue    = testkit.ClaimDue
	FindClaims  = testkit.FindClaims
	DueServices = testkit.DueServices

	Refresh Op = "Refresh"

	put    Op = "Put"
	remove Op = "Delete"
)

// apply does to the cell what the call must have done to the credential, and says what is wrong
// with its answer.
func (c cell) apply(o op) (cell, *Violation) {
	if o.kind == ClaimAll {
		if o.passedOver() && !o.alone {
			return c, nil
		}
		o.kind, o.claim = Claim, o.claim.Shared()
	}
	switch o.kind {
	case put:
		return c.put(o)
	case remove, Get, Claim:
		if !c.exists {
			if !errors.Is(o.err, credentials.ErrNotFound) {
				return c, broken("what is not there is not found", "%s: error %v", o.kind, o.err)
			}
			return c, nil
		}
		if o.err != nil {
			return c, broken("what is there is found", "%s: error %v", o.kind, o.err)
		}
	}
	switch o.kind {
	case ClaimDue:
		return c.claimDue(o)
	case FindClaims:
		return c.findClaims(o)
	case remove:
		return cell{before: c.row}, nil
	case Get:
		return c.match(o.got, o.at)
	case Claim:
		return c.claim(o)
	case Save, Fail, Release:
		if c.open(o.kind, o.fence) && errors.Is(o.err, credentials.ErrUnavailable) {
			return c, nil
		}
	}
	switch o.kind {
	case Save:
		return c.save(o)
	case Fail:
		return c.fail(o)
	case Release:
		return c.release(o)
	}
	panic("no such call: " + o.kind)
}

// passedOver reports whether a ClaimAll did nothing, since the row was locked.
func (o op) passedOver() bool {
	return o.kind == ClaimAll && errors.Is(o.err, credentials.ErrRowLocked)
}

func (c cell) put(o op) (cell, *Violation) {
	if o.err != nil {
		return c, broken("a put is stored", "error %v", o.err)
	}
	next := cell{exists: true, before: c.before}
	if c.exists {
		next.row = c.row
		if c.version != 0 {
			next.version = c.version + 1
			next.tokenOf = next.version
		}
	}
	next.token, next.refresh = o.grant.AccessToken.Reveal(), o.grant.RefreshToken.Reveal()
	lifetime := o.grant.Lifetime
	if lifetime == 0 && next.token != "" {
		lifetime = credentials.Never
	}
	next.expires, next.due = momentIn(o.at, lifetime), momentIn(o.at, credentials.DueIn(lifetime))
	return next, nil
}

// claim: the answer says whether it was made. It must have been possible, and nothing else may have
// been.
func (c cell) claim(o op) (cell, *Violation) {
	possible := c.states(o.at, o.claim)
	if o.got.Lease.ID != o.claim.ID || !o.got.Lease.Live() { // an ended one of that name was not made just now
		if state := o.got.State(o.claim); state == credentials.StateClaimable || !possible.has(state) {
			return c, broken("a claim is refused for a reason", "state %d, want one of the set %b", state, possible)
		}
		return c.match(o.got, o.at)
	}
	if c.lease.id == o.claim.ID && o.got.Version == c.version {
		return c.match(o.got, o.at) // repeated, it finds what it made
	}
	if !possible.has(credentials.StateClaimable) {
		rule := "one exchange per expiry: what is fresh is not claimed"
		switch {
		case possible.has(credentials.StateLeased):
			rule = "invariant 1: at most one live claim"
		case possible.has(credentials.StateDead):
			rule = "invariant 9: what is dead is not claimed"
		case possible.has(credentials.StateBackingOff):
			rule = "invariant 10: nothing is claimed before its back-off is over"
		case possible.has(credentials.StateTooYoung):
			rule = "no token is exchanged since it was turned down that an exchange has just brought"
		}
		return c, broken(rule, "claimed by %s under version %d; the lease before it: %s", o.claim.Holder, o.got.Version, c.lease.holder)
	}
	next := c.claimed(o)
	return next.match(o.got, o.at)
}

// claimed is the cell under a claim that was possible.
func (c cell) claimed(o op) cell {
	next := c
	unused := c.lease.id == o.claim.ID || c.lease.id == o.claim.Unused
	if c.lease.id != "" && !unused && !c.lease.overtaken {
		next.interrupted = c.lease.holder
	}
	next.version++
	if c.version == 0 {
		next.version = o.got.Version
	}
	next.lease = held{id: o.claim.ID, holder: o.claim.Holder, version: next.version, ends: momentIn(o.at, o.claim.Lease)}
	next.due = next.lease.ends
	return next
}

// claimDue: a batch claims what is due and may be claimed, and not what is not. While something
// else is done to a credential, it may be locked, and passed over.
func (c cell) claimDue(o op) (cell, *Violation) {
	o.claim.Invalidated, o.claim.TakeOver, o.claim.Unused = credentials.TokenID{}, "", "" // which a batch does not use
	if o.err != nil {
		return c, broken("the store works", "ClaimDue: %v", o.err)
	}
	due, early := c.due.reached(o.at.plus(-o.batch.MinOverdue))
	old := false
	if o.batch.MaxOverdue > 0 {
		_, recent := c.due.reached(o.at.plus(-o.batch.MaxOverdue - blur))
		old = !recent
	}
	if o.got.Row == 0 {
		if c.exists && o.alone && due && !early && !old && c.states(o.at, o.claim) == only(credentials.StateClaimable) {
			return c, broken("a batch claims what is due", "it is due, and was left")
		}
		return c, nil
	}
	if !c.exists {
		return c, broken("what is not there is not found", "ClaimDue found it")
	}
	if o.got.Lease.ID != o.claim.ID || !o.got.Lease.Live() {
		return c, broken("a batch returns what it claimed", "the lease is %s's", o.got.Lease.Holder)
	}
	if !due {
		return c, broken("a batch claims what is due", "it is due in %v", o.got.DueIn)
	}
	return c.claim(o)
}

// findClaims: what a batch claimed is found, whether or not its lease has ended.
func (c cell) findClaims(o op) (cell, *Violation) {
	there := c.exists && c.lease.id == o.claim.ID
	switch {
	case o.err != nil:
		return c, broken("the store works", "FindClaims: %v", o.err)
	case o.got.Row == 0 && there && !c.lease.overtaken: // a late success moves the time at which it is due
		return c, broken("what a batch claimed is found", "claim %s", o.claim.ID)
	case o.got.Row == 0:
		return c, nil
	case !there:
		return c, broken("what a batch claimed is found, and nothing else", "the lease is %s's", o.got.Lease.Holder)
	}
	return c.match(o.got, o.at)
}

// own reports whether the credential's lease, live or not, is the fence's.
func (c cell) own(f credentials.Fence) bool {
	return c.exists && c.row == f.Row && c.lease.id != "" && c.lease.id == f.Claim
}

// open reports whether a store of several servers may leave the outcome open: the row is not there,
// or it never saw the claim, which is what a server that is behind says too. A success is stored
// without the claim.
func (c cell) open(kind Op, f credentials.Fence) bool {
	gone := !c.exists || c.row != f.Row
	return gone || kind != Save && c.version < f.Version
}

// save: a success is stored, unless the result of a later claim or put is stored already.
func (c cell) save(o op) (cell, *Violation) {
	here := c.exists && c.row == o.fence.Row
	own := c.own(o.fence)
	if later := !own && c.tokenOf >= o.fence.Version; !here || later {
		same := here && c.token == o.renewal.AccessToken.Reveal() && c.refresh == o.renewal.RefreshToken.Reveal()
		switch {
		case same && o.err != nil:
			return c, broken("a save that is repeated finds its own earlier write", "error %v", o.err)
		case !same && !errors.Is(o.err, credentials.ErrSuperseded):
			return c, broken("a result of an earlier claim does not replace a later one's", "error %v; it is of version %d, the stored one of %d",
				o.err, o.fence.Version, c.tokenOf)
		}
		return c, nil
	}
	if o.err != nil {
		return c, broken("invariant 4: a success is never thrown away", "error %v; it is of version %d, the stored one of %d; the lease is its own: %t",
			o.err, o.fence.Version, c.tokenOf, own)
	}
	next := c
	next.token, next.refresh = o.renewal.AccessToken.Reveal(), o.renewal.RefreshToken.Reveal()
	from := o.from
	if from == (span{}) {
		from = o.at
	}
	next.expires, next.due = momentIn(from, o.renewal.Lifetime), momentIn(from, o.renewal.DueIn)
	next.broughtBy, next.brought = o.renewal.By, o.at
	next.failure, next.interrupted, next.survived = failed{}, "", ""
	if own {
		next.survived = c.interrupted
	}
	next.tokenOf = max(c.tokenOf, o.fence.Version)
	next.version = max(c.version, o.fence.Version) + 1
	if own {
		next.lease = held{}
	} else {
		next.lease.overtaken = true
	}
	return next, nil
}

// fail: a failure is recorded only if nothing was written since the claim.
func (c cell) fail(o op) (cell, *Violation) {
	if !c.own(o.fence) {
		if !errors.Is(o.err, credentials.ErrSuperseded) {
			return c, broken("invariant 5: a failure covers nothing that was written since its claim", "error %v, and the lease is another's", o.err)
		}
		return c, nil
	}
	next := c
	next.lease = held{}
	next.version++
	if c.version != o.fence.Version {
		if !errors.Is(o.err, credentials.ErrSuperseded) {
			return c, broken("invariant 5: a failure covers nothing that was written since its claim",
				"error %v; the claim's version is %d, the row's %d", o.err, o.fence.Version, c.version)
		}
		return next, nil
	}
	if o.err != nil {
		return c, broken("invariant 10: a failure is recorded for all", "error %v", o.err)
	}
	retry := momentIn(o.at, o.failure.RetryIn)
	if o.failure.Class == credentials.ClassDead {
		retry = moment{never: true}
	}
	next.failure = failed{class: o.failure.Class, code: o.failure.Code, count: c.failure.count + 1, by: c.lease.holder, retry: retry}
	next.due = retry
	if o.failure.Class == credentials.ClassUnknown {
		next.interrupted = c.lease.holder
	}
	return next, nil
}

// release gives up the claim's own lease and does nothing else.
func (c cell) release(o op) (cell, *Violation) {
	if o.err != nil {
		return c, broken("a release is never turned down", "error %v", o.err)
	}
	if !c.own(o.fence) {
		return c, nil
	}
	next := c
	next.lease = held{}
	next.version++
	if c.version == o.fence.Version {
		next.due = momentIn(o.at, 0)
	}
	return next, nil
}
