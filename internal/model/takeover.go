package model

import (
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// grace is how long a process waits with a lease that is not its own, though that has ended: as
// long as a holder may need to write its result once the store is back.
const grace = storeTimeout + time.Second

// lookPause is the longest pause between two looks of a process for a claim whose reply was lost.
const lookPause = 5 * time.Second

// health is a process's view of the store's, as its calls have shown it.
type health struct {
	failed time.Time // when a call last failed
	steady time.Time // when the first call began that has succeeded since; zero: none has
}

// observe takes in a call's outcome. One locked row says nothing about the store.
func (h *health) observe(err error, asked time.Time) {
	switch {
	case errors.Is(err, credentials.ErrRowLocked):
	case errors.Is(err, credentials.ErrUnavailable):
		h.failed, h.steady = time.Now(), time.Time{}
	case h.steady.IsZero():
		h.steady = later(asked, h.failed)
	}
}

// sighting is the first that a process has seen of a lease.
type sighting struct{ at, ends time.Time }

// sees notes the lease that an answer shows. asked is when the call began: from then on its
// durations count, at the earliest.
func (p *process) sees(asked time.Time, c credentials.Credential, err error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if _, known := p.seen[c.Lease.ID]; err != nil || known || c.Lease.ID == "" {
		return
	}
	// A lease that began in the future was set by a clock that is ahead, or has been set back
	// since: it is counted in whole.
	p.seen[c.Lease.ID] = sighting{at: asked, ends: asked.Add(c.Lease.EndsIn + min(c.Lease.Age, 0))}
}

// view is a process as it is when it sends a claim.
type view struct {
	*process
	at     time.Time
	health health
}

func (p *process) view() view {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return view{process: p, at: time.Now(), health: p.health}
}

// takesOver looks at a claim that was made on a row in which another lease stood. w.mu is held.
func (w *world) takesOver(v view, before cell, o op, c *claimed) {
	w.Lapsed++
	left := w.find(o.got.Key, before)
	c.waits = true
	own := left != nil && left.by == v.process && left.shown == nil && (o.claim.Unused == left.id || !w.forgotten(left))
	if own && o.kind == ClaimDue && w.clocks.forward.After(left.at) {
		own = false // to a batch, the process's own lease ended long ago, as soon as the clock was set
	}
	if own {
		if o.got.Interrupted.By != before.interrupted {
			w.breaks(broken("a process knows its own unused claims", "%s took %s for interrupted", v.name, left.id))
		}
		return
	}
	c.tookOver, c.over = true, left
	steady := !v.health.steady.IsZero() && v.at.Sub(v.health.steady) >= grace
	lease, seen := v.seen[before.lease.id]
	switch {
	case !steady:
		w.breaks(broken("a lease is taken over by a process whose store has been steady for the grace",
			"%s; its last failure %v ago, steady for %v", v.name, v.at.Sub(v.health.failed), v.at.Sub(v.health.steady)))
	case o.kind == ClaimDue:
		if long := o.at.plus(-batchWait); !before.lease.ends.never && before.lease.ends.from.After(long.to) {
			w.breaks(broken("a batch takes over leases that ended a lease ago", "%s, %v early", v.name, before.lease.ends.from.Sub(long.to)))
		}
	case !seen || v.at.Sub(lease.at) < grace:
		w.breaks(broken("a lease is taken over by a process that has seen it for the grace",
			"%s took over %s's, seen: %t, for %v", v.name, before.lease.holder, seen, v.at.Sub(lease.at)))
	case v.at.Before(lease.ends) && !w.clocks.forward.After(lease.at):
		w.breaks(broken("a lease is taken over by a process that has counted its end", "%s, %v early", v.name, lease.ends.Sub(v.at)))
	}
}

// relies: who took a lease over has let its holder save, and now takes it for dead: the refresh
// token is presented, or the grant given up. w.mu is held.
func (w *world) relies(p *process, a *account, c *claimed) {
	now := time.Now()
	if !c.tookOver {
		return
	}
	// A failure that is recorded may have been refused before, which is a failure of the store too.
	if now.Sub(c.at) < grace || c.shown != nil && p.health.failed.After(now.Add(-grace)) {
		w.breaks(broken("who took a lease over lets its holder save before it presents", "%s, after %v", p.name, now.Sub(c.at)))
	}
	until := now
	if left := c.over; left != nil && (left.shown == nil || !left.shown.answered) {
		until = c.at.Add(-lookPause) // only a success is written after that
	}
	switch left := c.over; {
	case left == nil:
	case w.excused(left, until):
		w.mayLose("a lease lapsed for a reason", a)
		if left.shown != nil {
			left.shown.unknown = true
		}
	default:
		w.breaks(broken("a lease lapses for a reason", "%s relies on the end of %s, which nothing kept from saving",
			p.name, left.by.name))
	}
}

// batchWait is how long ago, by the store's clock, a lease must have ended that a batch takes over.
const batchWait = lease

// excused reports whether something happened to the claim's process, and not to the store as a
// whole, that may have kept it from writing the result until then. An outage of the whole store is
// no excuse, however long it was: where the store is back, every process finds it so within the
// grace. A clock that is ahead, or was set forward, ends a lease early.
func (w *world) excused(c *claimed, until time.Time) bool {
	if until.Before(c.ends) && (w.plan.Ahead > 0 || w.clocks.forward.After(c.at)) {
		return true
	}
	return c.late || c.by.gone || w.forgotten(c) || !c.by.hindered(c.account).Before(later(c.at, until.Add(-grace)))
}

// forgotten reports whether the claim may be one that its process could not give up, or write the
// failure of, in time. Either the store took no writes when the others took the lease over, and
// nothing but a success is written after that. Or nothing was presented, and its process did not
// learn of it: it took effect late, its process was being closed, a node that was behind showed the
// row without it.
func (w *world) forgotten(c *claimed) bool {
	if c.shown != nil && c.shown.answered {
		return false
	}
	readOnly := !w.readOnly.Before(later(c.at, time.Now().Add(-3*grace)))
	return readOnly || c.shown == nil && (c.late || c.by.left || c.account.staleAt.After(c.at))
}

// soon is how long after the last trouble a process may take to write what is left to write.
const soon = 2 * grace

// unfinished looks for what should have been written by now. w.mu is held.
func (w *world) unfinished() {
	for _, a := range w.accounts {
		calm := func(p *process, since time.Time) bool {
			return !p.gone && time.Since(later(since, p.lastTrouble(a))) > soon
		}
		for _, shown := range a.presentations {
			if shown.answered && !shown.stored && calm(shown.by, shown.heard) {
				w.breaks(broken("what waits to be saved goes out when the store is back", "%s has %s since %v",
					shown.by.name, shown.granted.AccessToken.Reveal(), time.Since(shown.heard)))
			}
		}
		left := w.find(a.key, a.cell)
		if left != nil && left.shown == nil && !w.forgotten(left) && calm(left.by, left.at) {
			w.breaks(broken("a lease under which nothing was presented is used or given up, unasked", "%s, %s", left.by.name, a.key))
		}
	}
}

// mayLose notes that something may cost the grants of these credentials, all of them if none is
// named. w.mu is held.
func (w *world) mayLose(why string, accounts ...*account) {
	if accounts == nil {
		accounts = w.accounts
	}
	for _, a := range accounts {
		if a.mayLose == "" {
			a.mayLose = why
		}
	}
}
