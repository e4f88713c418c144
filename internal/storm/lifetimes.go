package storm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
)

// minLifetime leaves 0.4 s to renew a token.
const minLifetime = 2 * time.Second

// A thread pauses for minPace between two calls. So many threads that all together would make more
// than maxCalls in a second pause for longer: the storm does not measure the scheduler.
const (
	minPace  = time.Millisecond
	maxCalls = 20_000
)

// askFor returns how long a storm over several lifetimes lasts.
func (c Config) askFor() time.Duration { return time.Duration(c.Lifetimes) * c.Lifetime }

// pace returns each thread's pause between two calls.
func (c Config) pace() time.Duration {
	return max(minPace, time.Duration(c.Processes*c.Threads)*time.Second/maxCalls)
}

// checkLifetimes returns an error that says which fields about lifetimes are wrong.
func (c Config) checkLifetimes() error {
	if c.Lifetimes == 0 && c.Lifetime == 0 {
		return nil
	}
	window := c.Lifetime - credentials.DueIn(c.Lifetime)
	switch {
	case c.Lifetimes == 0:
		return errors.New("a lifetime, and no number of lifetimes")
	case c.Lifetimes < 1 || c.Lifetimes > 10_000:
		return fmt.Errorf("lifetimes: %d is not between 1 and 10000", c.Lifetimes)
	case c.Faulty():
		return errors.New("lifetimes together with kill, pause, restart or chaos; " +
			"over several lifetimes nothing goes wrong on purpose")
	case c.Rounds > 1:
		return errors.New("lifetimes together with rounds; over several lifetimes there are none")
	case c.Lifetime < minLifetime:
		return fmt.Errorf("lifetime %v; at least %v, since tokens are renewed in the last fifth "+
			"of their life, and in less than 0.4s not every process can have seen the new one",
			c.Lifetime, minLifetime)
	case c.Lifetime > 24*time.Hour:
		return fmt.Errorf("lifetime %v; at most 24h", c.Lifetime)
	case c.Lifetime%time.Second != 0:
		return fmt.Errorf(`lifetime %v; it must be whole seconds, as "expires_in" is`, c.Lifetime)
	case c.Latency > window/2:
		return fmt.Errorf("latency %v is too long for a lifetime of %v: tokens are renewed in their "+
			"last %v, of which the endpoint may take half", c.Latency, c.Lifetime, window)
	}
	return nil
}

// lifetimes does a storm over several lifetimes.
func (s *storm) lifetimes(ctx context.Context) error {
	if err := s.awaitReady(ctx, 1); err != nil {
		return err
	}
	began := time.Now()
	if err := s.seed(ctx); err != nil {
		return err
	}
	if err := s.awaitSeen(ctx); err != nil {
		return err
	}
	if took := time.Since(began); took > s.cfg.Lifetime/2 {
		return fmt.Errorf("it took %v to store the tokens of %d accounts, and they live %v only; "+
			"choose a longer lifetime or fewer accounts",
			took.Round(time.Millisecond), s.cfg.Accounts, s.cfg.Lifetime)
	}
	for i := range s.cfg.Lifetimes {
		timer := time.AfterFunc(time.Duration(i)*s.cfg.Lifetime, func() {
			s.cfg.Progress(fmt.Sprintf("lifetime %d of %d", i+1, s.cfg.Lifetimes))
		})
		defer timer.Stop()
	}
	s.signal(1)
	results, err := s.results(ctx, 1)
	for _, r := range results {
		if r.Calls == nil || len(r.Calls.Accounts) != s.cfg.Accounts {
			return errors.New("a worker's result has no calls in it")
		}
	}
	s.rounds = []audit.Round{{Results: results}}
	return err
}
