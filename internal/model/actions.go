package model

import (
	"context"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

func (w *world) at(p, k int) (*process, *account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.processes[p], w.accounts[k]
}

func (x Ask) do(w *world) {
	p, a := w.at(x.P, x.K)
	w.ask(p, a, credentials.Token{}, x.Within)
}

func (x Reject) do(w *world) {
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
		kept, err := p.m.RefreshDue(context.Background())
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
	w.accounts[x.K].family.revoked = true
}

func (x Sleep) do(*world) { time.Sleep(x.For) }

func (x Until) do(w *world) {
	w.mu.Lock()
	now, c := time.Now(), w.accounts[x.K].cell
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
	w.down = later(w.down, time.Now().Add(x.For))
	w.troubled = w.down
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

// close ends a process in the normal way. Unless that takes too long, nothing of what it got may be lost.
func (w *world) close(p *process, within time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err := p.m.Close(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if took := time.Since(began); took > within {
		w.breaks(broken("Close ends with its context", "%v after it", took-within))
	}
	if p.killed {
		return
	}
	w.noteLocked("%s is closed: %v", p.name, err)
	if err != nil {
		p.gone = true
		p.troubleAll()
		return
	}
	w.allStored(p)
}

// allStored: what a process was granted is stored, or something later is. w.mu is held.
func (w *world) allStored(p *process) {
	for _, a := range w.accounts {
		for _, shown := range a.presentations {
			if shown.by == p && shown.answered && !shown.stored {
				w.breaks(broken("invariant 4: what was granted is saved while the process lives", "%s got %s and never saved it",
					p.name, shown.granted.Token.Reveal()))
			}
		}
	}
}
