package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// chaos is what the parent does to its workers and the server. All its choices come from the seed, in one sequence; whom
// they meet depends on who happens to do what.
type chaos struct {
	*trouble

	random *rand.Rand
	deck   []blow
	resume map[*process]time.Time // the paused, and when they go on
	start  map[int]time.Time      // the places of the dead, and when they are filled
	put    map[int]time.Time      // the dead accounts, and when somebody authorizes them again

	mu       sync.Mutex       // guards what follows
	alive    map[int]*process // by number: neither killed nor paused
	armed    *blow            // it comes when somebody does what it waits for
	arrived  *process         // whom it met
	replaced []int            // accounts that get a new grant now, whatever is under way
}

// blow is one thing that goes wrong.
type blow struct {
	what string // "kill", "pause", "replace" a grant, "restart" the server or "withdraw" a grant
	at   deed   // what its victim has just done; "" while the endpoint works on its request
	now  bool   // whatever its victim does
}

// blows are dealt like cards: a short run has each of them too.
var blows = []blow{
	{what: "kill", at: didClaim}, {what: "kill", at: ""}, {what: "kill", at: didAnswer}, {what: "kill", now: true},
	{what: "pause", at: didClaim}, {what: "pause", at: ""}, {what: "pause", at: didAnswer}, {what: "pause", now: true},
	{what: "replace", at: ""}, {what: "restart"}, {what: "withdraw"},
}

// mostPaused leaves some workers to go on.
const mostPaused = 2

func newChaos(t *trouble) *chaos {
	c := &chaos{
		trouble: t, random: rand.New(rand.NewPCG(t.cfg.Seed, 0)), alive: make(map[int]*process),
		resume: make(map[*process]time.Time), start: make(map[int]time.Time), put: make(map[int]time.Time),
	}
	t.watch = c.saw
	t.gate.setRate(t.cfg.FaultRate)
	return c
}

// between draws a duration.
func (c *chaos) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.random.Int64N(int64(most-least)+1))
}

// saw deals the armed blow if this is what it waits for. It must not wait for anything: workers' pipes are read here.
func (c *chaos) saw(worker, account int, did deed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.alive[worker]
	if p == nil || c.armed == nil || c.armed.at != did {
		return
	}
	if c.armed.what == "replace" {
		c.replaced = append(c.replaced, account)
		c.armed = nil
		return
	}
	c.strike(*c.armed, p)
	c.armed, c.arrived = nil, p
}

// strike kills or pauses a worker. The caller holds c.mu.
func (c *chaos) strike(b blow, p *process) {
	delete(c.alive, p.worker)
	var err error
	if b.what == "kill" {
		p.expectEnd()
		c.journal.kill(p.worker)
		err = p.cmd.Process.Kill()
	} else {
		c.journal.pause(p.worker)
		err = pauseProcess(p.cmd.Process)
	}
	if err != nil {
		c.journal.violated("%s worker %d: %v", b.what, p.worker, err)
	}
}

// run does the chaos and ends it.
func (c *chaos) run(ctx context.Context) error {
	c.mu.Lock()
	for _, p := range c.workers.workers {
		c.alive[p.worker] = p
	}
	c.mu.Unlock()
	pace := min(max(c.cfg.Duration/60, 200*time.Millisecond), time.Second)
	end := time.Now().Add(c.cfg.Duration)
	for next := time.Now(); time.Now().Before(end); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.tend(ctx); err != nil {
			return err
		}
		if time.Now().After(next) {
			c.cfg.Progress(fmt.Sprintf("chaos, %v to go", time.Until(end).Round(time.Second)))
			c.deal(ctx)
			next = time.Now().Add(c.between(pace/2, pace*3/2))
		}
		sleep(ctx, 10*time.Millisecond)
	}
	return c.calmDown(ctx)
}

// tend resumes, starts and authorizes whatever it is time for.
func (c *chaos) tend(ctx context.Context) error {
	c.mu.Lock()
	met, replaced := c.arrived, c.replaced
	c.arrived, c.replaced = nil, nil
	c.mu.Unlock()
	for _, account := range replaced {
		c.journal.replace()
		if err := c.authorizeAgain(ctx, account); err != nil {
			return err
		}
	}
	if met != nil {
		c.schedule(met)
	}
	for p, at := range c.resume {
		if time.Now().After(at) {
			if err := resumeProcess(p.cmd.Process); err != nil {
				return fmt.Errorf("resume worker %d: %w", p.worker, err)
			}
			c.journal.resumed(p.worker)
			delete(c.resume, p)
			c.mu.Lock()
			c.alive[p.worker] = p
			c.mu.Unlock()
		}
	}
	for i, at := range c.start {
		if time.Now().After(at) {
			if err := c.replace(i, 1); err != nil {
				return err
			}
			delete(c.start, i)
			c.mu.Lock()
			c.alive[c.workers.workers[i].worker] = c.workers.workers[i]
			c.mu.Unlock()
		}
	}
	for _, account := range c.journal.deadAccounts() {
		at, known := c.put[account]
		switch {
		case !known:
			c.put[account] = time.Now().Add(c.between(0, time.Second))
		case time.Now().After(at):
			delete(c.put, account)
			if err := c.authorizeAgain(ctx, account); err != nil {
				return err
			}
		}
	}
	return nil
}

