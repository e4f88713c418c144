package credentials

import (
	"context"
	"errors"
	"time"
)

// Errors that stores return.
var (
	// ErrNotFound: there is no credential under that key. Put one, after a person has authorized the account.
	ErrNotFound = errors.New("no such credential")

	// ErrSuperseded: [Store.Save] or [Store.Fail] did not write, since the row holds something later. Read it. From a put
	// that was repeated, as a reply was lost: it may have been stored before that.
	ErrSuperseded = errors.New("superseded by a later write")

	// ErrUnavailable: the store could not be reached or did not answer in time. The outcome of a write is unknown, and
	// repeating the same call of a [Store] is safe.
	ErrUnavailable = errors.New("credential store unavailable")

	// ErrSchema: the store's table is missing, or older or newer than this library.
	ErrSchema = errors.New("credentials table does not fit this version of latchkey")
)

// Store keeps credentials for all processes and decides between them. Package storetest holds this contract as a test
// suite.
//
// A store has one clock, its own; it takes and gives durations and never times. What a call returns is committed. No
// call holds a lock, a transaction or a connection when it has returned, and every call ends when its context does.
// Conflicts that the store itself can settle by trying again (deadlocks, lock time-outs, lost races) never reach the
// caller. Every call may be repeated with the same arguments after an error, when nobody knows whether it took effect:
// it then finds its own earlier write and answers as if it had only now made it; only a repeated Fail may answer
// ErrSuperseded, and the row then tells.
//
// Keys are normalized ([Key.Normalize]); ErrNotFound, ErrSuperseded, ErrUnavailable and ErrSchema are wrapped.
type Store interface {
	// Get returns the credential as it is committed now, or ErrNotFound. It waits for no row lock.
	Get(ctx context.Context, key Key) (Credential, error)

	// Versions returns the present version of each of these rows. A row that is gone is absent from the answer. It
	// reads no tokens and waits for no row lock.
	Versions(ctx context.Context, rows []uint64) (map[uint64]uint64, error)

	// Claim takes a lease on the credential if its state, decided under the row's lock, is [Claimable], and returns the
	// credential as it then is. The claim was made if and only if the credential's lease is live and its ID is claim.ID.
	// Otherwise nothing was written, and the credential says why.
	//
	// A claim moves Version on by one and DueIn to the lease's end. If the lease before it ended with nothing saved,
	// Interrupted names that one from now on. Of any number of concurrent claims on one credential at most one is made,
	// also where the row's lock is not honoured (several primaries).
	Claim(ctx context.Context, key Key, claim Claim) (Credential, error)

	// Save stores the result of a successful exchange and gives up the lease, if that is still the claim's own. It
	// stores unless the result of a later claim or a put is stored already, or the row is gone: then ErrSuperseded.
	// A claim whose lease has ended, or was taken over by another that has not saved yet, is stored all the same: its
	// refresh token may be the only one that works. Another's lease is left alone; Version moves on, so that a failure
	// of that other claim does not cover this success.
	Save(ctx context.Context, fence Fence, renewal Renewal) error

	// Fail records a failed exchange and gives up the lease. It records only if nothing at all was written since the
	// claim; otherwise it gives up the lease where that is still the claim's own and returns ErrSuperseded. A failure
	// of class Unknown marks the credential as Interrupted by this claim.
	Fail(ctx context.Context, fence Fence, failure Failure) error

	// Release gives up a lease under which no exchange was started. If the lease is not the claim's own, it does
	// nothing.
	Release(ctx context.Context, fence Fence) error

	// DueServices returns for each service the time until the earliest of its credentials is due, zero or less if one
	// is; a service without any that is ever due is absent. Its cost grows with the number of services, not with that
	// of credentials. It waits for no row lock.
	DueServices(ctx context.Context) (map[string]time.Duration, error)

	// ClaimDue makes claims, as Claim does, on credentials of one service that are due, those first that have been due
	// for longest, and returns the credentials as they then are: those claimed and no others. It passes over rows that
	// somebody has locked. Of calls at the same time each gets credentials of its own.
	ClaimDue(ctx context.Context, batch Batch) ([]Credential, error)
}

