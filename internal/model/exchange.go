package model

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Refresh implements [credentials.Refresher]: the process calls the provider, with what it meets on the way.
func (p *process) Refresh(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
	w, a := p.w, p.w.byKey[c.Key]
	if dead := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return p.killed }(); dead {
		<-w.over
		return credentials.Grant{}, errGone
	}
	shown := w.shows(ctx, p, a, c) // before the step: a process that is stopped here has looked at its clock already
	if shown == nil || !p.step() {
		return credentials.Grant{}, errGone
	}
	fault := p.meets(a, Refresh)
	if fault.Is != "" {
		defer p.under(func() { p.trouble(a, Refresh) })
	}
	switch fault.Is {
	case Refused:
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Reason: "connection refused", Err: errors.New(mark)}
	case Busy:
		retryAt := time.Now().Add(fault.For)
		if ctx.Err() == nil { // else nobody listens any more
			p.under(func() { shown.retryAt = retryAt })
		}
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Code: "busy", RetryAt: retryAt}
	case SlowRequest:
		if !sleep(ctx, fault.For) {
			return credentials.Grant{}, w.gaveUp(ctx)
		}
	case Late:
		w.live.Go(func() {
			time.Sleep(fault.For)
			_, _ = w.presented(shown)
			p.under(func() { p.trouble(a, Refresh) })
		})
		sleep(ctx, fault.For/2)
		return credentials.Grant{}, errors.New("connection lost; body: " + mark)
	case PausedBefore:
		p.under(func() { p.pause(fault.For) })
	case KilledBefore:
		p.under(p.kill)
	}
	if !p.step() {
		return credentials.Grant{}, errGone
	}
	if !sleep(ctx, w.plan.Latency) {
		return credentials.Grant{}, w.gaveUp(ctx)
	}
	grant, err := w.presented(shown)
	switch fault.Is {
	case LostReply:
		return credentials.Grant{}, errors.New("connection lost; body: " + mark)
	case Panicking:
		panic(mark)
	case Stubborn:
		time.Sleep(fault.For)
	case SlowReply:
		if !sleep(ctx, fault.For) {
			return credentials.Grant{}, w.gaveUp(ctx)
		}
	case PausedAfter:
		p.under(func() { p.pause(fault.For) })
	case KilledAfter:
		p.under(p.kill)
	}
	if !p.step() {
		return credentials.Grant{}, errGone
	}
	p.under(func() { shown.answered = err == nil })
	return grant, err
}

// gaveUp is what a refresher returns whose context ended. Only its deadline may end it while the manager is open.
func (w *world) gaveUp(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.breaks(broken("invariant 7: no caller cancels an exchange", "%v", context.Cause(ctx)))
	}
	return ctx.Err()
}

// shows notes that a refresh token is presented, and whether it may be.
func (w *world) shows(ctx context.Context, p *process, a *account, c credentials.Credential) *presentation {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	claim := w.claims[c.Fence()]
	if claim == nil || claim.by != p {
		w.breaks(broken("invariant 2: a refresh token is presented under a committed claim only", "%s: %+v", p.name, c.Fence()))
		return nil
	}
	shown := &presentation{by: p, claim: claim, account: a, refresh: c.RefreshToken.Reveal(), at: now}
	w.Exchanges++
	w.noteLocked("%s presents %s under version %d", p.name, shown.refresh, c.Version)
	deadline, bounded := ctx.Deadline()
	switch {
	case claim.shown != nil:
		w.breaks(broken("invariant 2: a claim covers one presentation", "%s under %+v", p.name, c.Fence()))
	case !claim.ends.After(now):
		w.breaks(broken("invariant 2: nothing is presented when the lease has ended", "%s, %v late", p.name, now.Sub(claim.ends)))
	case !bounded || deadline.Add(storeTimeout+margin).After(claim.ends):
		w.breaks(broken("invariant 13: an exchange and its save end before the lease", "by %v, the lease by %v", deadline, claim.ends))
	case claim.early > 0:
		w.breaks(broken("one exchange per expiry: nothing is presented before it is due", "%s, %v early", p.name, claim.early))
	case deadline.Sub(now) < exchangeTimeout/2:
		w.breaks(broken("an exchange has the time it takes", "%v", deadline.Sub(now)))
	case a.cell.exists && a.cell.own(c.Fence()) && a.cell.failure.class == credentials.Rejected:
		w.breaks(broken("invariant 9: what is dead is not presented", "%s", shown.refresh))
	case a.cell.exists && a.cell.own(c.Fence()) && a.cell.failure.class != "" && a.cell.failure.retry.from.After(now):
		w.breaks(broken("invariant 10: nothing is presented before its back-off is over", "%s", shown.refresh))
	}
	claim.shown = shown
	for _, earlier := range a.presentations {
		if earlier.refresh == shown.refresh {
			w.again(earlier, shown)
		}
	}
	a.presentations = append(a.presentations, shown)
	return shown
}

// again looks at a refresh token that was presented before: it may be only where it may not have been used up.
func (w *world) again(earlier, shown *presentation) {
	w.Replays++
	known := !earlier.known.IsZero() && earlier.known.Before(shown.claim.at)
	succeeded := !earlier.granted.Token.IsZero()
	switch {
	case known && succeeded && w.plan.Provider != Keeps:
		w.breaks(broken("one exchange per expiry: what was used and replaced is not presented again", "%s", shown.refresh))
	case !known && w.plan.Replay == credentials.NeverReplay:
		w.breaks(broken("a service that never replays: what may have been used is not presented again", "%s", shown.refresh))
	case !known && !w.excused(earlier.claim):
		w.breaks(broken("one exchange per expiry: presented again for no reason", "%s, by %s and %s", shown.refresh, earlier.by.name, shown.by.name))
	}
}

// presented is the moment at which an exchange takes effect at the provider.
func (w *world) presented(shown *presentation) (credentials.Grant, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	grant, err := w.provider.present(shown, time.Now())
	if err != nil {
		w.noteLocked("%s: %s is refused", shown.by.name, shown.refresh)
	} else {
		w.noteLocked("%s gets %s, %s", shown.by.name, grant.Token.Reveal(), grant.RefreshToken.Reveal())
	}
	return grant, err
}
