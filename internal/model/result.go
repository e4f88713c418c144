package model

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// The methods of this file are the calls that end a claim, as record.go has the others: each is held
// against the model at the moment at which it takes effect.

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
