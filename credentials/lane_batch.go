package credentials

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

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
