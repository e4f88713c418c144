package credentials

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrSuperseded is wrapped by [Store.Save] and [Store.Fail] that did not write, since the row holds
// something later: read it. A put or delete that was repeated, as a reply was lost, may have been
// stored before that.
var ErrSuperseded = errors.New("superseded by a later write")

// ErrNoClaim is wrapped by stores that are given a [Claim], a [Batch] or a [Fence] without the ID
// of a claim. A row that nobody holds has none either, and must not be taken for theirs.
var ErrNoClaim = errors.New("the claim has no ID")

// Store keeps credentials for all processes and decides between them. Package storetest holds this
// contract as a test suite.
//
// A store has one clock, its own; it takes and gives durations and never times. Every credential
// that a call returns is committed. No call holds a lock, a transaction or a connection when it has
// returned, and every call ends when its context does. Conflicts that the store itself can settle
// by trying again (deadlocks, lock time-outs, lost races) never reach the caller. Every call may be
// repeated with the same arguments after an error, when nobody knows whether it took effect: it
// then finds its own earlier write and answers as if it had only now made it; only a repeated Fail
// may answer ErrSuperseded, and the row then tells.
//
// Keys are normalized ([Key.Normalize]); ErrNotFound, ErrSuperseded, ErrUnavailable, ErrSchema,
// ErrSealed and ErrOtherDeployment are wrapped.
type Store interface {
	// Get returns the credential as it is committed, or ErrNotFound, and waits for no row lock. The
	// answer of Get, GetAll or Versions may come from a server that is behind, and that of a claim
	// may not: no manager gives a caller an error that only a read has shown.
	Get(ctx context.Context, key Key) (Credential, error)

	// GetAll reads each of these credentials as Get does, at one moment or a few. The answer has
	// one Found per key, in the order of keys; a key may come twice. The error of the call itself
	// is never about a single key. GetAll waits for no row lock.
	GetAll(ctx context.Context, keys []Key) ([]Found, error)

	// Versions returns the present version of each of these rows, by [Credential.Row] as they are
	// given, with the key of each. A row that is gone is absent from the answer. Versions reads no
	// tokens and waits for no row lock.
	Versions(ctx context.Context, rows map[uint64]Key) (map[uint64]uint64, error)

	// Ensure stores the grant under key unless there is a credential under key already, which stays
	// as it is. Of any number of calls at the same time one stores its grant. Errors wrap
	// [ErrInvalidKey] and [ErrInvalidGrant], too.
	Ensure(ctx context.Context, key Key, grant Grant) error

	// Claim takes a lease on the credential if its state for this claim, decided under the row's
	// lock, is [Claimable], and returns the credential as it then is. The claim was made if and
	// only if the credential's lease is live and its ID is claim.ID. Otherwise nothing was written,
	// and the credential says why, as it stands on the server that takes the writes.
	//
	// A lease that stands in the row, ended or not, is taken over only by a claim that is entitled
	// to it, see [Claim]. A claim moves Version on by one and DueIn to the lease's end. If it takes
	// over a lease with nothing saved under it, Interrupted names that one from now on. Of any
	// number of concurrent claims on one credential at most one is made, also where the row's lock
	// is not honoured (several primaries).
	Claim(ctx context.Context, key Key, claim Claim) (Credential, error)

	// ClaimAll makes the claim on each of these credentials, as Claim does, under the one ID, and
	// returns one Found per key, in the order of keys, which are different. The claim is used as
	// [Claim.Shared] returns it. A repeated call with the same ID finds the claims that it made,
	// and makes those that it had not made.
	//
	// ClaimAll waits for no row. Where another transaction has a row's lock, nothing is written,
	// and the Found is the credential as it is committed if that is in no state to be claimed;
	// otherwise its Err wraps ErrRowLocked. The error of the call itself is never about a single
	// key; after it, any of the claims may have been made.
	ClaimAll(ctx context.Context, keys []Key, claim Claim) ([]Found, error)

	// Save stores the result of a successful exchange and gives up the lease, if that is still the
	// claim's own. It stores unless the result of a later claim or a put is stored already, or the
	// row is gone: then ErrSuperseded. A claim whose lease has ended, or was taken over by another
	// that has not saved yet, is stored all the same: its refresh token may be the only one that
	// works. Another's lease is left alone; Version moves on, so that a failure of that other claim
	// does not cover this success.
	//
	// A store of several servers may reach one that has not applied the claim yet, or not even the
	// row. Save, Fail and Release are tried again then. A row that is absent for half of the call's
	// time is taken for deleted; a row that stays below the fence's version leaves Fail and Release
	// with ErrUnavailable.
	Save(ctx context.Context, fence Fence, renewal Renewal) error

	// Fail records a failed exchange and gives up the lease. It records only if nothing at all was
	// written since the claim; otherwise it gives up the lease where that is still the claim's own
	// and returns ErrSuperseded. A failure of class Unknown marks the credential as Interrupted by
	// this claim.
	Fail(ctx context.Context, fence Fence, failure Failure) error

	// Release gives up a lease under which no exchange was started. If the lease is not the claim's
	// own, it does nothing.
	Release(ctx context.Context, fence Fence) error

	// DueServices returns for each service the time until the earliest of its credentials is due,
	// zero or less if one is; a service without any that is ever due is absent. Its cost grows with
	// the number of services, not with that of credentials. It waits for no row lock.
	DueServices(ctx context.Context) (map[string]time.Duration, error)

	// ClaimDue makes claims, as Claim does, on credentials of one service that are due, those first
	// that have been due for longest, and returns the credentials as they then are: those claimed
	// and no others. It passes over rows that somebody has locked. Of calls at the same time each
	// gets credentials of its own. One that is due and another deployment's gives
	// ErrOtherDeployment, and none is claimed.
	ClaimDue(ctx context.Context, batch Batch) ([]Credential, error)

	// FindClaims returns the credentials whose lease is the batch's, live or ended: those that an
	// earlier ClaimDue of the batch claimed, which began that long ago and whose reply was lost. An
	// answer that lacks one is not final: the earlier call may still take effect. It waits for no
	// row lock.
	FindClaims(ctx context.Context, batch Batch, age time.Duration) ([]Credential, error)
}

