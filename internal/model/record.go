package model

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// The methods of this file are the reads and claims of the store at the moment at which they take
// effect. Each is held against the model, and what it means for the rules is noted. The calls that
// end a claim stand in result.go.

// call makes a call and notes it, unless its context has ended: then the store did nothing.
func (w *world) call(
	ctx context.Context, p *process, a *account, o *op, do func(node *memstore.Store),
) (made bool) {
	clock := w.clock(p)
	w.past(a, time.Now())
	o.at = span{clock, clock}
	if do(w.node(p)); o.err != nil && ctx.Err() != nil && errors.Is(o.err, ctx.Err()) {
		return false
	}
	w.applied(p, a, *o)
	return true
}

// get reads a credential at a node that is behind by that much.
func (w *world) get(
	ctx context.Context, p *process, a *account, behind time.Duration,
) (credentials.Credential, error) {
	if behind > 0 {
		return w.readBehind(ctx, a, behind)
	}
	return w.read(ctx, p, a)
}

func (w *world) read(ctx context.Context, p *process, a *account) (credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := op{kind: Get}
	w.call(ctx, p, a, &o, func(node *memstore.Store) { o.got, o.err = node.Get(ctx, a.key) })
	return o.got, o.err
}

func (w *world) versions(ctx context.Context, p *process, rows map[uint64]credentials.Key, asked time.Time) (map[uint64]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	versions, err := w.db.Versions(ctx, rows)
	if err != nil {
		return nil, err
	}
	for row, key := range rows {
		a := w.byRow[row]
		if key != a.key {
			w.breaks(broken("the process knows whose row it looks at", "Versions of row %d: got the key %s, want %s", row, key, a.key))
		}
		version, there := versions[row]
		if want := a.cell.exists && a.cell.row == row; there != want || there && version != a.cell.version {
			w.breaks(broken("the row is what was done to it", "Versions of row %d: got %d, %t", row, version, there))
		}
		// A process that waits for itself has lost track of its claim, unless that is its keeper's.
		c := w.claims[credentials.Fence{Key: a.key, Row: row, Claim: a.cell.lease.id, Version: a.cell.version}]
		unused := c != nil && c.by == p && c.shown == nil && c.ends.After(time.Now())
		excused := unused && (c.kept || c.waits || c.late || c.released)
		if unused && !excused && later(c.at, p.lastTrouble(a)).Add(soon).Before(asked) {
			w.breaks(broken("a claim whose reply was lost is found again", "%s waits for its own claim %s", p.name, c.id))
		}
	}
	return versions, nil
}

func (w *world) claim(
	ctx context.Context, v view, a *account, claim credentials.Claim, late bool,
) (credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claimOne(ctx, v, a, claim, late, func(node *memstore.Store) (credentials.Credential, error) {
		return node.Claim(ctx, a.key, claim)
	})
}

// claimOne makes and notes a claim of one credential. w.mu is held.
func (w *world) claimOne(
	ctx context.Context, v view, a *account, claim credentials.Claim, late bool,
	do func(node *memstore.Store) (credentials.Credential, error),
) (credentials.Credential, error) {
	before := a.cell
	o := op{kind: Claim, claim: claim}
	made := w.call(ctx, v.process, a, &o, func(node *memstore.Store) { o.got, o.err = do(node) })
	if made && o.err == nil && o.got.Lease.ID == claim.ID && o.got.Lease.Live() {
		w.claimed(v, a, before, o, late)
	}
	return o.got, o.err
}

// claimAll is a claim of each of these credentials, one after the other with nothing between.
func (w *world) claimAll(
	ctx context.Context, v view, keys []credentials.Key, claim credentials.Claim, as how,
) ([]credentials.Found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make([]credentials.Found, len(keys))
	for i, key := range keys {
		a := w.byKey[key]
		if a == as.locked {
			found[i].Err = errLocked
			continue
		}
		found[i].Credential, found[i].Err = w.claimOne(ctx, v, a, claim.Shared(), as.late,
			func(node *memstore.Store) (credentials.Credential, error) { return claimedBy(ctx, node, key, claim) })
	}
	return found, nil
}

// claimedBy is the node's answer about one key to a ClaimAll.
func claimedBy(
	ctx context.Context, node *memstore.Store, key credentials.Key, claim credentials.Claim,
) (credentials.Credential, error) {
	found, err := node.ClaimAll(ctx, []credentials.Key{key}, claim)
	if err != nil {
		return credentials.Credential{}, err
	}
	return found[0].Credential, found[0].Err
}

