package credentials

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"
)

// lane is where the keeper renews the credentials of one service, so that services do not wait for each other. It
// claims as many as may be exchanged at once, and no more: a claim that has to wait might lapse.
type lane struct {
	m    *Manager
	name string

	mu       sync.Mutex // guards what follows
	entered  bool       // by Keep
	busy     int        // the room that is taken: exchanges under way, or about to be claimed
	unsaved  int        // results that could not be stored for so long that they gave their room back
	total    Kept
	circuit  circuit
	nextSlot time.Duration // when KeepRate allows the next exchange
	freed    chan struct{} // closed, and replaced, when there is room again
}

// enter reports whether Keep may run the lane, which it does once at a time.
func (l *lane) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entered {
		return false
	}
	l.entered = true
	return true
}

func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entered = false
}

// free gives back the room for n exchanges, and lets those look who wait for it.
func (l *lane) free(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy -= n
	close(l.freed)
	l.freed = make(chan struct{})
}

// late counts n results more that are not stored, and have given their room back.
func (l *lane) late(n int) {
	l.mu.Lock()
	l.unsaved += n
	l.mu.Unlock()
	l.free(0)
}

func (l *lane) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.circuit.returned || l.circuit.behind
}

func (l *lane) sum() Kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.total
	kept.Down = l.circuit.open
	return kept
}

// pass is one run of a lane.
type pass struct {
	*lane
	once    bool // it does not wait for a provider that is down
	began   time.Duration
	service Service        // as it was found for the last batch
	kept    Kept           // guarded by lane.mu
	under   sync.WaitGroup // its exchanges, until they land
}

// run renews what is due of the service, of which the first became due at that time, until there is no more at the
// moment. With once, it does not wait for a provider that is down, but for the exchanges that it began, and returns what
// they came to.
func (l *lane) run(ctx context.Context, first time.Duration, once bool) (Kept, error) {
	p := &pass{lane: l, once: once, began: l.m.now()}
	err := p.work(ctx, first)
	if once {
		p.under.Wait()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.kept.Down = l.circuit.open
	return p.kept, err
}

func (p *pass) work(ctx context.Context, first time.Duration) error {
	for _, w := range p.windows(first) {
		for again := false; ; again = true {
			if known, err := p.find(ctx); !known {
				return err
			}
			n, slot, err := p.room(ctx, again)
			if n == 0 || err != nil {
				return err
			}
			begun, err := p.claim(ctx, n, slot, w)
			if err != nil {
				return err
			}
			if begun < n {
				break
			}
		}
	}
	return nil
}

// windows returns what the pass may claim, one after the other.
func (p *pass) windows(first time.Duration) []window {
	if p.once { // not what this pass renewed itself, however short it lives
		return []window{{max(min(first, p.began), longAgo) - windowMargin, p.began}}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.circuit.windows(first, p.began)
}

// find finds the service anew for each batch: its secret may have been wrong, or its rate changed. It reports whether the
// process knows it.
func (p *pass) find(ctx context.Context) (known bool, err error) {
	finding, cancel := context.WithTimeout(ctx, p.m.opts.StoreTimeout)
	defer cancel()
	service, err := p.m.services.Service(finding, p.name)
	unknown := errors.Is(err, ErrUnknownService)
	p.count(func(k *Kept) { k.Unknown = unknown })
	if unknown {
		return false, nil
	}
	p.service = service
	return err == nil, err
}

// count changes the lane's sums and the pass's.
func (p *pass) count(change func(*Kept)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.total)
	change(&p.kept)
}

// room waits until some exchanges may begin, and reserves them; 0: the pass is over. The first may begin at slot, the
// others at intervals. again: the pass has begun some already.
func (p *pass) room(ctx context.Context, again bool) (n int, slot time.Duration, err error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return 0, 0, err
		}
		p.mu.Lock()
		now := p.m.now()
		n, wait := p.mayBegin(now)
		over := n == 0 && p.once && p.busy == 0 && (p.circuit.open || wait == Never) || // it is down, or no result can be stored
			!p.once && again && p.circuit.returned // what the backlog is must be found out
		if over {
			n = 0
		}
		p.busy += n
		p.nextSlot = max(p.nextSlot, now) + time.Duration(n)*p.interval()
		freed := p.freed
		p.mu.Unlock()
		if n > 0 || over {
			return n, now, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-freed:
		case <-timer.C:
		case <-ctx.Done():
		case <-p.m.closing:
			timer.Stop()
			return 0, 0, ErrClosed
		}
		timer.Stop()
	}
}

// mostUnsaved is how many results may wait to be stored, beside the exchanges under way: where there are so many, it is
// not about a row that somebody has locked, and what is exchanged then may be lost with this process.
const mostUnsaved = 16

// mayBegin returns how many exchanges may begin now; if none, how long to wait unless one ends before. mu is held.
func (p *pass) mayBegin(now time.Duration) (n int, wait time.Duration) {
	parallel := cmp.Or(p.service.KeepParallel, DefaultKeepParallel)
	n = parallel - p.busy
	switch {
	case p.unsaved >= mostUnsaved:
		return 0, Never
	case p.circuit.open && p.busy > 0:
		return 0, Never
	case p.circuit.open && p.circuit.probeAt > now:
		return 0, p.circuit.probeAt - now
	case p.circuit.open:
		n = 1
	case n < (parallel+1)/2:
		return 0, Never // one by one they would cost a transaction each
	}
	if rate := p.service.KeepRate; rate > 0 {
		if p.nextSlot > now {
			return 0, p.nextSlot - now
		}
		n = max(1, int(min(float64(n), rate))) // no more than a second's: a claim that waits for its slot might lapse
	}
	return n, 0
}

// interval is the least time between the beginnings of two exchanges, by KeepRate.
func (p *pass) interval() time.Duration {
	if p.service.KeepRate == 0 {
		return 0
	}
	return time.Duration(min(float64(time.Second)/p.service.KeepRate, float64(MaxLease)))
}
