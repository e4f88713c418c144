package credentials

import (
	"context"
	"errors"
	"time"
)

// closingLook bounds the looks for a lost claim while the manager is being closed and the store does
// not answer.
const closingLook = 3 * time.Second

// maxLookPause is the longest pause between two looks for a lost claim, while the store answers.
const maxLookPause = 5 * time.Second

// recovery looks for a lost claim, and releases its lease. A claim may take effect long after its
// reply was lost, though the store answers reads: its COMMIT waits for a slow disk, for a replica,
// or for the majority of a group. The recovery looks for as long as a lease lasts, since one that
// shows up later has lapsed.
type recovery struct {
	*engine
	claim    lostClaim
	find     func(context.Context) ([]Credential, error) // those that may bear the lease
	lostAt   moment
	answered moment // every look since was answered
}

// recoverClaim begins a recovery in the background. The recovery ends when the lease is released,
// adopted or known not to be there; once the manager is being closed, also when the store has not
// answered for so long that the claim will hardly take effect any more.
func (e *engine) recoverClaim(
	ctx context.Context, claim lostClaim, use leaseUse,
	find func(context.Context) ([]Credential, error),
) {
	now := e.now()
	r := &recovery{engine: e, claim: claim, find: find, lostAt: now, answered: now}
	e.lost.add(claim, use)
	e.inflight.Go(func() {
		defer e.lost.remove(claim)
		most := maxLookPause
		for attempt := 0; e.pause(attempt, most); attempt++ {
			over, answered := r.try(context.WithoutCancel(ctx))
			if over {
				return
			}
			most = maxLookPause
			if !answered {
				most = maxStorePause // as for a save: the grace is counted for both
			}
		}
	})
}

// try makes one attempt, and reports whether the recovery is over, and whether the store answered.
func (r *recovery) try(ctx context.Context) (over, answered bool) {
	// Close waits for the last attempt, and for no place.
	if r.background.acquire(r.ctx, r.closing) == nil {
		defer r.background.release()
	}
	found, err := r.find(r.ctx) // in no caller's name: the caller may be at its exchange by now
	answered = !errors.Is(err, ErrUnavailable)
	there, released := r.release(ctx, found)
	absent := !there && answered
	over = there && released || absent && r.since(r.answered) > r.opts.Lease+r.opts.grace()
	if r.isClosing() {
		over = over || absent || r.since(r.lostAt) > closingLook
	}
	if !answered {
		r.answered = r.now() // a frozen store that goes on executes in any order
	}
	return over, answered && (!there || released)
}

// release releases the leases of the claim, and reports whether there were any, and whether
// all of them are released, or adopted by others. It leaves the rest for the next attempt when the
// store does not answer.
func (r *recovery) release(ctx context.Context, found []Credential) (there, released bool) {
	released = true
	for _, c := range found {
		if c.Lease.ID != r.claim.id {
			continue
		}
		there = true
		if !r.lost.release(c) {
			continue
		}
		if err := r.store.Release(ctx, c.Fence()); err != nil {
			released = false
			if !errors.Is(err, ErrRowLocked) {
				return there, released
			}
		}
	}
	return there, released
}

// lose has a claim on one credential looked for.
func (e *engine) lose(ctx context.Context, claim lostClaim, use leaseUse, key Key) {
	e.recoverClaim(ctx, claim, use, func(ctx context.Context) ([]Credential, error) {
		c, err := e.store.Get(ctx, key)
		return []Credential{c}, err
	})
}

// release gives up a lease under which nothing was presented. If that fails, the claim is a lost
// one.
func (e *engine) release(ctx context.Context, c Credential) error {
	err := e.store.Release(context.WithoutCancel(ctx), c.Fence())
	if err != nil {
		e.lose(ctx, lostClaim{c.Lease.ID, c.Row}, releasedLease, c.Key)
	}
	return err
}
