package model

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Refresh implements [credentials.Refresher]: the process calls the provider, with what it meets on
// the way.
func (p *process) Refresh(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
	w, a := p.w, p.w.byKey[in.Key]
	p.under(func() { p.spins(Refresh) })
	if dead := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return p.killed }(); dead {
		<-w.over
		return credentials.Grant{}, errGone
	}
	shown := w.shows(ctx, p, a, in) // before the step: a process that is stopped here has looked at its clock already
	if shown == nil || !p.step() {
		return credentials.Grant{}, errGone
	}
	fault := p.meets(a, Refresh)
	if fault.Is != "" {
		defer p.under(func() { p.trouble(a, Refresh) })
	}
	if err := p.beforeExchange(ctx, shown, fault); err != nil {
		return credentials.Grant{}, err
	}
	if !sleep(ctx, w.plan.Latency) {
		return credentials.Grant{}, w.gaveUp(ctx)
	}
	grant, err := w.presented(shown)
	if err := p.afterExchange(ctx, fault); err != nil {
		return credentials.Grant{}, err
	}
	p.under(func() { shown.answered, shown.heard = err == nil, time.Now() })
	return grant, err
}

// beforeExchange has the process meet a fault on the way to the provider. An error says that its
// request does not get there while it waits.
func (p *process) beforeExchange(ctx context.Context, shown *presentation, fault Fault) error {
	switch fault.Is {
	case Refused:
		return &credentials.RefreshError{
			Class: credentials.ClassTransient, Reason: "connection refused", Err: errors.New(mark),
		}
	case Busy:
		retryAt := time.Now().Add(fault.For)
		if ctx.Err() == nil { // else nobody listens any more
			p.under(func() { shown.retryAt = retryAt })
		}
		return &credentials.RefreshError{Class: credentials.ClassTransient, Code: "busy", RetryAt: retryAt}
	case SlowRequest:
		if !sleep(ctx, fault.For) {
			return p.w.gaveUp(ctx)
		}
	case Late:
		p.w.live.Go(func() {
			time.Sleep(fault.For)
			_, _ = p.w.presented(shown)
			p.under(func() { p.trouble(shown.account, Refresh) })
		})
		sleep(ctx, fault.For/2)
		return errors.New("connection lost; body: " + mark)
	case PausedBefore:
		p.under(func() { p.pause(fault.For) })
	case KilledBefore:
		p.under(p.kill)
	}
	if !p.step() {
		return errGone
	}
	return nil
}

// afterExchange has the process meet a fault when the provider has answered. An error says that the
// answer is lost.
func (p *process) afterExchange(ctx context.Context, fault Fault) error {
	switch fault.Is {
	case LostReply:
		return errors.New("connection lost; body: " + mark)
	case Panicking:
		panic(mark)
	case Stubborn:
		time.Sleep(fault.For)
	case SlowReply:
		if !sleep(ctx, fault.For) {
			return p.w.gaveUp(ctx)
		}
	case PausedAfter:
		p.under(func() { p.pause(fault.For) })
	case KilledAfter:
		p.under(p.kill)
	}
	if !p.step() {
		return errGone
	}
	return nil
}

// gaveUp is what a refresher returns whose context ended. Only its deadline may end it while the
// manager is open.
func (w *world) gaveUp(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.breaks(broken("invariant 7: no caller cancels an exchange", "%v", context.Cause(ctx)))
	}
	return ctx.Err()
}

