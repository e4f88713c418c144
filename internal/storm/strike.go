package storm

import (
	"cmp"
	"context"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// minDowntime is how long the server is away at least: longer than one call of the store may take,
// so that the retries within the call are not enough.
const minDowntime = wire.StoreTimeout * 5 / 4

// answer makes the fault at the step that it waits for: the first holder of each round is hit.
func (s *storm) answer(p *process, q wire.Question) {
	s.mu.Lock()
	first := s.hit < s.round
	s.hit = s.round
	s.mu.Unlock()
	reply := wire.Order{Reply: q.Number}
	switch {
	case !first:
		p.send(reply)
	case s.cfg.Kill != "":
		s.kill(p)
	case s.cfg.Pause:
		resume := s.pause(p)
		p.send(reply)
		s.pending.Go(func() {
			s.awaitTakeover(q.Account)
			resume()
		})
	default:
		back := s.takeServerAway(s.journal.Restart(), false)
		p.send(reply)
		ctx, downtime := s.workers.ctx, cmp.Or(s.cfg.Outage, minDowntime)
		s.pending.Go(func() { back(ctx, downtime) })
	}
}

// awaitTakeover waits until the lease of a paused holder has ended and another process has claimed,
// should there be one, and has had the time to save that any holder gets. The paused holder then
// comes back with a success of its own into the other's exchange, or after it.
func (s *storm) awaitTakeover(account int) {
	ctx, paused := s.workers.ctx, history.Now()
	sleep(ctx, s.cfg.lease()) // The lease began before the pause.
	for patience := time.Now().Add(2 * time.Second); time.Now().Before(patience); {
		if s.journal.ClaimedSince(account, paused) {
			break
		}
		sleep(ctx, 5*time.Millisecond)
	}
	sleep(ctx, wire.StoreTimeout+time.Second+s.cfg.Latency)
}

func (s *storm) kill(p *process) {
	s.journal.Kill(p.worker)
	if err := p.kill(); err != nil {
		s.journal.Violated("worker %d could not be killed: %v", p.worker, err)
	}
}

// pause stops a worker until resume is called.
func (s *storm) pause(p *process) (resume func()) {
	resumed := s.journal.Pause(p.worker)
	if err := pauseProcess(p.cmd.Process); err != nil {
		s.journal.Violated("worker %d could not be paused: %v", p.worker, err)
	}
	return func() {
		if err := resumeProcess(p.cmd.Process); err != nil {
			s.journal.Violated("worker %d could not be resumed: %v", p.worker, err)
		}
		resumed()
	}
}

// takeServerAway kills or freezes the server. The function that it returns brings the server back
// after the downtime, and then calls ended.
func (s *storm) takeServerAway(
	ended func(), frozen bool,
) (back func(ctx context.Context, downtime time.Duration)) {
	restore := s.cfg.Database.Restart
	if !frozen {
		s.cfg.Database.Kill()
	} else {
		restore = func(context.Context) error { return s.cfg.Database.Thaw() }
		if err := s.cfg.Database.Freeze(); err != nil {
			s.journal.Violated("the server could not be taken away: %v", err)
		}
	}
	return func(ctx context.Context, downtime time.Duration) {
		defer ended()
		sleep(ctx, downtime)
		if err := restore(ctx); err != nil && ctx.Err() == nil {
			s.journal.Violated("the server did not come back: %v", err)
		}
	}
}