// schedule decides when the victim of a blow is resumed or replaced.
func (c *chaos) schedule(p *process) {
	if !p.isKilled() {
		c.resume[p] = time.Now().Add(c.cfg.lease() + c.between(200*time.Millisecond, 1500*time.Millisecond))
		return
	}
	for i, worker := range c.workers.workers {
		if worker == p {
			c.start[i] = time.Now().Add(c.between(50*time.Millisecond, 800*time.Millisecond))
		}
	}
}

// deal takes the next blow.
func (c *chaos) deal(ctx context.Context) {
	if len(c.deck) == 0 {
		c.deck = append(c.deck, blows...)
		c.random.Shuffle(len(c.deck), func(i, k int) { c.deck[i], c.deck[k] = c.deck[k], c.deck[i] })
	}
	b := c.deck[0]
	c.deck = c.deck[1:]
	choice := c.random.IntN(1 << 30)
	switch b.what {
	case "restart":
		c.restart(ctx, c.between(0, longDown))
		return
	case "withdraw":
		c.p.Revoke(c.rows.names[choice%len(c.rows.names)])
		c.journal.withdraw()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arrived != nil { // the blow before has just met somebody
		c.deck = append(c.deck, b)
		return
	}
	if len(c.alive) < 2 || b.what == "pause" && len(c.resume) >= mostPaused {
		c.deck = append(c.deck, b)
		return
	}
	if !b.now {
		c.armed = &b
		return
	}
	var running []*process
	for _, p := range c.workers.workers {
		if c.alive[p.worker] != nil {
			running = append(running, p)
		}
	}
	p := running[choice%len(running)]
	c.strike(b, p)
	c.arrived, c.armed = p, nil
}

// restart kills the server, and starts it again after that time.
func (c *chaos) restart(ctx context.Context, down time.Duration) {
	if c.cfg.Database == nil {
		return
	}
	back := c.journal.restarting()
	defer back()
	c.cfg.Database.Kill()
	sleep(ctx, down)
	if err := c.cfg.Database.Restart(ctx); err != nil && ctx.Err() == nil {
		c.journal.violated("the server did not come back: %v", err)
	}
}

// patience is how much longer than it should a stage at the end may take before somebody hangs. It is generous:
// machines are slow at times.
const patience = 30 * time.Second

// calmDown ends the chaos: everyone is there again and nothing goes wrong any more. Each account must be usable then.
func (c *chaos) calmDown(ctx context.Context) error {
	c.cfg.Progress("calming down")
	c.gate.setRate(0)
	c.mu.Lock()
	c.armed = nil
	c.mu.Unlock()
	for {
		if err := c.tend(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		all := len(c.alive) == len(c.workers.workers)
		c.mu.Unlock()
		if all {
			break
		}
		if sleep(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := c.stage(ctx, stopCalls, 3*c.cfg.lease()); err != nil {
		return err
	}
	for attempt := 0; attempt == 0 || len(c.journal.deadAccounts()) > 0; attempt++ {
		if attempt == 3 {
			return &broken{"accounts ask for a new authorization again and again, with nothing going wrong any more"}
		}
		if err := c.reauthorize(ctx); err != nil {
			return err
		}
		sleep(ctx, chaosLifetime) // what processes have cached ends too
		if err := c.rows.expire(ctx); err != nil {
			return err
		}
		if err := c.stage(ctx, askAll, c.job.callLimit()); err != nil {
			return err
		}
	}
	c.workers.tell(order{Do: closeDown})
	ctx, cancel := context.WithTimeoutCause(ctx, 3*c.cfg.lease()+patience, &broken{"the Close of a manager hangs"})
	defer cancel()
	return c.collectResults(ctx)
}

// stage has all workers do something, which takes no longer than limit.
func (c *chaos) stage(ctx context.Context, do stage, limit time.Duration) error {
	bounded, cancel := context.WithTimeoutCause(ctx, limit+patience,
		&broken{fmt.Sprintf("a worker did not do %q within %v: callers hang", do, limit+patience)})
	defer cancel()
	c.workers.tell(order{Do: do})
	for _, p := range c.workers.workers {
		for {
			m, err := p.next(bounded)
			switch {
			case bounded.Err() != nil:
				return context.Cause(bounded)
			case err != nil:
				return &deadWorker{worker: p.worker, how: err}
			}
			if m.Done == do {
				break
			}
		}
	}
	return nil
}
