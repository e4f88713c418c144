package model

import (
	"context"
	"time"
)

func (w *world) at(p, k int) (*process, *account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.processes[p], w.accounts[k]
}

func (x Ask) do(w *world) {
	p, a := w.at(x.P, x.K)
	w.ask(p, a, got{}, x.Within)
}

func (Crowd) do(w *world) { w.crowd(2 * storeTimeout) }

// crowd has callers of every process ask for everything.
func (w *world) crowd(within time.Duration) (callers []*caller) {
	for _, p := range w.running() {
		for _, a := range w.accounts {
			callers = append(callers, w.ask(p, a, got{}, within))
		}
	}
	return callers
}

func (x Invalidate) do(w *world) {
	p, a := w.at(x.P, x.K)
	w.mu.Lock()
	token := p.last[a]
	w.mu.Unlock()
	if !token.Value.IsZero() {
		w.ask(p, a, token, x.Within)
	}
}

func (x Renew) do(w *world) {
	p, _ := w.at(x.P, 0)
	w.live.Go(func() {
		kept, err := p.keeper.RunOnce(context.Background())
		w.note("%s has renewed what was due: %+v, %v", p.name, kept, err)
	})
}

func (x Put) do(w *world) { w.put(w.accounts[x.K], x.Token) }

func (x Delete) do(w *world) {
	w.remove(w.accounts[x.K])
	if x.Again {
		w.put(w.accounts[x.K], false)
	}
}

func (x Revoke) do(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accounts[x.K].family.Revoke()
	w.mayLose("the authorization was withdrawn", w.accounts[x.K])
}

func (x Sleep) do(*world) { time.Sleep(x.For) }

func (x Until) do(w *world) {
	w.mu.Lock()
	now, c := w.clock(nil), w.accounts[x.K].cell
	var when moment
	switch {
	case !c.exists:
	case x.What == Due:
		when = c.due
	case x.What == Expiry && c.token != "":
		when = c.expires
	case x.What == LeaseEnd && c.lease.id != "":
		when = c.lease.ends
	case x.What == BackOffEnd && c.failure.class != "":
		when = c.failure.retry
	}
	w.mu.Unlock()
	if wait := when.from.Add(x.Plus).Sub(now); !when.never && wait > 0 {
		time.Sleep(wait)
	}
}

func (x Pause) do(w *world) {
	p, _ := w.at(x.P, 0)
	p.under(func() { p.pause(x.For) })
}

func (x Kill) do(w *world) {
	p, _ := w.at(x.P, 0)
	p.under(p.kill)
}

func (x Down) do(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.goesAway(x.For, x.As)
}

func (x Cut) do(w *world) {
	p, _ := w.at(x.P, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	p.cut = p.cut.extended(x.For, x.As)
	w.mayLose("a process was cut off")
	w.troubled = later(w.troubled, p.cut.until)
	w.Cuts++
}

func (x Lag) do(w *world) {
	p, _ := w.at(x.P, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	p.lag, p.lags = x.By, time.Now().Add(x.For)
	w.Lags++
}

func (x Fault) do(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[x.K]
	a.faults[x.At] = append(a.faults[x.At], x)
}

func (x Exit) do(w *world) {
	p, _ := w.at(x.P, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	p.closing = true
	w.start(p.index)
	w.live.Go(func() { w.close(p, x.Within) })
}

// closing is how long Close may take whose context has ended: an exchange, and the save of its
// result.
const closing = exchangeTimeout + grace

// close ends a process in the normal way. Unless that takes too long, nothing of what it got may be
// lost.
func (w *world) close(p *process, within time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err := p.m.Close(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	bound := within
	if within == 0 {
		bound = closing
	}
	if took := time.Since(began); took > bound {
		w.breaks(broken("Close ends with its context", "%v after it", took-bound))
	}
	if p.killed {
		return
	}
	w.noteLocked("%s is closed: %v", p.name, err)
	if err != nil {
		if within == 0 && p.anyTrouble().Before(began.Add(-soon)) {
			w.allStored(p)
			for _, a := range w.accounts {
				w.nothingUnderWay(p, a)
			}
		}
		p.gone = true
		p.troubleAll()
		w.mayLose("a process was closed with an exchange under way")
		return
	}
	if p.anyTrouble().After(began.Add(-soon)) {
		p.left = true
		w.mayLose("a process was closed while the store was in trouble")
	}
	w.allStored(p)
}

// nothingUnderWay: Close has let the exchanges of the process end. w.mu is held.
func (w *world) nothingUnderWay(p *process, a *account) {
	for _, shown := range a.presentations {
		if shown.by == p && !shown.recorded && shown.claim.ends.After(time.Now()) {
			w.breaks(broken("Close waits for what is under way, also where its context has ended", "%s, %s", p.name, a.key))
		}
	}
}

// allStored: what a process was granted is stored, or something later is. w.mu is held.
func (w *world) allStored(p *process) {
	for _, a := range w.accounts {
		for _, shown := range a.presentations {
			if shown.by == p && shown.answered && !shown.stored {
				w.breaks(broken("invariant 4: what was granted is saved while the process lives", "%s got %s and never saved it",
					p.name, shown.granted.AccessToken.Reveal()))
			}
		}
	}
}
