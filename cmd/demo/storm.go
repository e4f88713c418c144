package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/keyset"
	"github.com/latchkey-go/latchkey/internal/storm"
)

func stormCommand() *cli.Command {
	return &cli.Command{
		Name:  "storm",
		Usage: "have many processes need the same tokens at once, and count the calls of the token endpoint",
		Description: fmt.Sprintf(`Starts a token endpoint that rotates refresh tokens and detects
their reuse, stores accounts whose tokens have expired, starts worker processes whose threads all
ask for every account at the same moment, and compares the calls of the endpoint with those that
were needed: one for each account and round. It migrates the table first and removes its own rows
afterwards. The exit status is 1 if anything broke.

With --kill, --pause or --restart one holder of a lease is hit in each round: at the step that
--kill or --restart names, or, with --pause, in its exchange. With --chaos all of that happens at
random, the private server is away for longer than a lease now and then, the provider misbehaves,
and tokens live two seconds; there are %d threads and %d accounts then, unless you say otherwise.
With faults an exchange may take a second, or twice the --latency if that is longer, and a lease
lasts two seconds more.

With --lifetimes or --lifetime nothing goes wrong: all accounts have a fresh token, the threads ask
for random accounts about every millisecond, and tokens are renewed before they expire. Nobody may
wait for an exchange then. The endpoint ends a token when it issues the next one, as Ory Hydra
does; the report says for how long it was served after that. The endpoint may take half of the time
in which tokens are renewed, the last fifth of their life.

Example: demo storm --processes 8 --threads 32 --accounts 20 --rounds 5
Example: demo storm --lifetimes 3 --lifetime 10s
Example: demo storm --kill before-save
Example: demo storm --restart save --outage 10s --provider revoke
Example: demo storm --chaos --duration 60s --seed 1 --seal`, storm.ChaosThreads, storm.ChaosAccounts),
		Flags:  slices.Concat(stormFlags(), faultFlags(), lifetimesFlags()),
		Action: runStorm,
	}
}

// stormFlags are the flags of every storm.
func stormFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "processes", Value: storm.DefaultProcesses, Usage: "worker processes"},
		&cli.IntFlag{
			Name: "threads", Value: storm.DefaultThreads, Usage: "threads of each process, " +
				"which ask for every account at once; over --lifetimes, for one after the other",
		},
		&cli.IntFlag{
			Name: "accounts", Value: storm.DefaultAccounts,
			Usage: "accounts, each with a token and a refresh token of its own",
		},
		&cli.IntFlag{Name: "rounds", Value: storm.DefaultRounds, Usage: "times that all tokens expire"},
		&cli.DurationFlag{
			Name: "latency", Value: storm.DefaultLatency, Usage: "how long the token endpoint takes",
		},
		&cli.IntFlag{Name: "pool", HideDefault: true, Usage: fmt.Sprintf(
			"connections that each process may open; 1 will do (default: one for each account, at most %d)",
			storm.DefaultPool)},
		&cli.BoolFlag{Name: "seal", Usage: "seals the tokens in the table, under a key that is made " +
			"for the storm and gone with it"},
		&cli.DurationFlag{Name: "timeout", HideDefault: true, Usage: fmt.Sprintf(
			"gives up after that time (default: %v, plus the --duration with --chaos, "+
				"or all lifetimes with --lifetimes)",
			storm.DefaultTimeout)},
	}
}

