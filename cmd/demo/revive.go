package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func reviveCommand() *cli.Command {
	return &cli.Command{
		Name:  "revive",
		Usage: "clear the mark of grants that were declared dead by mistake, as by a wrong client",
		Description: `Mend the client first. The grants of the service that the provider declared
dead since that time are due again, and their names are printed. A grant that was given up by the
policy never to present a refresh token again that may have been used up stays dead. The command may
be broken off and repeated.

Example: demo revive --service xero --since 90m --dry-run
Example: demo revive --service xero --since 2026-05-04T14:05:00Z`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "service", Required: true, Usage: "the `NAME` of the service"},
			&cli.StringFlag{
				Name: "since", Required: true,
				Usage: "how long ago they were declared dead at most, such as 90m, " +
					"or a time as in RFC 3339, by this host's clock",
			},
			&cli.FloatFlag{
				Name: "rate", Value: credentials.DefaultReviveRate,
				Usage: "how many of them fall due per second, for keepers; callers do not wait for that",
			},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the names, and change nothing"},
		},
		Action: runRevive,
	}
}

func runRevive(ctx context.Context, cmd *cli.Command) error {
	revival, err := revivalOf(cmd)
	if err != nil {
		return err
	}
	var names strings.Builder
	accounts := []string{}
	revival.Each = func(key credentials.Key) {
		accounts = append(accounts, key.Account)
		_, _ = fmt.Fprintln(&names, key)
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		n, err := store.Revive(ctx, revival)
		if err != nil && n > 0 {
			return fmt.Errorf("%s revived, then: %w; the same command goes on", count(n, "grant"), err)
		}
		if err != nil {
			return err
		}
		revived := map[string]any{
			"service": revival.Service, "dry_run": revival.DryRun, "revived": n, "accounts": accounts,
		}
		return emit(cmd, revived, func() string {
			done := "revived"
			if revival.DryRun {
				done = "to revive"
			}
			return fmt.Sprintf("%s%s of %s %s\n", names.String(), count(n, "grant"), revival.Service, done)
		})
	})
}

// revivalOf reads the flags.
func revivalOf(cmd *cli.Command) (credentials.Revival, error) {
	if err := noArguments(cmd); err != nil {
		return credentials.Revival{}, err
	}
	since, err := parseSince(cmd.String("since"), time.Now())
	if err != nil {
		return credentials.Revival{}, &usageError{command: cmd.FullName(), err: err}
	}
	rate := cmd.Float("rate")
	if !(rate > 0) { // 0 means the default to the library; NaN is not either
		return credentials.Revival{}, usagef(cmd, "--rate is %v; it must be more than 0", rate)
	}
	revival, err := credentials.Revival{
		Service: cmd.String("service"), Since: since, Rate: rate, DryRun: cmd.Bool("dry-run"),
	}.Normalize()
	if err != nil {
		return credentials.Revival{}, &usageError{command: cmd.FullName(), err: err}
	}
	return revival, nil
}

// parseSince reads a length of time before now, or a time.
func parseSince(text string, now time.Time) (time.Duration, error) {
	since, err := time.ParseDuration(text)
	if err != nil {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return 0, fmt.Errorf("--since is %q; write it as in 90m or 2026-05-04T14:05:00Z", text)
		}
		since = now.Sub(at)
	}
	if since <= 0 {
		return 0, errors.New("--since is not in the past")
	}
	return since, nil
}
