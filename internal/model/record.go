package model

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// The methods of this file are the calls of the store at the moment at which they take effect. Each is held against the
// model, and what it means for the rules is noted.

// call makes a call and notes it, unless its context has ended: then the store did nothing.
func (w *world) call(ctx context.Context, a *account, o *op, do func()) (made bool) {
	now := time.Now()
	w.past(a, now)
	o.at = span{now, now}
	if do(); o.err != nil && ctx.Err() != nil && errors.Is(o.err, ctx.Err()) {
		return false
	}
	w.applied(a, *o)
	return true
}

func (w *world) read(ctx context.Context, a *account) (credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := op{kind: Get}
	w.call(ctx, a, &o, func() { o.got, o.err = w.db.Get(ctx, a.key) })
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
		c := w.claims[credentials.Fence{Row: row, Claim: a.cell.lease.id, Version: a.cell.version}]
		if c != nil && !c.kept && c.by == p && c.at.Before(asked) && c.shown == nil && !c.late && !c.released && c.ends.After(time.Now()) {
			w.breaks(broken("a claim whose reply was lost is found again", "%s waits for its own claim %s", p.name, c.id))
		}
	}
	return versions, nil
}

func (w *world) claim(ctx context.Context, p *process, a *account, claim credentials.Claim, late bool) (credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := a.cell
	o := op{kind: Claim, claim: claim}
	if w.call(ctx, a, &o, func() { o.got, o.err = w.db.Claim(ctx, a.key, claim) }) && o.err == nil && o.got.Lease.ID == claim.ID && o.got.Lease.Live() {
		w.claimed(p, a, before, o, late)
	}
	return o.got, o.err
}

// claimed notes what a claim that was made means for the rules. w.mu is held.
func (w *world) claimed(p *process, a *account, before cell, o op, late bool) {
	now := time.Now()
	var early time.Duration
	if token := a.committed[before.token]; token != nil && token.expires.After(now) && !a.turnedDown[before.token] {
		early = token.due.Sub(now)
	}
	fence := o.got.Fence()
	if c := w.claims[fence]; c != nil && c.ends.After(now) {
		c.late, c.early, c.readAt, c.read = c.late && late, early, o.got.ReadAt, now // found
		return
	}
	w.Claims++
	w.noteLocked("%s claims %s under version %d, interrupted: %q", p.name, a.key, fence.Version, o.got.Interrupted.By)
	w.claims[fence] = &claimed{
		by: p, account: a, id: o.claim.ID, at: now, ends: now.Add(o.claim.Lease), readAt: o.got.ReadAt, read: now,
		late: late, early: early, kept: o.kind == ClaimDue,
	}
	if lapsed := w.find(before); lapsed != nil {
		w.Lapsed++
		if !w.excused(lapsed) {
			w.breaks(broken("a lease lapses for a reason", "%s claimed after %s, which nothing kept from saving", p.name, lapsed.by.name))
		}
	}
}

// claimDue holds a batch against each credential: against those that it did not claim too. It takes those first that
// have been due for longest.
func (w *world) claimDue(ctx context.Context, p *process, batch credentials.Batch, late bool) ([]credentials.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	claimed, err := w.db.ClaimDue(ctx, batch)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	got := make(map[*account]credentials.Credential, len(claimed))
	for _, c := range claimed {
		got[w.byKey[c.Key]] = c
	}
	for _, a := range w.accounts {
		w.past(a, now)
		before := a.cell
		o := op{
			kind: ClaimDue, at: span{now, now}, claim: batch.Claim, batch: batch, got: got[a],
			alone: len(claimed) < batch.Limit && !batch.Repeated,
		}
		if o.got.Row != 0 {
			for _, other := range w.accounts {
				_, taken := got[other]
				waits := other.cell.exists && other.cell.states(o.at, "") == only(credentials.Claimable) && !other.cell.due.never
				if batch.Longest > 0 { // it came late: what was due when it was sent may have been due for too long by now
					old, _ := other.cell.due.reached(o.at.plus(-batch.Longest))
					waits = waits && !old
				}
				if !taken && !batch.Repeated && waits && other.cell.due.from.Before(before.due.from) {
					w.breaks(broken("a batch claims those first that have been due for longest", "%s before %s", a.key, other.key))
				}
			}
		}
		w.applied(a, o)
		if o.got.Row != 0 {
			w.claimed(p, a, before, o, late)
		}
	}
	if len(got) != len(claimed) || len(claimed) > batch.Limit {
		w.breaks(broken("a batch claims what is due", "%d claims, %d credentials, a limit of %d", len(claimed), len(got), batch.Limit))
	}
	return claimed, nil
}

func (w *world) dueServices(ctx context.Context) (map[string]time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	services, err := w.db.DueServices(ctx)
	if err != nil {
		return nil, err
	}
	want := credentials.Never
	for _, a := range w.accounts {
		if a.cell.exists && !a.cell.due.never {
			want = min(want, time.Until(a.cell.due.from))
		}
	}
	if got, ok := services["github"]; ok != (want != credentials.Never) || ok && got != want {
		w.breaks(broken("DueServices says when the first is due", "in %v, %t, want %v", got, ok, want))
	}
	return services, nil
}

