package storm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// doRounds does the rounds, with one fault in each if the storm has faults.
func (s *storm) doRounds(ctx context.Context) error {
	for round := 1; round <= s.cfg.Rounds; round++ {
		if err := s.doRound(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// doRound replaces the workers that died before, has the tokens expire, and has all callers ask.
func (s *storm) doRound(ctx context.Context, round int) error {
	for i, p := range s.workers.workers {
		if p.isKilled() {
			if err := s.replaceWorker(i, round); err != nil {
				return err
			}
		}
	}
	if err := s.awaitReady(ctx, round); err != nil {
		return err
	}
	if round > 1 {
		if err := s.rows.expire(ctx); err != nil {
			return err
		}
	}
	if err := s.reauthorizeDead(ctx); err != nil {
		return err
	}
	if err := s.awaitSeen(ctx); err != nil {
		return err
	}
	s.cfg.Progress(s.describeRound(round))
	s.mu.Lock()
	s.round = round
	s.mu.Unlock()
	s.signal(round)
	results, err := s.results(ctx, round)
	if dead := (*deadWorkerError)(nil); err != nil && !errors.As(err, &dead) {
		return err
	}
	if err := s.endRound(ctx, round, results); err != nil {
		return err
	}
	return err
}

func (s *storm) describeRound(round int) string {
	if s.cfg.Faulty() {
		return fmt.Sprintf("round %d of %d: %s", round, s.cfg.Rounds, s.cfg.fault())
	}
	return fmt.Sprintf("round %d of %d: %d callers",
		round, s.cfg.Rounds, s.cfg.Processes*s.cfg.Threads*s.cfg.Accounts)
}

// endRound keeps the record of a round. A round with a fault must have hit a holder.
func (s *storm) endRound(ctx context.Context, round int, results map[int]wire.Result) error {
	ended := audit.Round{Results: results}
	if s.cfg.Faulty() {
		s.mu.Lock()
		if s.hit < round {
			s.journal.Violated("round %d: no holder got as far as the fault", round)
		}
		s.mu.Unlock()
		s.pending.Wait()
	} else {
		rows, err := s.readWhatCallersGot(ctx, results)
		if err != nil {
			return err
		}
		ended.Rows, ended.Stats = rows, s.provider.Stats()
	}
	s.rounds = append(s.rounds, ended)
	return nil
}

// awaitReady waits until every worker is ready for the round.
func (s *storm) awaitReady(ctx context.Context, round int) error {
	return s.workers.collect(ctx, func(_ int, m wire.Message) (bool, error) {
		if m.Ready != round {
			return false, fmt.Errorf("sent %+v instead of being ready for round %d", m, round)
		}
		return true, nil
	})
}

// awaitSeen waits until every worker sees the rows as they are now.
func (s *storm) awaitSeen(ctx context.Context) error {
	versions, err := s.rows.versions(ctx)
	if err != nil {
		return err
	}
	limit := min(patience, s.cfg.Timeout/4)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("a worker does not see within %v what "+
		"the storm has written: its connections lead to a server that is behind, or gets no changes", limit))
	defer cancel()
	s.workers.send(wire.Order{Versions: versions})
	return s.workers.collect(ctx, func(_ int, m wire.Message) (bool, error) {
		if !m.Seen {
			return false, fmt.Errorf("sent %+v instead of having seen the rows", m)
		}
		return true, nil
	})
}

// maxLag is for how long a read that lacks a caller's token is repeated: the parent's connection may
// lead to a server that has not applied the save.
const maxLag = 5 * time.Second

// readWhatCallersGot returns the rows when they have the tokens that callers got. After maxLag they
// are returned as they are, for the audit to judge.
func (s *storm) readWhatCallersGot(ctx context.Context, results map[int]wire.Result) ([]audit.Row, error) {
	for began := time.Now(); ; sleep(ctx, 20*time.Millisecond) {
		rows, err := s.rows.read(ctx, s.provider)
		if err != nil || !lacksToken(rows, results) || time.Since(began) > maxLag || ctx.Err() != nil {
			return rows, err
		}
	}
}

// lacksToken reports whether a caller got a token that is not in its row.
func lacksToken(rows []audit.Row, results map[int]wire.Result) bool {
	for _, result := range results {
		for _, caller := range result.Callers {
			if caller.Class == "" && caller.Token != rows[caller.Account].Token {
				return true
			}
		}
	}
	return false
}

// signal begins the round.
func (s *storm) signal(round int) {
	s.workers.send(wire.Order{Round: round, Sent: time.Now().UnixNano()})
}

// results returns every worker's result of the round. If a worker has died, the results of the
// others are returned too.
func (s *storm) results(ctx context.Context, round int) (map[int]wire.Result, error) {
	results := make(map[int]wire.Result)
	err := s.workers.collect(ctx, func(worker int, m wire.Message) (bool, error) {
		if m.Result == nil || m.Result.Round != round {
			return false, fmt.Errorf("sent %+v instead of the result of round %d", m, round)
		}
		results[worker] = *m.Result
		return true, nil
	})
	return results, err
}

// replaceWorker starts a worker in place of a killed one, under a number of its own: no holder's
// name is used twice.
func (s *storm) replaceWorker(i, round int) error {
	<-s.workers.workers[i].ended
	s.started++
	job := s.job
	job.Worker, job.First = s.started, round
	p, err := s.workers.start(job)
	if err != nil {
		return fmt.Errorf("start worker %d: %w", job.Worker, err)
	}
	s.workers.workers[i] = p
	return nil
}

// seed authorizes every account. A storm over several lifetimes begins with access tokens.
func (s *storm) seed(ctx context.Context) error {
	for account := range s.rows.names {
		put, err := s.rows.authorize(ctx, s.provider, account, s.cfg.Lifetime)
		if err != nil {
			return fmt.Errorf("seed: %w", err)
		}
		s.journal.Put(put)
	}
	return nil
}

// reauthorizeDead puts a new grant for every account whose grant is dead.
func (s *storm) reauthorizeDead(ctx context.Context) error {
	for _, account := range s.journal.Dead() {
		if err := s.reauthorize(ctx, account); err != nil {
			return err
		}
	}
	return nil
}

// reauthorize puts a new grant for an account, with more attempts while the server is away.
func (s *storm) reauthorize(ctx context.Context, account int) error {
	for {
		put, err := s.rows.authorize(ctx, s.provider, account, 0)
		s.journal.Put(put)
		if err == nil {
			return nil
		}
		if sleep(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("authorize again: %w", err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