// Claim asks for a lease.
type Claim struct {
	// ID names the claim: random, unique, at most 32 ASCII letters and digits. A repeated call with the same ID finds
	// the claim that it made.
	ID string

	// Holder says for people who claims; at most 255 printable ASCII characters.
	Holder string

	// Lease is how long the claim lasts.
	Lease time.Duration

	// Rejected is a token that was turned down by the external API; zero for none.
	Rejected Secret
}

// Batch asks for leases on what is due.
type Batch struct {
	// Claim is made on each credential, under the one ID. Its Rejected is not used.
	Claim

	// Service is whose credentials are claimed; a normalized name.
	Service string

	// Limit is how many are claimed at most. Fewer are returned where no more were to be had at the moment.
	Limit int

	// Overdue is for how long they must have been due. Zero: those that are due now.
	Overdue time.Duration

	// Longest is for how long they may have been due. Zero: for ever. A keeper who knows when the first of them became
	// due says so here, so that a scan begins there and not with what is left in an index of rows claimed long ago.
	Longest time.Duration

	// Repeated says that an earlier call with this ID ended with an error, so that nobody knows what it claimed. What it
	// did is then returned, as far as the leases have not ended, and nothing is claimed. That it is not there does not
	// say that it will not be: the earlier call may still take effect.
	Repeated bool
}

// Claimed returns the credential as the claim leaves it, for stores that have just made it on c.
//
// A lease that was still set ended with nothing saved: its exchange's outcome is unknown. Not so where a success was
// saved since it began, an earlier holder's late one, since then what it may have presented is no longer in use; nor
// where it is an earlier try of this same claim, under which nothing was presented.
func (c Credential) Claimed(claim Claim) Credential {
	if c.Lease.ID != "" && c.Lease.ID != claim.ID && !c.overtaken() {
		c.Interrupted = Interruption{By: c.Lease.Holder, Ago: c.Lease.Age}
	}
	c.Version++
	c.DueIn = claim.Lease
	c.Lease = Lease{ID: claim.ID, Holder: claim.Holder, Version: c.Version, EndsIn: claim.Lease}
	return c
}

// overtaken reports whether a success was saved since the lease began: an earlier holder's, which was late. Nothing
// else moves the version on and leaves the lease.
func (c Credential) overtaken() bool { return c.Version > c.Lease.Version }

// Fence identifies the claim that a result belongs to: the row, the claim's id and the row's version at the claim (the
// fencing version). The version alone would not do, since versions repeat when a fail-over forgets a claim.
type Fence struct {
	Row     uint64
	Claim   string
	Version uint64
}

// Fence returns the fence of the claim that c was returned for.
func (c Credential) Fence() Fence {
	return Fence{Row: c.Row, Claim: c.Lease.ID, Version: c.Lease.Version}
}

// Instant is a moment by a store's own clock, in nanoseconds since a time that the store chose. No other clock can be
// compared with it.
type Instant int64

// Add returns the moment d later, which this process has counted.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Renewal is a grant as it is saved.
type Renewal struct {
	// Grant is complete: what the provider did not send again has been filled in, and a lifetime is Never where there
	// is no end. A lifetime of zero or less has ended.
	Grant

	// From is when the lifetimes and DueIn count from, should the call not take effect before: a process that is paused
	// within it, or a reply that is lost, makes no token live longer. Zero: from when it takes effect.
	From Instant

	// By is the holder of the claim, for people.
	By string

	// DueIn is when the next renewal is due; Never for a token that is not renewed ahead of its end.
	DueIn time.Duration

	// Took is how long the provider took. Waiters in other processes use it to guess when to look.
	Took time.Duration
}