// Found is the answer about one of the keys that [Store.GetAll] or [Store.ClaimAll] was given.
type Found struct {
	Credential Credential

	// Err is why there is no Credential: ErrNotFound is wrapped if there is no row, and
	// [ErrInvalidKey] if there can be none. ErrRowLocked is wrapped, beside ErrUnavailable, by
	// ClaimAll alone. Any other error says that the row cannot be read.
	Err error
}

// Batch asks for leases on credentials that are due.
type Batch struct {
	// Claim is made on each credential, under the one ID, as [Claim.Shared] returns it.
	Claim

	// Service is whose credentials are claimed; a normalized name.
	Service string

	// Limit is how many are claimed at most. Fewer are returned where no more were to be had at the
	// moment.
	Limit int

	// MinOverdue is for how long they must have been due. Zero: those that are due now.
	MinOverdue time.Duration

	// Probe asks for the credentials that say most about a provider which failed: only those whose
	// last exchange did not fail, and first those that became due last. Accounts that fail by
	// themselves are mostly neither.
	Probe bool

	// MaxOverdue is for how long they may have been due. Zero: for ever. A keeper who knows when
	// the first of them became due says so here, so that a scan begins there and not with what is
	// left in an index of rows claimed long ago.
	MaxOverdue time.Duration
}

// Normalize returns the batch as a store claims it: under the service's normalized name, and
// without the fields of the Claim that a batch does not use. The error says what cannot be right;
// it wraps [ErrInvalidKey] or [ErrNoClaim] where that is the reason.
func (b Batch) Normalize() (Batch, error) {
	service, err := NormalizeService(b.Service)
	switch {
	case err != nil:
		return Batch{}, err
	case b.ID == "":
		return Batch{}, ErrNoClaim
	case b.Limit < 1:
		return Batch{}, fmt.Errorf("a batch of %s has a limit of %d; at least 1 is needed", service, b.Limit)
	}
	b.Service = service
	b.Claim = b.Shared()
	return b, nil
}

// Renewal is a grant as it is saved.
type Renewal struct {
	// Grant is complete: entries that the provider did not send again have been filled in, and a
	// lifetime is Never where there is no end. A lifetime of zero or less has ended.
	Grant

	// From is when the lifetimes and DueIn count from, should the call not take effect before: a
	// process that is paused within it, or a reply that is lost, makes no token live longer. Zero:
	// from when it takes effect.
	From Instant

	// By is the holder of the claim, for people.
	By string

	// DueIn is when the next renewal is due; Never for a token that is not renewed ahead of its
	// end.
	DueIn time.Duration

	// Took is how long the provider took. Waiters in other processes use it to guess when to look.
	Took time.Duration
}
