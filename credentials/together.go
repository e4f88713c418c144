package credentials

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
)

// errLookAgain: the row was written since it was read; read it again.
var errLookAgain = errors.New("look again")

// getAll reads credentials for refreshes and looks. One that is read alone costs no more than one
// read.
func (e *engine) getAll(ctx context.Context, keys []Key) ([]Found, error) {
	if len(keys) > 1 {
		return e.store.GetAll(ctx, keys)
	}
	c, err := e.store.Get(ctx, keys[0])
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	return []Found{{Credential: c, Err: err}}, nil
}

// claimAll makes one claim on credentials that are due or have expired. Those that it does not get
// have errLookAgain beside the credential as it stands under its lock, or ErrRowLocked where
// another transaction is at work on the row: a claim on one credential alone waits for its row, and
// no other does.
func (e *engine) claimAll(ctx context.Context, keys []Key) ([]Found, error) {
	return e.claimEach(ctx, keys, e.opts.Lease, e.tryClaims)
}

// confirmAll is claimAll for credentials of which a plain read says that there is nothing to claim:
// the claim shows whether that is so, and is made where it is not. It waits for no row. The row may
// turn out to be one whose last holder has to be given the grace, which the lease leaves room for.
func (e *engine) confirmAll(ctx context.Context, keys []Key) ([]Found, error) {
	return e.claimEach(ctx, keys, e.opts.Lease+e.opts.grace(), e.store.ClaimAll)
}

func (e *engine) claimEach(
	ctx context.Context, keys []Key, lease time.Duration,
	try func(context.Context, []Key, Claim) ([]Found, error),
) ([]Found, error) {
	claim := Claim{ID: rand.Text(), Holder: e.opts.Holder, Lease: lease}
	found, err := try(ctx, keys, claim)
	if err != nil {
		if !errors.Is(err, errNotAsked) {
			e.recoverClaim(ctx, lostClaim{id: claim.ID}, unusedLease, func(ctx context.Context) ([]Credential, error) {
				return e.credentials(ctx, keys)
			})
		}
		return nil, err
	}
	for i, f := range found {
		if f.Err == nil && (f.Credential.Lease.ID != claim.ID || !f.Credential.Lease.Live()) {
			found[i].Err = errLookAgain
		}
	}
	return found, nil
}

func (e *engine) tryClaims(ctx context.Context, keys []Key, claim Claim) ([]Found, error) {
	if len(keys) > 1 {
		return e.store.ClaimAll(ctx, keys, claim)
	}
	c, err := e.store.Claim(ctx, keys[0], claim)
	if errors.Is(err, ErrNotFound) {
		return []Found{{Err: err}}, nil
	}
	return []Found{{Credential: c}}, err
}

// credentials reads those of the credentials that can be read.
func (e *engine) credentials(ctx context.Context, keys []Key) (all []Credential, err error) {
	found, err := e.getAll(ctx, keys)
	for _, f := range found {
		if f.Err == nil {
			all = append(all, f.Credential)
		}
	}
	return all, err
}