// faultFlags are the flags of a storm in which things go wrong.
func faultFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kill", Usage: "a holder is killed (SIGKILL) at that `STEP`: " +
			"after-claim, exchange (while the endpoint works) or before-save"},
		&cli.BoolFlag{
			Name:  "pause",
			Usage: "a holder is stopped (SIGSTOP) in its exchange, until its lease has ended",
		},
		&cli.StringFlag{Name: "restart", Usage: "the private server is killed and started again " +
			"when a holder is at that `STEP`: claim, exchange or save"},
		&cli.BoolFlag{Name: "chaos", Usage: "kills, pauses, restarts and outages of the private server " +
			"and faults of the provider, all at random"},
		&cli.DurationFlag{Name: "outage", HideDefault: true, Usage: "how long the private server is away " +
			"in each outage of --chaos, killed or frozen (default: drawn, from one lease to two), " +
			"and at --restart (default: a moment)"},
		&cli.DurationFlag{
			Name: "duration", Value: storm.DefaultDuration, Usage: "how long the chaos lasts",
		},
		&cli.Uint64Flag{Name: "seed", HideDefault: true,
			Usage: "makes the same chaos again, as far as processes allow (default: drawn, and reported)"},
		&cli.StringFlag{Name: "provider", Value: string(storm.Grace),
			Usage: "what the provider does about a used refresh token in a storm with faults: " +
				"grace (answer it) or revoke (end the grant)"},
	}
}

// othersServer says why a fault is refused on a server that is not private, and the remedy.
const othersServer = "this is %s, which others may use: stop naming one (--dsn, $MYSQL_DSN), " +
	"or stop that of docker-compose.yml"

