package credentials

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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

// claim claims at most n credentials, for which there is room, and begins to exchange them from slot on. It returns how
// many there were.
func (p *pass) claim(ctx context.Context, n int, slot time.Duration, w window) (begun int, err error) {
	defer func() {
		p.mu.Lock()
		p.nextSlot -= time.Duration(n-begun) * p.interval()
		p.mu.Unlock()
		p.free(n - begun)
	}()
	if !p.m.begin() {
		return 0, ErrClosed
	}
	defer p.m.flights.Done()
	ctx = context.WithoutCancel(ctx)
	p.m.keeper.claims <- struct{}{}
	now := p.m.now()
	batch := Batch{
		Claim:   Claim{ID: rand.Text(), Holder: p.m.opts.Holder, Lease: p.m.opts.Lease},
		Service: p.name, Limit: n, Overdue: max(now-w.before, 0), Longest: max(now-w.after, 1),
	}
	claimed, at, asked, err := p.claimOnce(ctx, batch)
	<-p.m.keeper.claims
	if err != nil {
		batch.Repeated = true
		service := p.service
		p.m.flights.Go(func() { p.recover(ctx, service, batch) })
		return 0, fmt.Errorf("claim what is due: %w", err)
	}
	service := p.service
	p.count(func(k *Kept) { k.Exchanging += len(claimed) })
	for i, c := range claimed {
		begins := slot + time.Duration(i)*p.interval()
		p.under.Add(1)
		p.m.flights.Go(func() { p.renew(ctx, service, c, at, asked, begins, p.under.Done) })
	}
	return len(claimed), nil
}

// claimOnce also returns the time before the call, by both clocks.
func (p *pass) claimOnce(ctx context.Context, batch Batch) (claimed []Credential, at time.Duration, asked time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.m.opts.StoreTimeout)
	defer cancel()
	asked, at = time.Now(), p.m.now()
	claimed, err = p.m.store.ClaimDue(ctx, batch)
	return claimed, at, asked, err
}

// recover exchanges what a batch claimed whose reply was lost. If the leases were left to lapse, the next claim would take
// for interrupted what was never begun.
func (p *pass) recover(ctx context.Context, service Service, batch Batch) {
	lost := p.m.now()
	for attempt := 0; p.m.pause(attempt); attempt++ {
		claimed, at, asked, err := p.claimOnce(ctx, batch)
		for _, c := range claimed {
			p.free(-1) // whether or not there is room
			p.count(func(k *Kept) { k.Exchanging++ })
			p.m.flights.Go(func() { p.renew(ctx, service, c, at, asked, at, func() {}) })
		}
		known := err == nil && (p.m.isClosing() || at-lost > settled)
		if len(claimed) > 0 || known || at-lost > batch.Lease {
			return
		}
	}
}

// renew exchanges one credential, not before slot, under the claim that c was returned for, asked for at that time by
// both clocks. It is one of the flights. landed is called when the result is stored or, since that takes long, nobody
// should wait for it: a row that cannot be written keeps no other from its turn.
func (p *pass) renew(
	ctx context.Context, service Service, c Credential, at time.Duration, asked time.Time, slot time.Duration, landed func(),
) {
	// A source of its own: who asks for the token meanwhile finds it leased, and is told when it is saved.
	// It has one claim, which is not made again if it was too slow.
	t := &trip{Source: &Source{m: p.m, key: c.Key}, asked: asked, slowClaims: mostSlowClaims}
	t.flight = t.newFlight(Secret{})
	land := sync.OnceFunc(func() {
		p.heard(ctx, t, service, at)
		p.free(1)
		landed()
	})
	defer land()
	late := false
	t.onLand = func() {
		if !late {
			late = true
			p.late(1)
			land()
		}
	}
	var before *snapshot
	cached := p.m.cached(c.Key)
	if cached != nil {
		before = cached.snapshot.Load()
	}
	var err error
	if !p.waitFor(slot) || p.m.isClosing() {
		err = p.giveUp(ctx, t, c, at)
	} else if _, err = t.exchange(ctx, service, c, at); t.claimID != "" { // which could not give up the lease
		err = p.giveUp(ctx, t, c, at)
	}
	if saved := t.snapshot.Load(); saved != nil && cached != nil {
		cached.snapshot.CompareAndSwap(before, saved) // what was cached meanwhile is from a later look
	}
	p.ended(ctx, t, err)
	if late {
		p.late(-1)
	}
}

// waitFor waits for a slot; false if the manager is being closed.
func (p *pass) waitFor(slot time.Duration) bool {
	wait := slot - p.m.now()
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.m.closing:
		return false
	}
}

// giveUp gives up the lease of an exchange that did not begin, until that is done or the lease has ended.
func (p *pass) giveUp(ctx context.Context, t *trip, c Credential, at time.Duration) error {
	for attempt := 0; ; attempt++ {
		_, err := t.release(ctx, c.Fence())
		if errors.Is(err, errAgain) || p.m.now() >= later(at, c.Lease.EndsIn) || !p.m.pause(attempt) {
			return err
		}
	}
}

// heard notes what the provider answered to an exchange, claimed at the time at.
func (p *pass) heard(ctx context.Context, t *trip, service Service, at time.Duration) {
	log := p.m.opts.Logger.With("credential", t.key.String())
	p.mu.Lock()
	defer p.mu.Unlock()
	switch heard := t.heard; {
	case heard == nil:
	case heard.err == nil || heard.err.Class == Rejected:
		if p.circuit.open {
			log.InfoContext(ctx, "keeper: the provider is back", "service", p.name)
		}
		p.circuit.answered()
	default:
		var wait time.Duration
		if retryAt := heard.err.RetryAt; !retryAt.IsZero() {
			wait = time.Until(retryAt)
		}
		if p.circuit.failed(at, p.m.now(), wait, heard.err.Class == Unknown && service.Replay == NeverReplay) {
			log.WarnContext(ctx, "keeper: the provider is taken for down; one exchange at a time is tried", "service", p.name)
		}
	}
}

// ended counts an exchange.
func (p *pass) ended(ctx context.Context, t *trip, err error) {
	p.count(func(k *Kept) {
		k.Exchanging--
		switch {
		case err == nil:
			k.Renewed++
		case errors.Is(err, ErrReauthRequired):
			k.Rejected++
		case !errors.Is(err, errAgain):
			k.Failed++
		}
	})
	if err != nil && !errors.Is(err, errAgain) {
		p.m.opts.Logger.WarnContext(ctx, "keeper: renewal failed", "credential", t.key.String(), "error", err)
	}
}