// claimed notes what a claim that was made means for the rules. w.mu is held.
func (w *world) claimed(v view, a *account, before cell, o op, late bool) {
	p, now, clock := v.process, time.Now(), w.clock(v.process)
	var early time.Duration
	token := a.committed[before.token]
	if token != nil && token.expires.After(clock) && !w.clocks.back.After(token.at) {
		early = token.due.Sub(clock)
		due, _ := before.due.reached(span{clock, clock}) // a lease that was given up leaves it due
		if id := (credentials.TokenID{Row: before.row, Version: before.tokenOf}); early > 0 && !due && o.claim.Invalidated == id {
			w.forced(p, a, before, clock)
		}
		if a.turnedDown[before.token] {
			early = 0
		}
	}
	fence := o.got.Fence()
	if c := w.claims[fence]; c != nil && c.ends.After(now) {
		c.late, c.early, c.readAt, c.read = c.late && late, early, o.got.ReadAt, clock // found
		return
	}
	w.Claims++
	w.noteLocked("%s claims %s under version %d, interrupted: %q", p.name, a.key, fence.Version, o.got.Interrupted.By)
	w.claims[fence] = &claimed{
		by: p, account: a, id: o.claim.ID, at: now, ends: now.Add(o.claim.Lease), readAt: o.got.ReadAt, read: clock,
		late: late, early: early, kept: o.kind == ClaimDue,
	}
	if before.lease.id != "" {
		w.takesOver(v, before, o, w.claims[fence])
	}
}

// claimDue holds a batch against each credential: against those that it did not claim too. It takes
// those first that have been due for longest.
func (w *world) claimDue(
	ctx context.Context, v view, batch credentials.Batch, late bool,
) ([]credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	claimed, err := w.node(v.process).ClaimDue(ctx, batch)
	if err != nil {
		return nil, err
	}
	now, clock := time.Now(), w.clock(v.process)
	got := make(map[*account]credentials.Credential, len(claimed))
	for _, c := range claimed {
		got[w.byKey[c.Key]] = c
	}
	for _, a := range w.accounts {
		w.past(a, now)
		before := a.cell
		o := op{
			kind: ClaimDue, at: span{clock, clock}, claim: batch.Claim, batch: batch, got: got[a],
			alone: len(claimed) < batch.Limit,
		}
		if o.got.Row != 0 {
			for _, other := range w.accounts {
				_, taken := got[other]
				waits := other.cell.exists && other.cell.states(o.at, o.claim) == only(credentials.StateClaimable) && !other.cell.due.never
				if batch.MaxOverdue > 0 { // it came late: what was due when it was sent may have been due for too long by now
					old, _ := other.cell.due.reached(o.at.plus(-batch.MaxOverdue))
					waits = waits && !old
				}
				if !taken && waits && other.cell.due.from.Before(before.due.from) {
					w.breaks(broken("a batch claims those first that have been due for longest", "%s before %s", a.key, other.key))
				}
			}
		}
		w.applied(v.process, a, o)
		if o.got.Row != 0 {
			w.claimed(v, a, before, o, late)
		}
	}
	if len(got) != len(claimed) || len(claimed) > batch.Limit {
		w.breaks(broken("a batch claims what is due", "%d claims, %d credentials, a limit of %d", len(claimed), len(got), batch.Limit))
	}
	return claimed, nil
}

func (w *world) findClaims(
	ctx context.Context, p *process, batch credentials.Batch, age time.Duration,
) ([]credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	found, err := w.node(p).FindClaims(ctx, batch, age)
	if err != nil {
		return nil, err
	}
	got := make(map[*account]credentials.Credential, len(found))
	for _, c := range found {
		got[w.byKey[c.Key]] = c
	}
	now, clock := time.Now(), w.clock(p)
	for _, a := range w.accounts {
		w.past(a, now)
		w.applied(p, a, op{kind: FindClaims, at: span{clock, clock}, claim: batch.Claim, got: got[a]})
	}
	return found, nil
}

func (w *world) dueServices(ctx context.Context, p *process) (map[string]time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	services, err := w.node(p).DueServices(ctx)
	if err != nil {
		return nil, err
	}
	want := credentials.Never
	for _, a := range w.accounts {
		if a.cell.exists && !a.cell.due.never {
			want = min(want, a.cell.due.from.Sub(w.clock(p)))
		}
	}
	if got, ok := services["github"]; ok != (want != credentials.Never) || ok && got != want {
		w.breaks(broken("DueServices says when the first is due", "in %v, %t, want %v", got, ok, want))
	}
	return services, nil
}