// named returns the claim of that name, whatever the fence's version: a release may name none, so as not to change when
// the credential is due.
func (w *world) named(fence credentials.Fence) *claimed {
	for known, claim := range w.claims {
		if known.Row == fence.Row && known.Claim == fence.Claim {
			return claim
		}
	}
	return nil
}

// find returns the claim that holds the lease of the cell, live or not; nil if there is none.
func (w *world) find(c cell) *claimed {
	if c.lease.id == "" {
		return nil
	}
	return w.claims[credentials.Fence{Row: c.row, Claim: c.lease.id, Version: c.lease.version}]
}

// excused reports whether something happened to the claim's process that may have kept it from writing the result.
func (w *world) excused(c *claimed) bool {
	return c.late || c.by.gone || !c.by.lastTrouble(c.account).Before(c.at)
}

func (w *world) save(ctx context.Context, a *account, fence credentials.Fence, renewal credentials.Renewal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	o := op{kind: Save, fence: fence, renewal: renewal}
	from := now
	claim := w.claims[fence]
	if claim != nil && renewal.From != 0 {
		if told := claim.read.Add(time.Duration(renewal.From - claim.readAt)); told.Before(now) {
			from = told
		}
	}
	o.from = span{from, from}
	under := a.cell
	if !w.call(ctx, a, &o, func() { o.err = w.db.Save(ctx, fence, renewal) }) {
		return o.err
	}
	w.noteLocked("save of %s under version %d, %s: %v", a.key, fence.Version, renewal.Token.Reveal(), o.err)
	if claim == nil || claim.shown == nil {
		w.breaks(broken("invariant 2: results belong to a claim", "save under %+v", fence))
		return o.err
	}
	shown := claim.shown
	refresh := shown.granted.RefreshToken.Reveal()
	if refresh == "" {
		refresh = shown.refresh
	}
	if !shown.granted.Token.Equal(renewal.Token) || refresh != renewal.RefreshToken.Reveal() {
		w.breaks(broken("what is saved is what the provider answered", "%s and %s", renewal.Token.Reveal(), renewal.RefreshToken.Reveal()))
	}
	if o.err != nil {
		w.SupersededSaves++
		shown.stored = true
		return o.err
	}
	if !under.own(fence) || !under.lease.ends.to.After(now) {
		w.LateSaves++
	}
	shown.stored, shown.known = true, now
	a.longest = max(a.longest, renewal.Took)
	// However long the call was on its way.
	expires, ends := from.Add(renewal.Lifetime), w.provider.access[renewal.Token.Reveal()]
	if expires.After(ends) {
		w.breaks(broken("invariant 12: no token is kept longer than it lives", "%v longer", expires.Sub(ends)))
	}
	if a.cell.version != under.version { // else it found its own earlier write
		a.commits(renewal.Token.Reveal(), commit{at: now, due: from.Add(renewal.DueIn), expires: expires, ends: ends})
	}
	return nil
}

func (w *world) fail(ctx context.Context, a *account, fence credentials.Fence, failure credentials.Failure) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	o := op{kind: Fail, fence: fence, failure: failure}
	if !w.call(ctx, a, &o, func() { o.err = w.db.Fail(ctx, fence, failure) }) {
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
	case o.err != nil:
		w.SupersededFailures++
		if token := a.committed[a.cell.token]; claim.shown != nil && token != nil && !token.at.Before(claim.at) {
			claim.shown.known = now // it no longer matters: another's success was stored since
		}
		return o.err
	}
	if failure.Class == credentials.Rejected {
		w.Deaths++
		if failure.Code == "invalid_grant" {
			claim.shown.known = now
			if w.provider.works(a.cell.refresh) {
				w.breaks(broken("invariant 5: no living grant is called dead", "%s, %s", a.key, a.cell.refresh))
			}
		}
		return nil
	}
	if failure.Class == credentials.Unknown && w.plan.Replay == credentials.NeverReplay {
		w.breaks(broken("a service that never replays: an unknown outcome is final", "%s, by %s", a.key, claim.by.name))
	}
	if failure.RetryIn <= 0 {
		w.breaks(broken("invariant 10: a failure has a back-off", "%v", failure.RetryIn))
	}
	if shown := claim.shown; shown != nil {
		if asked := shown.retryAt.Sub(now); failure.RetryIn < asked {
			w.breaks(broken("invariant 10: the back-off is what the provider asked for", "%v instead of %v", failure.RetryIn, asked))
		}
		if failure.Class == credentials.Transient {
			shown.known = now
		}
	}
	return nil
}

func (w *world) release(ctx context.Context, a *account, fence credentials.Fence) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := op{kind: Release, fence: fence}
	if !w.call(ctx, a, &o, func() { o.err = w.db.Release(ctx, fence) }) {
		return o.err
	}
	w.noteLocked("release of %s under version %d: %v", a.key, fence.Version, o.err)
	if c := w.named(fence); c != nil && c.shown != nil {
		w.breaks(broken("unknown outcomes stay visible: no lease is released under which something was presented", "%s", a.key))
	}
	return o.err
}
