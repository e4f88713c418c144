package credentials

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"
)

// claimant is a refresh's way to its row: reads, and claims, which find the row as it stands under
// its lock. It keeps what the process knows of the row up to date.
type claimant struct {
	*engine
	slot   *slot
	found  *reading // the row as a claim that was not made found it; nil: it is to be read
	locked int      // claims together with others that found the row locked
}

// learn notes to which version the row that w watched has moved; c is that row.
func (r *claimant) learn(c reading, w *watch) { r.slot.known.learn(c.Row, w.now) }

// get returns the row as a claim that was not made has found it, or reads it.
func (r *claimant) get(ctx context.Context) (reading, error) {
	if found := r.found; found != nil {
		r.found = nil
		return *found, nil
	}
	c, err := r.reads.do(ctx, r.slot.key, r.getAll)
	return c, r.storeError(c.Credential, err)
}

// about returns err with the credential that it is about.
func (r *claimant) about(err error) error { return fmt.Errorf("token of %s: %w", r.slot.key, err) }

// storeError says which credential it was about, and that the store answered for that one.
func (r *claimant) storeError(c Credential, err error) error {
	key := r.slot.key
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("token of %s: %w; put its grant first", key, err)
	case err != nil:
		return r.about(err)
	case c.Key != key:
		return fmt.Errorf("token of %s: the store answered with the credential of %s", key, c.Key)
	}
	return nil
}

// claimAlone makes a claim that is about this credential alone, and waits for the row. claim.Lease
// is how much longer than others its lease is.
func (r *claimant) claimAlone(ctx context.Context, claim Claim) (reading, error) {
	claim.ID, claim.Holder, claim.Lease = rand.Text(), r.opts.Holder, claim.Lease+r.opts.Lease
	c, err := r.read(func() (Credential, error) { return r.store.Claim(ctx, r.slot.key, claim) })
	switch {
	case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errNotAsked):
		r.lose(ctx, lostClaim{id: claim.ID}, unusedLease, r.slot.key)
	case err == nil && (c.Lease.ID != claim.ID || !c.Lease.Live()):
		err = errLookAgain
	}
	return r.decided(c, err)
}

// maxLocked is how many claims together with others may find the row locked: by claims of other
// processes, which take some milliseconds. The next one is made alone, and waits for the row.
const maxLocked = 2

// claimTogether takes the lease in one claim with others of the process that are made at the same
// moment.
func (r *claimant) claimTogether(ctx context.Context, others *joint, claim callAll) (reading, error) {
	if r.locked >= maxLocked {
		return r.claimAlone(ctx, Claim{Lease: r.opts.grace()}) // room for what confirmAll may find
	}
	c, err := others.do(ctx, r.slot.key, claim)
	if errors.Is(err, ErrRowLocked) {
		r.locked++
		pause := 5*time.Millisecond + mathrand.N(10*time.Millisecond)
		if err := r.wait(ctx, pause, nil); err != nil {
			return reading{}, r.about(err)
		}
		return reading{}, errLookAgain
	}
	return r.decided(c, err)
}

// look has a claim look at the row under its lock, for a read may be answered by a server that is
// behind. There is one such look in maxLookInterval, unless something newer was read since.
func (r *claimant) look(ctx context.Context) (reading, error) {
	if err := r.wait(ctx, r.until(r.slot.known.until), nil); err != nil {
		return reading{}, r.about(err)
	}
	return r.claimTogether(ctx, &r.confirms, r.confirmAll)
}

// decided notes the row as a claim has found it under its lock. errLookAgain: the claim was not
// made, and the refresh goes on with that row.
func (r *claimant) decided(c reading, err error) (reading, error) {
	refused := errors.Is(err, errLookAgain)
	if refused {
		err = nil
	}
	err = r.storeError(c.Credential, err)
	switch {
	case errors.Is(err, ErrNotFound):
		r.slot.held.Store(nil) // it was deleted
	case err != nil:
		return reading{}, err
	}
	r.slot.known = known{c.Row, c.Version, r.now().add(maxLookInterval)}
	if refused {
		r.found = &c
		return reading{}, errLookAgain
	}
	return c, err
}

// confirmed reports whether a claim has found the row as it is in c, a moment ago.
func (r *claimant) confirmed(c reading) bool {
	return r.slot.known.confirmed(c.Row, c.Version, r.now())
}
