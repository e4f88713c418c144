package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// changeFlags are those of the subcommands that change one credential by hand.
func changeFlags() []cli.Flag {
	return []cli.Flag{
		byFlag(),
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"},
		&cli.Uint64Flag{
			Name: "if-version", HideDefault: true,
			Usage: "change the credential only if `VERSION` is its version, as get --json shows it",
		},
	}
}

func byFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "by", Usage: "`WHO` makes the change, for the log and the mark (default: the user, @ and the host)",
	}
}

// byOf returns who makes the change.
func byOf(cmd *cli.Command) string {
	if by := cmd.String("by"); by != "" {
		return by
	}
	name, host := "uid "+fmt.Sprint(os.Getuid()), "?"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// change is what a subcommand does to one credential.
type change struct {
	verb string // "disable"
	past string // "disabled": the member of the JSON object, too

	// moot says why there is nothing to do, or refuses why nothing may be done; "" for neither.
	moot, refuses func(c credentials.Status) string

	// tells says for people what the change means for the credential as it was.
	tells func(c credentials.Status) string

	do func(ctx context.Context, store *mysql.Store, ch credentials.Change) error

	// blind changes whatever stands there. Otherwise a credential that moves on after it was looked
	// at is left as it is.
	blind bool
}

// run makes the change on the credential that the arguments name.
func (c change) run(ctx context.Context, cmd *cli.Command) error {
	key, err := keyOf(cmd)
	if err != nil {
		return err
	}
	ch, err := credentials.Change{Key: key, By: byOf(cmd)}.Normalize()
	if err != nil {
		return &usageError{command: cmd.FullName(), err: fmt.Errorf("%w; set --by", err)}
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		seen, err := store.Status(ctx, key)
		if err != nil {
			return withRemedy(err, key)
		}
		ch.Version = cmd.Uint64("if-version")
		if err := ch.Moved(seen.Row, seen.Version); err != nil {
			return c.refused(key, err)
		}
		if !c.blind {
			ch.Row, ch.Version = seen.Row, seen.Version
		}
		return c.decide(ctx, cmd, store, ch, seen)
	})
}

// decide makes the change of the credential that was seen, or says why not.
func (c change) decide(
	ctx context.Context, cmd *cli.Command, store *mysql.Store, ch credentials.Change, seen credentials.Status,
) error {
	dryRun := cmd.Bool("dry-run")
	told := map[string]any{
		"service": ch.Key.Service, "account": ch.Key.Account, "dry_run": dryRun, "by": ch.By,
		"state": string(seen.Condition), "version": seen.Version, c.past: false,
	}
	if c.moot != nil {
		if why := c.moot(seen); why != "" {
			return emit(cmd, told, func() string { return fmt.Sprintf("%s %s\n", ch.Key, why) })
		}
	}
	if c.refuses != nil {
		if why := c.refuses(seen); why != "" {
			return c.refused(ch.Key, errors.New(why))
		}
	}
	done := "would be " + c.past
	if !dryRun {
		done = c.past
		if err := c.do(ctx, store, ch); err != nil {
			return c.refused(ch.Key, withRemedy(err, ch.Key))
		}
		audit(ctx, cmd, "credential "+c.past, "credential", ch.Key.String(), "by", ch.By, "version", seen.Version)
	}
	told[c.past] = !dryRun
	return emit(cmd, told, func() string {
		return strings.TrimSpace(fmt.Sprintf("%s %s\n%s", ch.Key, done, c.tells(seen))) + "\n"
	})
}

// refused is the error of a change that was not made.
func (c change) refused(key credentials.Key, err error) error {
	if errors.Is(err, credentials.ErrSuperseded) {
		return fmt.Errorf("%s is left as it is: %w", key, err)
	}
	return fmt.Errorf("%s %s: %w", c.verb, key, err)
}

// audit writes the line of the log that says who changed what.
func audit(ctx context.Context, cmd *cli.Command, text string, args ...any) {
	logOf(cmd).InfoContext(ctx, text, args...)
}
