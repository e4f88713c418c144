package storm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// trouble is a storm with faults, as the parent sees it.
type trouble struct {
	cfg     Config
	rows    *accounts
	p       *provider.Provider
	gate    *gate
	journal *journal
	workers *fleet
	job     job
	watch   func(worker, account int, did deed) // under chaos: told of claims, presentations (an empty deed) and answers

	last     int // the number of the worker that was started last
	mu       sync.Mutex
	hit      int            // guarded by mu: the last round whose holder was hit
	round    int            // guarded by mu
	pending  sync.WaitGroup // faults under way
	finished []result       // of the workers
}

// runFaulty does a storm with faults: rounds with one fault each, or chaos.
func runFaulty(ctx context.Context, cfg Config, rows *accounts, p *provider.Provider, secret string, seeded []putting) (Report, error) {
	t := &trouble{cfg: cfg, rows: rows, p: p, journal: newJournal(), last: cfg.Processes}
	for _, put := range seeded {
		t.journal.put(put)
	}
	var err error
	t.gate, err = openGate(p, cfg.Seed, func(worker int, account string) {
		if t.watch != nil {
			t.watch(worker, slices.Index(rows.names, account), "")
		}
	})
	if err != nil {
		return Report{}, err
	}
	defer t.gate.close()
	var c *chaos
	if cfg.Chaos {
		c = newChaos(t)
	}

	cfg.Progress(fmt.Sprintf("starting %d processes", cfg.Processes))
	t.job = job{
		DSN: cfg.DSN, Pool: cfg.Pool, Service: rows.service, Accounts: rows.names, Threads: cfg.Threads, First: 1, Rounds: cfg.Rounds,
		Latency: cfg.Latency, TokenURL: t.gate.url, ClientID: clientID, ClientSecret: secret,
		Faulty: true, Point: cfg.point(), Chaos: cfg.Chaos, Seed: cfg.Seed, ExchangeTimeout: cfg.exchangeTimeout(), Lease: cfg.lease(),
	}
	t.workers, err = startFleet(ctx, cfg.Command, cfg.Processes, t.job, t.heard)
	if err != nil {
		return Report{}, err
	}
	defer t.workers.stop(2 * time.Second)

	if cfg.Chaos {
		err = c.run(ctx)
	} else {
		err = t.rounds(ctx)
	}
	dead, invariant := (*deadWorker)(nil), (*broken)(nil)
	switch {
	case errors.As(err, &dead):
		t.journal.violated("%v", dead)
	case errors.As(err, &invariant) && ctx.Err() == nil:
		t.journal.violated("%v", invariant)
	case err != nil:
		return Report{}, err
	}
	t.pending.Wait()
	return t.report(ctx)
}

// broken ends a storm early, since an invariant broke.
type broken struct{ what string }

func (b *broken) Error() string { return b.what }

// heard takes what a worker says on the way. It is called by the goroutine that reads from it.
func (t *trouble) heard(p *process, m message) {
	if m.Question != nil {
		t.answer(p, *m.Question)
		return
	}
	t.journal.add(p.worker, *m.Record)
	if t.watch != nil {
		t.watch(p.worker, m.Record.Account, m.Record.Deed)
	}
}

// longDown is how long the server is away at least: longer than one call of the store may take, so that it takes more
// than that call's own retries.
const longDown = shortStore * 5 / 4

// answer decides what happens to a holder at the step that the fault waits for: the first of each round is hit.
func (t *trouble) answer(p *process, q question) {
	t.mu.Lock()
	first := t.hit < t.round
	t.hit = t.round
	t.mu.Unlock()
	reply := order{Reply: q.Number, Act: goOn}
	switch {
	case !first:
		p.tell(reply)
	case t.cfg.Kill != "":
		p.expectEnd()
		t.journal.kill(p.worker)
		reply.Act = kill
		p.tell(reply)
	case t.cfg.Pause:
		t.journal.pause(p.worker)
		reply.Act = pause
		p.tell(reply)
		t.pending.Go(func() { t.resumeAfterLease(p, q) })
	default:
		back := t.journal.restarting()
		t.cfg.Database.Kill()
		p.tell(reply)
		t.pending.Go(func() {
			defer back()
			sleep(t.workers.ctx, longDown)
			if err := t.cfg.Database.Restart(t.workers.ctx); err != nil {
				t.journal.violated("the server did not come back: %v", err)
			}
		})
	}
}

// resumeAfterLease resumes a paused holder when its lease has ended and somebody else has claimed, should there be
// somebody: then it comes back with a success of its own into the other's exchange.
func (t *trouble) resumeAfterLease(p *process, q question) {
	paused := history.Now()
	sleep(t.workers.ctx, t.cfg.lease()) // which began before the pause
	for patience := time.Now().Add(2 * time.Second); time.Now().Before(patience) && !t.journal.claimedSince(q.Account, paused); {
		sleep(t.workers.ctx, 5*time.Millisecond)
	}
	if err := resumeProcess(p.cmd.Process); err != nil {
		t.journal.violated("worker %d could not be resumed: %v", p.worker, err)
	}
	t.journal.resumed(p.worker)
}

// rounds does the rounds. Before each, the dead are replaced and the tokens expire.
func (t *trouble) rounds(ctx context.Context) error {
	for round := 1; round <= t.cfg.Rounds; round++ {
		for i, p := range t.workers.workers {
			if p.isKilled() {
				if err := t.replace(i, round); err != nil {
					return err
				}
			}
		}
		err := t.workers.collect(ctx, func(_ int, m message) error {
			if m.Ready != round {
				return fmt.Errorf("said %+v instead of being ready for round %d", m, round)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if round > 1 {
			if err := t.rows.expire(ctx); err != nil {
				return err
			}
		}
		if err := t.reauthorize(ctx); err != nil {
			return err
		}
		t.cfg.Progress(fmt.Sprintf("round %d of %d: %s", round, t.cfg.Rounds, t.cfg.fault()))
		t.mu.Lock()
		t.round = round
		t.mu.Unlock()
		t.workers.tell(order{Round: round, Sent: time.Now().UnixNano()})
		if err := t.collectResults(ctx); err != nil {
			return err
		}
		t.mu.Lock()
		if t.hit < round {
			t.journal.violated("round %d: no holder got as far as the fault", round)
		}
		t.mu.Unlock()
		t.pending.Wait()
	}
	return nil
}

func (t *trouble) collectResults(ctx context.Context) error {
	return t.workers.collect(ctx, func(_ int, m message) error {
		if m.Result == nil {
			return fmt.Errorf("said %+v instead of what it came to", m)
		}
		t.finished = append(t.finished, *m.Result)
		return nil
	})
}

// replace starts a worker in place of one that was killed, under a number of its own: no holder's name is used twice.
func (t *trouble) replace(i, round int) error {
	<-t.workers.workers[i].ended
	t.last++
	job := t.job
	job.Worker, job.First = t.last, round
	started, err := t.workers.start(job)
	if err != nil {
		return fmt.Errorf("start worker %d: %w", job.Worker, err)
	}
	t.workers.workers[i] = started
	return nil
}

// reauthorize puts a new grant for every account that is dead.
func (t *trouble) reauthorize(ctx context.Context) error {
	for _, account := range t.journal.deadAccounts() {
		if err := t.authorizeAgain(ctx, account); err != nil {
			return err
		}
	}
	return nil
}

func (t *trouble) authorizeAgain(ctx context.Context, account int) error {
	for {
		put, err := t.rows.authorize(ctx, t.p, account)
		t.journal.put(put)
		if err == nil {
			return nil
		}
		if sleep(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("authorize again: %w", err)
		}
	}
}
