package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// chaos makes faults of the workers and the server. All its choices come from the seed, in one
// sequence; the workers that they hit depend on the order of events.
type chaos struct {
	*storm

	random *rand.Rand
	deck   []fault
	paused map[*victim]time.Time // The paused workers, and when they go on.
	start  map[int]time.Time     // The places of killed workers, and when they are filled.
	put    map[int]time.Time     // The dead accounts, and when they are authorized again.

	// The fields below are guarded by mu.
	mu       sync.Mutex
	running  map[int]*process // The workers that are neither killed nor paused, by number.
	armed    *fault           // The fault that waits for a worker's action.
	victim   *victim          // The worker that the last fault hit, until its return is planned.
	outage   bool             // An outage is to begin now.
	replaced []int            // Accounts that get a new grant now, beside a live one.
}

// victim is a worker that was killed or paused.
type victim struct {
	*process
	resume func() // Nil for a killed worker.
}

// fault is one thing that goes wrong, after an action of its victim or at once.
type fault struct {
	kind  faultKind
	after wire.Action
	now   bool
}

type faultKind int

const (
	kill     faultKind = iota
	pause              // The victim stops until its lease has ended.
	replace            // Another grant is put in place of a live one.
	restart            // The server is killed, and started again at once.
	outage             // The server is away for longer than a lease.
	withdraw           // An owner ends a grant at the provider.
)

// presenting is the action of a holder whose request has arrived at the token endpoint. Workers
// record the answer only.
const presenting wire.Action = "present"

// faults are dealt like cards, so that a short run has each of them too.
var faults = []fault{
	{kind: kill, after: wire.Claim}, {kind: kill, after: presenting},
	{kind: kill, after: wire.Answer}, {kind: kill, now: true},
	{kind: pause, after: wire.Claim}, {kind: pause, after: presenting},
	{kind: pause, after: wire.Answer}, {kind: pause, now: true},
	{kind: replace, after: presenting}, {kind: restart}, {kind: outage, after: presenting},
	{kind: withdraw},
}

// maxPaused leaves some workers to go on.
const maxPaused = 2

func newChaos(s *storm) *chaos {
	c := &chaos{
		storm: s, random: rand.New(rand.NewPCG(s.cfg.Seed, 0)), running: make(map[int]*process),
		paused: make(map[*victim]time.Time), start: make(map[int]time.Time),
		put: make(map[int]time.Time),
	}
	s.watch = c.saw
	s.gate.setRate(s.cfg.FaultRate)
	return c
}

// between draws a duration.
func (c *chaos) between(shortest, longest time.Duration) time.Duration {
	return shortest + time.Duration(c.random.Int64N(int64(longest-shortest)+1))
}

// setRunning notes that the worker runs.
func (c *chaos) setRunning(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[p.worker] = p
}

// run makes faults for the duration of the chaos, and ends the chaos.
func (c *chaos) run(ctx context.Context) error {
	for _, p := range c.workers.workers {
		c.setRunning(p)
	}
	pace := min(max(c.cfg.Duration/60, 200*time.Millisecond), time.Second)
	end := time.Now().Add(c.cfg.Duration)
	for next := time.Now(); time.Now().Before(end); {
		if err := c.tend(ctx); err != nil {
			return err
		}
		if time.Now().After(next) {
			c.cfg.Progress(fmt.Sprintf("chaos, %v to go", time.Until(end).Round(time.Second)))
			c.deal(ctx)
			next = time.Now().Add(c.between(pace/2, pace*3/2))
		}
		if sleep(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return c.calmDown(ctx)
}

// deal takes the next fault from the deck, and makes it or arms it.
func (c *chaos) deal(ctx context.Context) {
	if len(c.deck) == 0 {
		c.deck = append(c.deck, faults...)
		c.random.Shuffle(len(c.deck), func(i, k int) { c.deck[i], c.deck[k] = c.deck[k], c.deck[i] })
	}
	f := c.deck[0]
	c.deck = c.deck[1:]
	choice := c.random.IntN(1 << 30)
	switch f.kind {
	case restart, outage:
		if c.cfg.Database == nil {
			return
		}
		if c.journal.InOutage() { // Outages come one after the other.
			c.deck = append(c.deck, f)
			return
		}
		if f.kind == restart {
			c.takeServerAway(c.journal.Restart(), false)(ctx, c.between(0, minDowntime))
			return
		}
	case withdraw:
		c.provider.Revoke(c.rows.names[choice%len(c.rows.names)])
		c.withdrawals++
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tooMany := len(c.running) < 2 || f.kind == pause && len(c.paused) >= maxPaused
	if c.victim != nil || tooMany {
		c.deck = append(c.deck, f)
		return
	}
	c.armed = &f
	if !f.now {
		return
	}
	var running []*process
	for _, p := range c.workers.workers {
		if c.running[p.worker] != nil {
			running = append(running, p)
		}
	}
	c.strike(running[choice%len(running)])
}

// saw makes the armed fault if the fault waits for this action. saw itself waits for nothing, since
// the goroutines that read from the workers call it.
func (c *chaos) saw(worker, account int, did wire.Action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.running[worker]
	if p == nil || c.armed == nil || c.armed.after != did {
		return
	}
	switch c.armed.kind {
	case replace:
		c.replaced = append(c.replaced, account)
		c.armed = nil
	case outage:
		c.outage, c.armed = true, nil
	default:
		c.strike(p)
	}
}

// strike makes the armed fault, to kill or pause, of this worker. The caller holds mu.
func (c *chaos) strike(p *process) {
	delete(c.running, p.worker)
	c.victim = &victim{process: p}
	if c.armed.kind == kill {
		c.kill(p)
	} else {
		c.victim.resume = c.pause(p)
	}
	c.armed = nil
}
