package storm

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// tend begins outages, and resumes, starts and authorizes whatever it is time for.
func (c *chaos) tend(ctx context.Context) error {
	c.mu.Lock()
	hit, outage := c.victim, c.outage
	c.victim, c.outage = nil, false
	c.mu.Unlock()
	if outage {
		c.beginOutage(ctx)
	}
	if hit != nil {
		c.planReturn(hit)
	}
	for v, at := range c.paused {
		if time.Now().After(at) {
			v.resume()
			delete(c.paused, v)
			c.setRunning(v.process)
		}
	}
	for i, at := range c.start {
		if time.Now().After(at) {
			if err := c.replaceWorker(i, 1); err != nil {
				return err
			}
			delete(c.start, i)
			c.setRunning(c.workers.workers[i])
		}
	}
	if c.journal.InOutage() { // Nobody can put a grant.
		return nil
	}
	return c.putGrants(ctx)
}

// beginOutage has the server away for longer than a lease, frozen or dead, while all else goes on.
func (c *chaos) beginOutage(ctx context.Context) {
	downtime := cmp.Or(c.cfg.Outage, c.between(c.cfg.lease(), 2*c.cfg.lease()))
	back := c.takeServerAway(c.journal.Outage(), c.random.IntN(2) == 0)
	c.pending.Go(func() { back(ctx, downtime) })
}

// planReturn decides when a victim is resumed or replaced.
func (c *chaos) planReturn(v *victim) {
	if v.resume != nil {
		late := c.between(200*time.Millisecond, 1500*time.Millisecond)
		c.paused[v] = time.Now().Add(c.cfg.lease() + late)
		return
	}
	for i, p := range c.workers.workers {
		if p == v.process {
			c.start[i] = time.Now().Add(c.between(50*time.Millisecond, 800*time.Millisecond))
		}
	}
}

// putGrants replaces the grants that are to be replaced, and revives the dead accounts whose time
// has come.
func (c *chaos) putGrants(ctx context.Context) error {
	c.mu.Lock()
	replaced := c.replaced
	c.replaced = nil
	c.mu.Unlock()
	for _, account := range replaced {
		c.replacements++
		if err := c.reauthorize(ctx, account); err != nil {
			return err
		}
	}
	for _, account := range c.journal.Dead() {
		at, known := c.put[account]
		switch {
		case !known:
			c.put[account] = time.Now().Add(c.between(0, time.Second))
		case time.Now().After(at):
			delete(c.put, account)
			if err := c.reauthorize(ctx, account); err != nil {
				return err
			}
		}
	}
	return nil
}

// patience is how much longer than needed a stage at the end may take before a caller is said to
// hang. The patience is generous: machines are slow at times.
const patience = 30 * time.Second

// calmDown ends the chaos: all workers and the server return, and no faults are made any more.
// After that, each account must be usable.
func (c *chaos) calmDown(ctx context.Context) error {
	c.cfg.Progress("calming down")
	c.gate.setRate(0)
	c.mu.Lock()
	c.armed, c.outage = nil, false
	c.mu.Unlock()
	c.pending.Wait() // The server returns.
	if err := c.awaitReturns(ctx); err != nil {
		return err
	}
	if err := c.command(ctx, wire.StopCalls, 3*c.cfg.lease()); err != nil {
		return err
	}
	for attempt := 0; attempt == 0 || len(c.journal.Dead()) > 0; attempt++ {
		if attempt == 3 {
			return &violationError{"accounts ask for a new authorization again and again, " +
				"with nothing going wrong any more"}
		}
		if err := c.reauthorizeDead(ctx); err != nil {
			return err
		}
		sleep(ctx, chaosLifetime) // The tokens in the workers' caches expire too.
		if err := c.rows.expire(ctx); err != nil {
			return err
		}
		if err := c.command(ctx, wire.AskAll, c.job.CallLimit()); err != nil {
			return err
		}
	}
	c.workers.send(wire.Order{Do: wire.CloseDown})
	ctx, cancel := context.WithTimeoutCause(ctx, 3*c.cfg.lease()+patience,
		&violationError{"the Close of a manager hangs"})
	defer cancel()
	results, err := c.results(ctx, 0)
	c.rounds = []audit.Round{{Results: results}}
	return err
}

// awaitReturns waits until all workers run again.
func (c *chaos) awaitReturns(ctx context.Context) error {
	for {
		if err := c.tend(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		all := len(c.running) == len(c.workers.workers)
		c.mu.Unlock()
		if all {
			return nil
		}
		if sleep(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// command has all workers do something that takes no longer than limit.
func (c *chaos) command(ctx context.Context, do wire.Command, limit time.Duration) error {
	limit += patience
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &violationError{
		fmt.Sprintf("a worker did not do %q within %v: callers hang", do, limit)})
	defer cancel()
	c.workers.send(wire.Order{Do: do})
	return c.workers.collect(ctx, func(_ int, m wire.Message) (bool, error) {
		return m.Done == do, nil
	})
}
