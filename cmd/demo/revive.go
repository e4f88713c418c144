package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func reviveCommand() *cli.Command {
	return &cli.Command{
		Name:      "revive",
		Usage:     "clear the mark of grants that were declared dead by mistake, as by a wrong client",
		ArgsUsage: keyUsage + " | --service NAME --since TIME",
		Description: `Mend the client first. One grant is due again at once. With --service, the grants
of the service that the provider declared dead since that time are due again, and their names are
printed; the command may be broken off and repeated. A grant that was given up by the policy never to
present a refresh token again that may have been used up stays dead then; by its name it is revived
with --replay, at the risk that the provider takes the refresh token for stolen.

Example: demo revive xero alice
Example: demo revive --service xero --since 90m --dry-run
Example: demo revive --service xero --since 2026-05-04T14:05:00Z`,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "revive grants of the service of that `NAME`"},
			&cli.StringFlag{
				Name: "since",
				Usage: "with --service: how long ago they were declared dead at most, such as 90m, " +
					"or a time as in RFC 3339, by this host's clock",
			},
			&cli.FloatFlag{
				Name: "rate", Value: credentials.DefaultReviveRate,
				Usage: "with --service: how many of them fall due per second, for keepers; callers do not " +
					"wait for that",
			},
			&cli.BoolFlag{
				Name: "replay", Usage: "of one grant: revive it though its refresh token may have been used up",
			},
		}, changeFlags()),
		Action: runRevive,
	}
}

func runRevive(ctx context.Context, cmd *cli.Command) error {
	if cmd.IsSet("service") {
		return runReviveAll(ctx, cmd)
	}
	for _, name := range []string{"since", "rate"} {
		if cmd.IsSet(name) {
			return usagef(cmd, "--%s is for --service; without it, the arguments name one grant", name)
		}
	}
	replay := cmd.Bool("replay")
	return change{
		verb: "revive", past: "revived",
		refuses: func(c credentials.Status) string {
			switch {
			case c.Failure.Class != credentials.ClassDead:
				return fmt.Sprintf("the grant is not dead; the credential is %s", c.Condition)
			case mayBeUsedUp(c.Failure.Code) && !replay:
				return fmt.Sprintf("the policy of its service gave it up (%s), since the refresh token may "+
					"have been used up; add --replay to have the token presented again, or have the account "+
					"authorized", c.Failure.Code)
			}
			return ""
		},
		tells: func(c credentials.Status) string {
			return fmt.Sprintf("it was declared dead %s by %s: %s",
				in(-c.Failure.Ago), c.Failure.By, strings.TrimSpace(c.Failure.Code+" "+c.Failure.Reason))
		},
		do: func(ctx context.Context, store *mysql.Store, ch credentials.Change) error {
			return store.ReviveOne(ctx, ch, replay)
		},
	}.run(ctx, cmd)
}

// mayBeUsedUp reports whether a grant with that code was given up by a policy, and not declared
// dead by its provider.
func mayBeUsedUp(code string) bool {
	return code == credentials.CodeInterrupted || code == credentials.CodeUnknown
}

// runReviveAll is revive with --service.
func runReviveAll(ctx context.Context, cmd *cli.Command) error {
	revival, err := revivalOf(cmd)
	if err != nil {
		return err
	}
	return sweep{
		service: revival.Service, noun: "grant", verb: "revive", past: "revived",
		do: func(store *mysql.Store, each func(credentials.Key)) (int, error) {
			revival.Each = each
			return store.Revive(ctx, revival)
		},
	}.run(ctx, cmd)
}

// revivalOf reads the flags.
func revivalOf(cmd *cli.Command) (credentials.Revival, error) {
	if err := noArguments(cmd); err != nil {
		return credentials.Revival{}, err
	}
	switch {
	case !cmd.IsSet("since"):
		return credentials.Revival{}, usagef(cmd,
			"--since is missing: grants that were declared dead since when?")
	case cmd.Bool("replay") || cmd.IsSet("if-version"):
		return credentials.Revival{}, usagef(cmd,
			"--replay and --if-version are for one grant; --service names many")
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
