package model

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// The methods of this file are the calls of the store at the moment at which they take effect. Each
// is held against the model, and what it means for the rules is noted.

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

func (w *world) versions(ctx context.Context, p *process, rows []uint64, asked time.Time) (map[uint64]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	versions, err := w.db.Versions(ctx, rows)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		a := w.byRow[row]
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

// named returns the claim of that name, whatever the fence's version: a release may name none, so
// as not to change when the credential is due.
func (w *world) named(fence credentials.Fence) *claimed {
	for known, claim := range w.claims {
		if known.Row == fence.Row && known.Claim == fence.Claim {
			return claim
		}
	}
	return nil
}

// find returns the claim that holds the lease of the cell, live or not; nil if there is none.
func (w *world) find(key credentials.Key, c cell) *claimed {
	if c.lease.id == "" {
		return nil
	}
	return w.claims[credentials.Fence{Key: key, Row: c.row, Claim: c.lease.id, Version: c.lease.version}]
}

func (w *world) save(
	ctx context.Context, p *process, a *account, fence credentials.Fence, renewal credentials.Renewal,
) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, clock := time.Now(), w.clock(p)
	o := op{kind: Save, fence: fence, renewal: renewal}
	from := clock
	claim := w.claims[fence]
	if claim != nil && renewal.From != 0 {
		if told := claim.read.Add(time.Duration(renewal.From - claim.readAt)); told.Before(clock) {
			from = told
		}
	}
	o.from = span{from, from}
	under := a.cell
	if !w.call(ctx, p, a, &o, func(node *memstore.Store) { o.err = node.Save(ctx, fence, renewal) }) {
		return o.err
	}
	w.noteLocked("save of %s under version %d, %s: %v", a.key, fence.Version, renewal.AccessToken.Reveal(), o.err)
	if claim == nil || claim.shown == nil {
		w.breaks(broken("invariant 2: results belong to a claim", "save under %+v", fence))
		return o.err
	}
	shown := claim.shown
	shown.recorded = true
	w.savesAnswer(shown, renewal)
	if o.err != nil {
		w.SupersededSaves++
		shown.stored, shown.known = true, now // another's success is stored
		return o.err
	}
	if !under.own(fence) || !under.lease.ends.to.After(clock) {
		w.LateSaves++
		if w.away.until.After(claim.at) && w.away.until.Sub(w.away.from) > lease {
			w.OutlastedSaves++
		}
	}
	shown.stored = true
	if shown.known.IsZero() {
		shown.known = now
	}
	a.longest = max(a.longest, renewal.Took)
	expires, ends := from.Add(renewal.Lifetime), w.endsBy(renewal)
	if really := expires.Add(-w.ahead(p)); really.After(ends) && !w.clocks.back.After(claim.at) {
		w.breaks(broken("invariant 12: no token is kept longer than it lives", "%v longer", really.Sub(ends)))
	}
	if a.cell.version != under.version { // else it found its own earlier write
		a.commits(renewal.AccessToken.Reveal(), commit{at: now, due: from.Add(renewal.DueIn), expires: expires, ends: ends})
	}
	return nil
}

// savesAnswer holds a renewal against what the provider answered. w.mu is held.
func (w *world) savesAnswer(shown *presentation, renewal credentials.Renewal) {
	refresh := shown.granted.RefreshToken.Reveal()
	if refresh == "" {
		refresh = shown.refresh
	}
	if !shown.granted.AccessToken.Equal(renewal.AccessToken) || refresh != renewal.RefreshToken.Reveal() {
		w.breaks(broken("what is saved is what the provider answered", "%s and %s",
			renewal.AccessToken.Reveal(), renewal.RefreshToken.Reveal()))
	}
}

// endsBy returns until when a renewed token may be kept, however long the save was on its way. w.mu
// is held.
func (w *world) endsBy(renewal credentials.Renewal) time.Time {
	ends := w.endOf(renewal.AccessToken)
	if renewal.Took+time.Second > w.provider.Lifetime {
		ends = ends.Add(renewal.Took + time.Second) // taken for a token of a second, from the answer on
	}
	return ends
}

func (w *world) fail(
	ctx context.Context, p *process, a *account, fence credentials.Fence, failure credentials.Failure,
) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	o := op{kind: Fail, fence: fence, failure: failure}
	if !w.call(ctx, p, a, &o, func(node *memstore.Store) { o.err = node.Fail(ctx, fence, failure) }) {
		return o.err
	}
	w.noteLocked("failure of %s under version %d, %s %s: %v", a.key, fence.Version, failure.Class, failure.Code, o.err)
	if strings.Contains(fmt.Sprint(failure), mark) {
		w.breaks(broken("invariant 14: no secret in the row's failure", "%+v", failure))
	}
	claim := w.claims[fence]
	switch {
	case claim == nil:
		w.breaks(broken("invariant 2: results belong to a claim", "failure under %+v", fence))
		return o.err
	case claim.shown != nil:
		claim.shown.recorded = true
	}
	if o.err != nil {
		w.SupersededFailures++
		if token := a.committed[a.cell.token]; claim.shown != nil && token != nil && !token.at.Before(claim.at) {
			claim.shown.known = now // it no longer matters: another's success was stored since
		}
		if claim.shown != nil {
			claim.shown.unknown = true // as far as the row goes
		}
		return o.err
	}
	if claim.shown == nil {
		w.relies(p, a, claim)
	}
	w.failed(a, claim, failure, now)
	return nil
}

// failed notes a failure that was stored, and holds it against the rules. w.mu is held.
func (w *world) failed(a *account, claim *claimed, failure credentials.Failure, now time.Time) {
	if failure.Class == credentials.ClassDead {
		w.Deaths++
		if failure.Code == "invalid_grant" {
			claim.shown.known = now
			if w.provider.RefreshToken(a.cell.refresh).Works() {
				w.breaks(broken("invariant 5: no living grant is called dead", "%s, %s", a.key, a.cell.refresh))
			}
		}
		return
	}
	if failure.Class == credentials.ClassUnknown && w.plan.Replay == credentials.NeverReplay {
		w.breaks(broken("a service that never replays: an unknown outcome is final", "%s, by %s", a.key, claim.by.name))
	}
	if failure.Class == credentials.ClassUnknown && claim.shown != nil {
		claim.shown.unknown = true
	}
	if failure.RetryIn <= 0 {
		w.breaks(broken("invariant 10: a failure has a back-off", "%v", failure.RetryIn))
	}
	if shown := claim.shown; shown != nil {
		if asked := shown.retryAt.Sub(now); failure.RetryIn < asked {
			w.breaks(broken("invariant 10: the back-off is what the provider asked for", "%v instead of %v", failure.RetryIn, asked))
		}
		if failure.Class == credentials.ClassTransient {
			shown.known = now
		}
	}
}

func (w *world) release(ctx context.Context, p *process, a *account, fence credentials.Fence) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := op{kind: Release, fence: fence}
	if !w.call(ctx, p, a, &o, func(node *memstore.Store) { o.err = node.Release(ctx, fence) }) {
		return o.err
	}
	w.noteLocked("release of %s under version %d: %v", a.key, fence.Version, o.err)
	if c := w.named(fence); c != nil && c.shown != nil {
		w.breaks(broken("unknown outcomes stay visible: no lease is released under which something was presented", "%s", a.key))
	}
	return o.err
}

// endOf returns when an access token really ends. w.mu is held.
func (w *world) endOf(token credentials.Secret) time.Time {
	if t := w.provider.AccessToken(token.Reveal()); t != nil {
		return t.Expires
	}
	return time.Time{}
}
