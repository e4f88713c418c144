// Package storm is the load that shows whether one exchange per expiry is really all that happens: worker processes of
// many threads that all ask for the tokens of the same accounts at the same moment, against a real server and a real
// token endpoint, and a report that counts what the endpoint saw.
//
// [Run] is the parent: it starts the endpoint, seeds accounts whose tokens have expired, starts its own program again
// as workers ([Worker]), gives the signal for each round and holds the rows, the callers' tokens and the endpoint's
// record against each other.
package storm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// Config is the size of a storm. Zero fields mean the defaults.
type Config struct {
	// DSN is the server's, in go-sql-driver's form, with a database. It must be set. The table is migrated.
	DSN string

	// Server describes the server in the report. Empty: its version.
	Server string

	// Processes, Threads (of each process), Accounts and Rounds are how many callers ask: each thread asks for every
	// account at once, in every round. Zero: 4, 2, 3 and 1; under chaos 4 threads and 8 accounts.
	Processes, Threads, Accounts, Rounds int

	// Latency is how long the token endpoint takes. Zero: 200 ms.
	Latency time.Duration

	// Kill, Pause (a holder stops itself in its exchange and is resumed after its lease has ended) and Restart make one
	// thing go wrong in each round, for one holder. Chaos makes everything go wrong, at random, for Duration; there are no
	// rounds then. At most one of them. Leases are short then, and a caller whose error is worth another try asks again.
	Kill    Kill
	Pause   bool
	Restart Restart
	Chaos   bool

	// Lifetimes, if not zero, is a storm over that many lifetimes of a token, without rounds and faults. Each process has
	// one manager for the whole time, and its threads ask for random accounts at a steady pace, beginning with fresh
	// tokens, so that nobody ever has to wait. The token endpoint ends a token when it issues the next one, as Ory Hydra
	// does. Lifetime is how long they live, in whole seconds. Zero: DefaultLifetime.
	Lifetimes int
	Lifetime  time.Duration

	// Reuse is what the token endpoint does about a used refresh token in a storm with faults; without faults it always
	// revokes. Empty: Grace.
	Reuse Reuse

	// Duration of the chaos. Zero: DefaultDuration. Seed decides what goes wrong, as far as processes allow. Zero: one is
	// drawn. FaultRate is the part of calls that the token endpoint answers badly under chaos. Zero: DefaultFaultRate.
	Duration  time.Duration
	Seed      uint64
	FaultRate float64

	// Database restarts the server. Nil: Restart is refused, and chaos does without.
	Database Database

	// Pool bounds the connections of each process. Zero: one for each account, at most DefaultPool.
	Pool int

	// Timeout bounds the whole run. Zero: 2 minutes and, under chaos, Duration, or Lifetimes times Lifetime.
	Timeout time.Duration

	// Command starts a worker: the program, which must call [Worker] when [IsWorker] says so, and its arguments. Empty:
	// this program without arguments.
	Command []string

	// Progress is told what the run is doing. Nil: nobody is.
	Progress func(doing string)
}

// The defaults of a [Config].
const (
	DefaultProcesses = 4
	DefaultThreads   = 2
	DefaultAccounts  = 3
	DefaultRounds    = 1
	ChaosThreads     = 4
	ChaosAccounts    = 8
	DefaultLatency   = 200 * time.Millisecond
	DefaultTimeout   = 2 * time.Minute
	DefaultDuration  = time.Minute
	DefaultFaultRate = 0.25
	DefaultLifetimes = 3 // for commands; a Config has none
	DefaultLifetime  = 10 * time.Second

	// DefaultPool keeps a storm of many processes below the 151 connections that a server allows by default. More do not
	// make it faster.
	DefaultPool = 4
)

// Check reports what is wrong with the sizes.
func (c Config) Check() error {
	_, err := c.withDefaults()
	return err
}

func (c Config) withDefaults() (Config, error) {
	if c.Chaos {
		c.Threads, c.Accounts = cmp.Or(c.Threads, ChaosThreads), cmp.Or(c.Accounts, ChaosAccounts)
	}
	c.Processes = cmp.Or(c.Processes, DefaultProcesses)
	c.Threads = cmp.Or(c.Threads, DefaultThreads)
	c.Accounts = cmp.Or(c.Accounts, DefaultAccounts)
	c.Rounds = cmp.Or(c.Rounds, DefaultRounds)
	c.Latency = cmp.Or(c.Latency, DefaultLatency)
	if c.Chaos {
		c.Duration = cmp.Or(c.Duration, DefaultDuration)
		c.FaultRate = cmp.Or(c.FaultRate, DefaultFaultRate)
		c.Seed = cmp.Or(c.Seed, rand.Uint64N(1<<32)+1) // one that JSON readers keep exactly
	}
	if c.Lifetimes != 0 {
		c.Lifetime = cmp.Or(c.Lifetime, DefaultLifetime)
	}
	if err := c.checkLifetimes(); err != nil {
		return Config{}, err
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout+c.Duration+c.asking())
	c.Pool = cmp.Or(c.Pool, min(c.Accounts, DefaultPool))
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	for _, field := range []struct {
		name        string
		value, most int
	}{
		{"processes", c.Processes, 256}, {"threads", c.Threads, 10_000}, {"accounts", c.Accounts, 10_000},
		{"rounds", c.Rounds, 10_000}, {"pool", c.Pool, 10_000}, {"callers of one process (threads × accounts)", c.Threads * c.Accounts, 100_000},
	} {
		if field.value < 1 || field.value > field.most {
			return Config{}, fmt.Errorf("%s: %d is not between 1 and %d", field.name, field.value, field.most)
		}
	}
	if c.Latency < 0 || c.Timeout < 0 {
		return Config{}, fmt.Errorf("latency %v and timeout %v must not be negative", c.Latency, c.Timeout)
	}
	if c.Timeout <= c.asking() {
		return Config{}, fmt.Errorf("timeout %v is not longer than %d lifetimes of %v", c.Timeout, c.Lifetimes, c.Lifetime)
	}
	c, err := c.withFaultDefaults()
	if err != nil {
		return Config{}, err
	}
	if len(c.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return Config{}, fmt.Errorf("find this program, which is to run again as the workers: %w", err)
		}
		c.Command = []string{self}
	}
	return c, nil
}

// callersPerRound returns the callers of all processes in one round.
func (c Config) callersPerRound() int { return c.Processes * c.Threads * c.Accounts }
