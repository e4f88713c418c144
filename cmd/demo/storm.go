package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/storm"
)

func stormCommand() *cli.Command {
	return &cli.Command{
		Name:  "storm",
		Usage: "have many processes need the same tokens at once, and count the calls of the token endpoint",
		Description: fmt.Sprintf(`Starts a token endpoint that rotates refresh tokens and detects their reuse, stores accounts whose tokens have expired,
starts worker processes whose threads all ask for every account at the same moment, and holds what the endpoint saw
against what was needed: one call for each account and round. It migrates the table first and removes its own rows
afterwards. The exit status is 1 if anything broke.

With --kill, --pause or --restart one holder of a lease is hit in each round: at the step that --kill or --restart names,
or, with --pause, in its exchange. With --chaos all of that happens at random, the provider misbehaves, and tokens live two
seconds; there are %d threads and %d accounts then, unless you say otherwise. With faults an exchange may take a second, or
twice the --latency if that is longer, and a lease lasts two seconds more.

With --lifetimes or --lifetime nothing goes wrong: all accounts have a fresh token, the threads ask for random accounts
about every millisecond, and tokens are renewed before they expire. Nobody may wait for an exchange then. The endpoint
ends a token when it issues the next one, as Ory Hydra does; the report says for how long it was served after that. The
endpoint may take half of the time in which tokens are renewed, the last fifth of their life.

Example: demo storm --processes 8 --threads 32 --accounts 20 --rounds 5
Example: demo storm --lifetimes 3 --lifetime 10s
Example: demo storm --kill before-save
Example: demo storm --chaos --duration 60s --seed 1`, storm.ChaosThreads, storm.ChaosAccounts),
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "processes", Value: storm.DefaultProcesses, Usage: "worker processes"},
			&cli.IntFlag{Name: "threads", Value: storm.DefaultThreads, Usage: "threads of each process, which ask for every account at once; over --lifetimes, for one after the other"},
			&cli.IntFlag{Name: "accounts", Value: storm.DefaultAccounts, Usage: "accounts, each with a token and a refresh token of its own"},
			&cli.IntFlag{Name: "rounds", Value: storm.DefaultRounds, Usage: "times that all tokens expire"},
			&cli.DurationFlag{Name: "latency", Value: storm.DefaultLatency, Usage: "how long the token endpoint takes"},
			&cli.IntFlag{Name: "pool", Usage: fmt.Sprintf("connections that each process may open; 1 will do (default: one for each account, at most %d)", storm.DefaultPool), HideDefault: true},
			&cli.DurationFlag{Name: "timeout", Usage: fmt.Sprintf("gives up after that time (default: %v, plus the --duration with --chaos, or all lifetimes with --lifetimes)", storm.DefaultTimeout), HideDefault: true},

			&cli.StringFlag{Name: "kill", Usage: "a holder kills itself (SIGKILL) at that `STEP`: after-claim, exchange (while the endpoint works) or before-save"},
			&cli.BoolFlag{Name: "pause", Usage: "a holder stops itself (SIGSTOP) in its exchange, until its lease has ended"},
			&cli.StringFlag{Name: "restart", Usage: "the private server is killed and started again when a holder is at that `STEP`: claim, exchange or save"},
			&cli.BoolFlag{Name: "chaos", Usage: "kills, pauses, restarts of the private server and faults of the provider, all at random"},
			&cli.DurationFlag{Name: "duration", Value: storm.DefaultDuration, Usage: "how long the chaos lasts"},
			&cli.Uint64Flag{Name: "seed", Usage: "makes the same chaos again, as far as processes allow (default: drawn, and reported)", HideDefault: true},
			&cli.StringFlag{Name: "provider", Value: string(storm.Grace), Usage: "what the provider does about a used refresh token in a storm with faults: grace (answer it) or revoke (end the grant)"},
		}, lifetimesFlags()...),
		Action: runStorm,
	}
}

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
	case s.private != nil: // else Database stays nil, which a nil *localmysql.Server in it would not be
		cfg.Database = s.private
	case cfg.Restart != "":
		return usagef(cmd, "--restart restarts a private server, and this is %s, which others may use: stop naming one (--dsn, $MYSQL_DSN), "+
			"or stop that of docker-compose.yml", s.label)
	}
	cfg.DSN, cfg.Server = s.dsn, s.label

	report, err := storm.Run(ctx, cfg)
	status.clear()
	if err != nil {
		return err
	}
	if err := emit(cmd, report, func() string { return stormTable(report) }); err != nil {
		return err
	}
	if !report.OK {
		return errReported
	}
	return nil
}

// stormConfig reads the command line.
func stormConfig(cmd *cli.Command) (storm.Config, error) {
	if err := noArguments(cmd); err != nil {
		return storm.Config{}, err
	}
	for _, name := range []string{"processes", "threads", "accounts", "rounds", "pool"} {
		if cmd.IsSet(name) && cmd.Int(name) < 1 {
			return storm.Config{}, usagef(cmd, "--%s is %d; at least 1 is needed", name, cmd.Int(name))
		}
	}
	for _, name := range []string{"kill", "restart", "provider"} {
		if cmd.IsSet(name) && cmd.String(name) == "" { // as from a shell variable that is not set
			return storm.Config{}, usagef(cmd, "--%s is empty; give it a value, or leave it out", name)
		}
	}
	if cmd.IsSet("seed") && cmd.Uint64("seed") == 0 { // which to the storm means to draw one
		return storm.Config{}, usagef(cmd, "--seed is 0; give 1 or more, or leave it out to have one drawn")
	}
	for _, name := range []string{"latency", "timeout", "duration"} {
		if d := cmd.Duration(name); d < 0 || d == 0 && (cmd.IsSet(name) || name != "timeout") {
			return storm.Config{}, usagef(cmd, "--%s is %v; it must be more than 0", name, d)
		}
	}
	cfg := storm.Config{
		Processes: cmd.Int("processes"), Threads: cmd.Int("threads"), Accounts: cmd.Int("accounts"), Rounds: cmd.Int("rounds"),
		Latency: cmd.Duration("latency"), Pool: cmd.Int("pool"), Timeout: cmd.Duration("timeout"),
		Kill: storm.Kill(cmd.String("kill")), Pause: cmd.Bool("pause"), Restart: storm.Restart(cmd.String("restart")), Chaos: cmd.Bool("chaos"),
	}
	for _, name := range []string{"duration", "seed"} {
		if cmd.IsSet(name) && !cfg.Chaos {
			return storm.Config{}, usagef(cmd, "--%s is for --chaos", name)
		}
	}
	switch {
	case cmd.IsSet("rounds") && cfg.Chaos:
		return storm.Config{}, usagef(cmd, "--rounds is not for --chaos, which lasts for a --duration")
	case cmd.IsSet("provider") && !cfg.Faulty():
		return storm.Config{}, usagef(cmd, "--provider is for --kill, --pause, --restart and --chaos; without them nothing is presented twice")
	}
	cfg, err := withLifetimes(cmd, cfg)
	if err != nil {
		return storm.Config{}, err
	}
	if cfg.Faulty() {
		cfg.Reuse = storm.Reuse(cmd.String("provider"))
	}
	if cfg.Chaos { // which has defaults of its own
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