func runStorm(ctx context.Context, cmd *cli.Command) (err error) {
	status := newStatus(cmd.Root().ErrWriter)
	cfg, err := stormConfig(cmd)
	if err != nil {
		return err
	}
	cfg.Progress = status.show
	s, err := findServer(ctx, cmd, orPrivate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	switch {
	case s.private != nil: // else Database stays nil, and does not hold a nil *localmysql.Server
		cfg.Database = s.private
	case cfg.Outage > 0:
		return usagef(cmd, "--outage takes a private server away, and "+othersServer, s.label)
	case cfg.Restart != "":
		return usagef(cmd, "--restart restarts a private server, and "+othersServer, s.label)
	}
	cfg.DSN, cfg.Server = s.dsn, s.label

	r, err := storm.Run(ctx, cfg)
	status.clear()
	if err != nil {
		return err
	}
	if err := emit(cmd, r, r.Text); err != nil {
		return err
	}
	if !r.OK {
		return errReported
	}
	return nil
}

// stormConfig reads the command line.
func stormConfig(cmd *cli.Command) (storm.Config, error) {
	if err := noArguments(cmd); err != nil {
		return storm.Config{}, err
	}
	if err := checkStormValues(cmd); err != nil {
		return storm.Config{}, err
	}
	cfg := storm.Config{
		Processes: cmd.Int("processes"), Threads: cmd.Int("threads"),
		Accounts: cmd.Int("accounts"), Rounds: cmd.Int("rounds"),
		Latency: cmd.Duration("latency"), Pool: cmd.Int("pool"), Timeout: cmd.Duration("timeout"),
		Kill: storm.Kill(cmd.String("kill")), Pause: cmd.Bool("pause"),
		Restart: storm.Restart(cmd.String("restart")), Chaos: cmd.Bool("chaos"),
		Outage: cmd.Duration("outage"),
	}
	if err := checkStormFlags(cmd, cfg); err != nil {
		return storm.Config{}, err
	}
	cfg, err := withLifetimes(cmd, cfg)
	if err != nil {
		return storm.Config{}, err
	}
	if cmd.Bool("seal") {
		if cfg.Keyset, err = keyset.New(); err != nil {
			return storm.Config{}, err
		}
	}
	if cfg.Faulty() {
		cfg.Reuse = storm.Reuse(cmd.String("provider"))
	}
	if cfg.Chaos { // has defaults of its own
		if !cmd.IsSet("threads") {
			cfg.Threads = 0
		}
		if !cmd.IsSet("accounts") {
			cfg.Accounts = 0
		}
		cfg.Duration, cfg.Seed = cmd.Duration("duration"), cmd.Uint64("seed")
	}
	if err := cfg.Check(); err != nil {
		return storm.Config{}, &usageError{command: cmd.FullName(), err: err}
	}
	return cfg, nil
}

// checkStormValues refuses values that no storm has.
func checkStormValues(cmd *cli.Command) error {
	for _, name := range []string{"processes", "threads", "accounts", "rounds", "pool"} {
		if cmd.IsSet(name) && cmd.Int(name) < 1 {
			return usagef(cmd, "--%s is %d; at least 1 is needed", name, cmd.Int(name))
		}
	}
	for _, name := range []string{"kill", "restart", "provider"} {
		if cmd.IsSet(name) && cmd.String(name) == "" { // as from a shell variable that is not set
			return usagef(cmd, "--%s is empty; give it a value, or leave it out", name)
		}
	}
	if cmd.IsSet("seed") && cmd.Uint64("seed") == 0 { // the storm would draw a seed
		return usagef(cmd, "--seed is 0; give 1 or more, or leave it out to have one drawn")
	}
	for _, name := range []string{"latency", "timeout", "duration", "outage"} {
		optional := name == "timeout" || name == "outage"
		if d := cmd.Duration(name); d < 0 || d == 0 && (cmd.IsSet(name) || !optional) {
			return usagef(cmd, "--%s is %v; it must be more than 0", name, d)
		}
	}
	return nil
}

// checkStormFlags refuses flags that do not go together.
func checkStormFlags(cmd *cli.Command, cfg storm.Config) error {
	for _, name := range []string{"duration", "seed"} {
		if cmd.IsSet(name) && !cfg.Chaos {
			return usagef(cmd, "--%s is for --chaos", name)
		}
	}
	switch {
	case cmd.IsSet("keyset"):
		return usagef(cmd, "--keyset is not for storm, which makes a key of its own with --seal")
	case cmd.IsSet("rounds") && cfg.Chaos:
		return usagef(cmd, "--rounds is not for --chaos, which lasts for a --duration")
	case cmd.IsSet("outage") && !cfg.Chaos && cfg.Restart == "":
		return usagef(cmd, "--outage is for --chaos and --restart")
	case cmd.IsSet("provider") && !cfg.Faulty():
		return usagef(cmd, "--provider is for --kill, --pause, --restart and --chaos; "+
			"without them nothing is presented twice")
	}
	return nil
}

// lifetimesFlags are the flags of a storm over several lifetimes.
func lifetimesFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{
			Name: "lifetimes", Value: storm.DefaultLifetimes, HideDefault: true,
			Usage: fmt.Sprintf("a storm over `N` lifetimes of a token, without rounds and faults "+
				"(default: %d, if there is a --lifetime)", storm.DefaultLifetimes),
		},
		&cli.DurationFlag{
			Name: "lifetime", Value: storm.DefaultLifetime, HideDefault: true,
			Usage: fmt.Sprintf("how long tokens live in such a storm, in whole seconds, 2s or more "+
				"(default: %v, if there are --lifetimes)", storm.DefaultLifetime),
		},
	}
}

// withLifetimes adds the lifetimes of the command line to cfg. Either of the two flags asks for
// such a storm.
func withLifetimes(cmd *cli.Command, cfg storm.Config) (storm.Config, error) {
	if !cmd.IsSet("lifetimes") && !cmd.IsSet("lifetime") {
		return cfg, nil
	}
	for _, name := range []string{"rounds", "kill", "pause", "restart", "chaos"} {
		if cmd.IsSet(name) {
			return cfg, usagef(cmd, "--%s is not for --lifetimes and --lifetime, "+
				"with which tokens expire by themselves and nothing goes wrong on purpose", name)
		}
	}
	if n := cmd.Int("lifetimes"); n < 1 {
		return cfg, usagef(cmd, "--lifetimes is %d; at least 1 is needed", n)
	}
	if d := cmd.Duration("lifetime"); d <= 0 {
		return cfg, usagef(cmd, "--lifetime is %v; it must be more than 0", d)
	}
	cfg.Lifetimes, cfg.Lifetime = cmd.Int("lifetimes"), cmd.Duration("lifetime")
	return cfg, nil
}
