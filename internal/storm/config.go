package storm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/latchkey-go/latchkey/internal/keyset"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Config is the size of a storm. Zero fields mean the defaults.
type Config struct {
	// DSN is the server's, in go-sql-driver's form, with a database. An empty DSN is refused. The
	// storm migrates the table.
	DSN string

	// Server describes the server in the report. Empty: its version.
	Server string

	// Processes, Threads (of each process), Accounts and Rounds give the number of callers: each
	// thread asks for every account at once, in every round. Zero: 4, 2, 3 and 1; under chaos 4
	// threads and 8 accounts.
	Processes, Threads, Accounts, Rounds int

	// Latency is how long the token endpoint takes. Zero: 200 ms.
	Latency time.Duration

	// Kill, Pause and Restart make one fault in each round, for one holder. Pause stops a holder in
	// its exchange until its lease has ended. Chaos makes all faults at random, for Duration and
	// without rounds. At most one of the four may be set. Leases are short then, and a caller asks
	// again after an error that is worth another try.
	Kill    Kill
	Pause   bool
	Restart Restart
	Chaos   bool

	// Lifetimes, if not zero, is a storm over that many lifetimes of a token, without rounds and
	// faults. Each process has one manager for the whole time, and its threads ask for random
	// accounts at a steady pace. The storm begins with fresh tokens, so that nobody ever has to
	// wait for an exchange. The token endpoint ends a token when it issues the next one, as Ory
	// Hydra does. Lifetime is how long tokens live, in whole seconds. Zero: DefaultLifetime.
	Lifetimes int
	Lifetime  time.Duration

	// Reuse is the token endpoint's answer to a used refresh token in a storm with faults; without
	// faults the endpoint always revokes. Empty: Grace.
	Reuse Reuse

	// Duration is that of the chaos. Zero: DefaultDuration. Seed decides the faults, as far as
	// processes allow. Zero: a seed is drawn. FaultRate is the part of calls that the token
	// endpoint answers badly under chaos. Zero: DefaultFaultRate.
	Duration  time.Duration
	Seed      uint64
	FaultRate float64

	// Keyset, if not nil, has the processes seal the tokens in the table under its keys, and take
	// no plain ones.
	Keyset *keyset.Keyset

	// Outage is how long the server is away in an outage, and at a Restart. Zero: at a Restart a
	// moment longer than one call of the store may take; under chaos from one lease to two.
	Outage time.Duration

	// Database restarts the server, or stops it for a while. Nil: Restart and Outage are refused,
	// and chaos does without.
	Database Database

	// Pool bounds the connections of each process. Zero: one for each account, at most DefaultPool.
	Pool int

	// Timeout bounds the whole run. Zero: 2 minutes and, under chaos, Duration, or Lifetimes times
	// Lifetime.
	Timeout time.Duration

	// Command starts a worker: the program, which must call worker.Run when worker.Started says so,
	// and its arguments. Empty: this program without arguments.
	Command []string

	// Progress is told the stage of the run. Nil: nobody is told.
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
	DefaultLifetimes = 3 // For commands: a zero Config.Lifetimes stays zero.
	DefaultLifetime  = 10 * time.Second

	// DefaultPool keeps a storm of many processes below the 151 connections that a server allows by
	// default. More connections make no storm faster.
	DefaultPool = 4
)

// Check returns an error that says which fields are wrong.
func (c Config) Check() error {
	_, err := c.withDefaults()
	return err
}

func (c Config) withDefaults() (Config, error) {
	if c.Chaos {
		c.Threads, c.Accounts = cmp.Or(c.Threads, ChaosThreads), cmp.Or(c.Accounts, ChaosAccounts)
		c.Duration = cmp.Or(c.Duration, DefaultDuration)
		c.FaultRate = cmp.Or(c.FaultRate, DefaultFaultRate)
		c.Seed = cmp.Or(c.Seed, rand.Uint64N(1<<32)+1) // JSON readers keep such a number exactly.
	}
	c.Processes = cmp.Or(c.Processes, DefaultProcesses)
	c.Threads = cmp.Or(c.Threads, DefaultThreads)
	c.Accounts = cmp.Or(c.Accounts, DefaultAccounts)
	c.Rounds = cmp.Or(c.Rounds, DefaultRounds)
	c.Latency = cmp.Or(c.Latency, DefaultLatency)
	c.Reuse = cmp.Or(c.Reuse, Grace)
	if c.Lifetimes != 0 {
		c.Lifetime = cmp.Or(c.Lifetime, DefaultLifetime)
	}
	if err := c.checkLifetimes(); err != nil {
		return Config{}, err
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout+c.Duration+2*c.Outage+c.askFor())
	c.Pool = cmp.Or(c.Pool, min(c.Accounts, DefaultPool))
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if err := c.checkSizes(); err != nil {
		return Config{}, err
	}
	if err := c.checkFaults(); err != nil {
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

func (c Config) checkSizes() error {
	for _, field := range []struct {
		name       string
		value, max int
	}{
		{"processes", c.Processes, 256},
		{"threads", c.Threads, 10_000},
		{"accounts", c.Accounts, 10_000},
		{"rounds", c.Rounds, 10_000},
		{"pool", c.Pool, 10_000},
		{"callers of one process (threads × accounts)", c.Threads * c.Accounts, 100_000},
	} {
		if field.value < 1 || field.value > field.max {
			return fmt.Errorf("%s: %d is not between 1 and %d", field.name, field.value, field.max)
		}
	}
	if c.Latency < 0 || c.Timeout < 0 {
		return fmt.Errorf("latency %v and timeout %v must not be negative", c.Latency, c.Timeout)
	}
	if c.Timeout <= c.askFor() {
		return fmt.Errorf("timeout %v is not longer than %d lifetimes of %v",
			c.Timeout, c.Lifetimes, c.Lifetime)
	}
	return nil
}

// clientID is the workers' name at the token endpoint.
const clientID = "storm"

// providerOptions returns the token endpoint's options.
func (c Config) providerOptions(secret string) provider.Options {
	options := provider.Options{
		Latency: c.Latency, ClientID: clientID, ClientSecret: secret, Seed: c.Seed,
	}
	if c.Faulty() && c.Reuse == Grace {
		options.Grace = graceWindow
	}
	if c.Chaos {
		options.Lifetime = chaosLifetime
	}
	if c.Lifetimes > 0 {
		options.Lifetime, options.EndOldAccessToken = c.Lifetime, true
	}
	return options
}

// job returns the job of a worker, but for its number and the server's data.
func (c Config) job() wire.Job {
	job := wire.Job{
		DSN: c.DSN, Pool: c.Pool, Threads: c.Threads, First: 1, Rounds: c.Rounds, Latency: c.Latency,
		ClientID: clientID, AskFor: c.askFor(), Pace: c.pace(),
	}
	if c.Faulty() {
		job.Faulty, job.Step, job.Chaos, job.Seed = true, steps[c.fault()], c.Chaos, c.Seed
		job.ExchangeTimeout, job.Lease, job.Outage = c.exchangeTimeout(), c.lease(), c.Outage
	}
	return job
}
