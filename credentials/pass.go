package credentials

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// pass renews the due credentials of one service, until there are no more at the moment. A batch
// has as many credentials as may be exchanged at once, and no more: no claim waits.
type pass struct {
	*worker
	once    bool   // of RunOnce
	first   moment // when the first of the due credentials became due
	began   moment
	service Service        // as it was found for the last batch
	done    KeeperStats    // by this pass; guarded by worker.mu
	under   sync.WaitGroup // its exchanges, until their results are stored, or are late
}

// stats returns the pass's own figures.
func (p *pass) stats() KeeperStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := p.done
	p.standing(&stats)
	return stats
}

// count changes the worker's figures and the pass's.
func (p *pass) count(change func(*KeeperStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.total)
	change(&p.done)
}

// run makes the pass. One that goes once does not wait for a provider that is down.
func (p *pass) run(ctx context.Context) error {
	for hasBegun := false; ; hasBegun = true {
		if known, err := p.find(ctx); !known {
			return err
		}
		a, err := p.acquire(ctx, hasBegun)
		if a.n == 0 || err != nil {
			return err
		}
		begun, err := p.claim(ctx, a)
		if begun < a.n || err != nil {
			return err
		}
	}
}

// find finds the service anew for each batch: its secret may have been wrong, or its rate changed.
// It reports whether the process knows it.
func (p *pass) find(ctx context.Context) (known bool, err error) {
	service, err := p.findService(ctx, p.name)
	unknown := errors.Is(err, ErrUnknownService)
	p.count(func(s *KeeperStats) { s.UnknownService = unknown })
	if unknown {
		return false, nil
	}
	p.service = service
	return err == nil, err
}

// acquire waits until some exchanges may begin, and takes their permits; 0: the pass is over.
func (p *pass) acquire(ctx context.Context, hasBegun bool) (admission, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return admission{}, err
		}
		a := p.admit(p.service, p.once, hasBegun)
		if a.n > 0 || a.over {
			return a, nil
		}
		if err := p.wait(ctx, a.wait, a.changed); err != nil {
			return admission{}, err
		}
	}
}

// claim claims at most as many credentials as permits are taken, and begins to exchange them. It
// returns how many there were.
func (p *pass) claim(ctx context.Context, a admission) (begun int, err error) {
	defer func() { p.claimed(a.n - begun) }()
	windows := []window{{after: max(min(p.first, p.began), longAgo).add(-windowMargin), before: p.began}}
	if !p.once { // a single pass renews nothing twice, however short a token lives
		windows = p.windows(p.first)
	}
	if a.probe {
		telling := windows[0]
		telling.probe = true
		windows = append([]window{telling}, windows...)
	}
	for _, w := range windows {
		claimed, err := p.claimWindow(ctx, a.n-begun, w, a.probe)
		begun += claimed
		if begun == a.n || err != nil {
			return begun, err
		}
	}
	return begun, nil
}

// claimWindow claims credentials that became due within the window. The batch begins when the store
// may be called for it, unless the pass is over before: Close waits for no batch that has not
// begun.
func (p *pass) claimWindow(ctx context.Context, n int, w window, probe bool) (begun int, err error) {
	if err := p.background.acquire(ctx, p.closing); err != nil {
		return 0, err
	}
	defer p.background.release()
	if !p.begin() {
		return 0, ErrClosed
	}
	defer p.inflight.Done()
	ctx = context.WithoutCancel(ctx)
	batch := p.batch(n, w)
	asked := p.now()
	claimed, err := p.claimDue(ctx, batch)
	if err != nil {
		if !errors.Is(err, errNotAsked) {
			find := func(ctx context.Context) ([]Credential, error) {
				return p.store.FindClaims(ctx, batch, p.since(asked))
			}
			p.recoverClaim(ctx, lostClaim{id: batch.ID}, unusedLease, find)
		}
		return 0, fmt.Errorf("claim due credentials: %w", err)
	}
	service := p.service
	p.count(func(s *KeeperStats) { s.Exchanging += len(claimed) })
	for _, c := range claimed {
		p.under.Add(1)
		p.inflight.Go(func() { p.renew(ctx, service, c, probe) })
	}
	return len(claimed), nil
}

// batch asks for credentials that became due within the window. It takes over leases that ended a
// whole lease ago by the store's clock, unless this process's own store has not answered steadily:
// then their living holders may be as badly off.
func (p *pass) batch(n int, w window) Batch {
	now := p.now()
	batch := Batch{
		Claim:   Claim{ID: rand.Text(), Holder: p.opts.Holder, Lease: p.opts.Lease},
		Service: p.name, Limit: n, Probe: w.probe,
		MinOverdue: max(now.sub(w.before), 0), MaxOverdue: max(now.sub(w.after), 1),
	}
	if p.health.steady() {
		batch.Lapsed = p.opts.Lease
		// The grace passes before anything is presented under a lease that took another's place.
		batch.Lease += p.opts.grace()
	}
	return batch
}

// claimDue returns the credentials claimed, each as it was read.
func (p *pass) claimDue(ctx context.Context, batch Batch) (claimed []reading, err error) {
	var all []Credential
	r, err := p.read(func() (Credential, error) {
		all, err = p.store.ClaimDue(ctx, batch)
		return Credential{}, err
	})
	for _, c := range all {
		one := r
		one.Credential = c
		claimed = append(claimed, one)
	}
	return claimed, err
}

// renew exchanges one credential under the claim that c was returned for. A result that cannot be
// stored within StoreTimeout gives its permit to others: a row that cannot be written keeps nobody
// from its turn.
func (p *pass) renew(ctx context.Context, service Service, c reading, probe bool) {
	x := &exchange{engine: p.engine, service: service, claimed: c, trigger: TriggerKeeper}
	x.answered = func() { p.judge(ctx, x, probe) }
	leave := sync.OnceFunc(func() {
		p.vacate()
		p.under.Done()
	})
	defer leave()
	stalled := false
	x.notStored = func(waited time.Duration, _ *snapshot, err error) {
		if !stalled && waited >= p.opts.StoreTimeout {
			stalled = true
			p.stalled(err, probe)
			leave()
		}
	}
	if p.isClosing() {
		_ = p.release(ctx, c.Credential)
		p.ended(ctx, c, result{outcome: OutcomeReleased})
		return
	}
	r := x.run(ctx)
	if source := p.sources.peek(c.Key); source != nil && r.outcome == OutcomeSaved && r.token != nil {
		source.slot.offer(r.token)
	}
	p.ended(ctx, c, r)
}

// ended counts an exchange.
func (p *pass) ended(ctx context.Context, c reading, r result) {
	p.count(func(s *KeeperStats) { s.ended(r.outcome, r.class()) })
	if r.outcome == OutcomeSaved {
		p.stored()
	}
	if r.err != nil {
		p.log.warn(ctx, p.name, "keeper: renewal failed",
			"credential", c.Key.String(), "error", r.err)
	}
}
