package model

import (
	"cmp"
	"context"
	"time"

	"github.com/latchkey-go/latchkey/internal/testkit"
)

// outage is a stretch of time in which calls of the store fail, those of one process or of all. The
// zero outage is none.
type outage struct {
	from, until time.Time
	as          Trouble
}

// on reports whether the outage lasts.
func (o outage) on() bool { return time.Now().Before(o.until) }

// extended returns the outage as it is when trouble of that kind begins, for that long at least.
func (o outage) extended(d time.Duration, as Trouble) outage {
	now := time.Now()
	if !o.on() {
		o = outage{from: now}
	}
	if o.until = later(o.until, now.Add(d)); o.as == "" {
		o.as = cmp.Or(as, Refused) // it goes on as it began
	}
	return o
}

// goesAway has the store go away from all processes, whose callers go on asking. w.mu is held.
func (w *world) goesAway(d time.Duration, as Trouble) {
	w.away = w.away.extended(d, as)
	w.troubled = later(w.troubled, w.away.until)
	away := w.away
	w.live.Go(func() { w.askDuring(away) })
	w.noteLocked("the store is away until %v: %s", w.away.until.Sub(w.began), w.away.as)
	if w.away.until.Sub(w.away.from) <= lease {
		return
	}
	switch holders := w.holders(); {
	case holders > 1:
		w.CrowdedOutages++
		fallthrough
	case holders == 1:
		w.LongOutages++
	}
}

// askDuring has callers of every process ask for everything while an outage lasts and for a while
// after it, most often when the store has just come back.
func (w *world) askDuring(o outage) {
	for {
		w.crowd(2 * storeTimeout)
		pause := 3 * time.Second
		switch left := time.Until(o.until); {
		case left > time.Second:
			pause = min(8*time.Second, left-time.Second/2)
		case left > -time.Second/2:
			pause = time.Second / 4
		case left < -2*grace:
			return
		}
		time.Sleep(pause)
	}
}

// holders is the number of processes that have an exchange under way, or its result in hand.
func (w *world) holders() int {
	holders := make(map[*process]bool)
	for _, a := range w.accounts {
		for _, shown := range a.presentations {
			if !shown.recorded && !shown.by.gone && shown.claim.ends.After(time.Now()) {
				holders[shown.by] = true
			}
		}
	}
	return len(holders)
}

// outageOf returns the outage that such a call of this process meets now.
func (p *process) outageOf(kind Op) outage {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, o := range []outage{p.cut, p.w.away} {
		if o.on() && !(o.as == ReadOnly && kind.Reads()) {
			if o.as == ReadOnly {
				p.w.readOnly = time.Now()
			}
			return o
		}
	}
	return outage{}
}

// asNow returns an outage as it has been extended meanwhile.
func (p *process) asNow(o outage) outage {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, other := range []outage{p.cut, p.w.away} {
		if other.from.Equal(o.from) {
			return other
		}
	}
	return o
}

// through makes a call while the store is away.
func (p *process) through(ctx context.Context, o outage, c *testkit.Call, a *account, v view) error {
	switch o.as {
	case Silent:
		<-ctx.Done()
		return timedOut(ctx)
	case Frozen:
		sent, replies := *c, make(chan error, 1)
		p.w.live.Go(func() { // the request takes effect when the store goes on
			for ; o.on(); o = p.asNow(o) {
				time.Sleep(time.Until(o.until))
			}
			replies <- p.w.makes(context.WithoutCancel(ctx), &sent, a, v, how{})
		})
		select {
		case err := <-replies:
			*c = sent
			return err
		case <-ctx.Done():
			return timedOut(ctx)
		}
	case LostReply:
		time.Sleep(wire)
		_ = p.w.makes(ctx, c, a, v, how{})
		time.Sleep(wire)
		return unavailable("connection lost")
	default:
		time.Sleep(wire)
		return unavailable("connection refused")
	}
}