// shows notes that a refresh token is presented, and whether it may be.
func (w *world) shows(ctx context.Context, p *process, a *account, in credentials.RefreshInput) *presentation {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	claim := w.claims[in.Fence]
	if claim == nil || claim.by != p {
		w.breaks(broken("invariant 2: a refresh token is presented under a committed claim only", "%s: %+v", p.name, in.Fence))
		return nil
	}
	shown := &presentation{by: p, claim: claim, account: a, refresh: in.RefreshToken.Reveal(), at: now}
	w.Exchanges++
	w.noteLocked("%s presents %s under version %d", p.name, shown.refresh, in.Fence.Version)
	deadline, bounded := ctx.Deadline()
	ends := claim.ends
	if !w.clocks.back.Before(claim.at) {
		ends = now.Add(lease) // a claim whose reply was lost is found again, and seems to last
	}
	switch {
	case claim.shown != nil:
		w.breaks(broken("invariant 2: a claim covers one presentation", "%s under %+v", p.name, in.Fence))
	case !ends.After(now):
		w.breaks(broken("invariant 2: nothing is presented when the lease has ended", "%s, %v late", p.name, now.Sub(claim.ends)))
	case !bounded || deadline.Add(storeTimeout+margin).After(ends):
		w.breaks(broken("invariant 13: an exchange and its save end before the lease", "by %v, the lease by %v", deadline, claim.ends))
	case claim.early > 0:
		w.breaks(broken("one exchange per expiry: nothing is presented before it is due", "%s, %v early", p.name, claim.early))
	case deadline.Sub(now) < exchangeTimeout/2:
		w.breaks(broken("an exchange has the time it takes", "%v", deadline.Sub(now)))
	case a.cell.exists && a.cell.own(in.Fence) && a.cell.failure.class == credentials.ClassDead:
		w.breaks(broken("invariant 9: what is dead is not presented", "%s", shown.refresh))
	case a.cell.exists && a.cell.own(in.Fence) && a.cell.failure.class != "" &&
		w.clocks.back.Before(claim.at) && a.cell.failure.retry.from.After(w.clock(p)):
		w.breaks(broken("invariant 10: nothing is presented before its back-off is over", "%s", shown.refresh))
	}
	claim.shown = shown
	w.unasked(p, a, claim)
	w.relies(p, a, claim) // before it is held against the earlier ones
	for _, earlier := range a.presentations {
		if earlier.refresh == shown.refresh {
			w.again(earlier, shown)
		}
	}
	a.presentations = append(a.presentations, shown)
	return shown
}

// again looks at a refresh token that was presented before: it may be only where it may not have
// been used up.
func (w *world) again(earlier, shown *presentation) {
	w.Replays++
	known := !earlier.known.IsZero() && earlier.known.Before(shown.claim.at)
	unknown := earlier.known.IsZero() || earlier.known.After(shown.claim.at) // neither: at the same moment
	succeeded := !earlier.granted.AccessToken.IsZero()
	switch {
	case known && succeeded && w.plan.Provider != Keeps:
		w.breaks(broken("one exchange per expiry: what was used and replaced is not presented again", "%s", shown.refresh))
	case unknown && w.plan.Replay == credentials.NeverReplay:
		w.breaks(broken("a service that never replays: what may have been used is not presented again", "%s", shown.refresh))
	case unknown && !earlier.unknown && !w.excused(earlier.claim, shown.at):
		w.breaks(broken("one exchange per expiry: presented again for no reason", "%s, by %s and %s", shown.refresh, earlier.by.name, shown.by.name))
	}
}

// unasked: where nobody asks for the token, one exchange may have been begun for a caller who has
// left, and one more where its token had expired when it was stored. w.mu is held.
func (w *world) unasked(p *process, a *account, claim *claimed) {
	for _, c := range w.callers {
		if c.by == p && c.a == a && !c.done {
			p.unasked[a] = 0
			return
		}
	}
	if claim.kept {
		return
	}
	if p.unasked[a]++; p.unasked[a] > 2 {
		w.breaks(broken("no exchange is made for nobody", "%s, %s: %d in a row", p.name, a.key, p.unasked[a]))
	}
}

// forced: a token that was turned down is exchanged once, whoever and however many report it, and
// not at once if an exchange brought it. The next exchange needs a caller who reports the next
// token, which may have the same text. w.mu is held.
func (w *world) forced(p *process, a *account, before cell, clock time.Time) {
	w.Forced++
	if _, old := before.tooYoung(span{clock, clock}, minTokenAge); !old {
		w.breaks(broken("no token is exchanged since it was turned down that an exchange has just brought",
			"%s claimed %s, %v after", p.name, a.key, clock.Sub(before.brought.to)))
	}
	text, id := before.token, credentials.TokenID{Row: before.row, Version: before.tokenOf}
	for _, named := range a.committed[text].ids {
		if named.TokenID != id {
			continue
		}
		for _, c := range w.callers {
			if c.by == p && c.a == a && c.turnedDown == text && !c.gotAt.Before(named.at) {
				return
			}
		}
	}
	w.breaks(broken("one forced exchange, whoever and however many report the token",
		"%s claimed %s for %+v, of which nobody reported the token", p.name, a.key, id))
}
