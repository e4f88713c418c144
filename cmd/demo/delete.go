package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "remove one credential, or all of a service; the provider is not told",
		ArgsUsage: keyUsage + " | --service NAME",
		Description: `The refresh token is gone with the row: to have the credential back, the account
must be authorized again. The result of an exchange that is under way is dropped. All of a service
are deleted in batches, and the command may be broken off and repeated; those that are put meanwhile
stay. Export them before, if they may be wanted again.

Example: demo delete xero alice
Example: demo delete --service xero --dry-run`,
		Flags: slices.Concat(changeFlags(), []cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "delete all credentials of the service of that `NAME`"},
			&cli.BoolFlag{Name: "yes", Usage: "delete them; without it, --service deletes nothing"},
		}),
		Action: runDelete,
	}
}

func runDelete(ctx context.Context, cmd *cli.Command) error {
	if cmd.IsSet("service") {
		return runDeleteAll(ctx, cmd)
	}
	if cmd.IsSet("yes") {
		return usagef(cmd, "--yes is for --service; without it, the arguments name one credential")
	}
	return change{
		verb: "delete", past: "deleted",
		tells: func(c credentials.Status) string {
			if !c.Lease.Live() {
				return ""
			}
			return fmt.Sprintf("the result of an exchange of %s, begun %s, is dropped",
				c.Lease.Holder, in(-c.Lease.Age))
		},
		do: func(ctx context.Context, store *mysql.Store, ch credentials.Change) error {
			return store.Remove(ctx, ch)
		},
	}.run(ctx, cmd)
}

// runDeleteAll is delete with --service.
func runDeleteAll(ctx context.Context, cmd *cli.Command) error {
	dryRun, by := cmd.Bool("dry-run"), byOf(cmd)
	service, err := credentials.NormalizeService(cmd.String("service"))
	switch {
	case err != nil:
		return &usageError{command: cmd.FullName(), err: err}
	case cmd.Args().Present():
		return usagef(cmd, "delete --service takes no arguments, got %q", cmd.Args().First())
	case cmd.IsSet("if-version"):
		return usagef(cmd, "--if-version is for one credential; --service names many")
	case !dryRun && !cmd.Bool("yes"):
		return usagef(cmd, "delete --service deletes all credentials of %s, and cannot be undone; "+
			"look with --dry-run, and confirm with --yes", service)
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		var names strings.Builder
		accounts := []string{}
		n, err := store.DeleteAll(ctx, mysql.Deletion{Service: service, DryRun: dryRun, Each: func(key credentials.Key) {
			accounts = append(accounts, key.Account)
			_, _ = fmt.Fprintln(&names, key)
		}})
		if n > 0 && !dryRun {
			audit(ctx, cmd, "credentials deleted", "service", service, "deleted", n, "by", by)
		}
		if err != nil && n > 0 {
			return fmt.Errorf("%s deleted, then: %w; the same command goes on", count(n, "credential"), err)
		}
		if err != nil {
			return err
		}
		told := map[string]any{
			"service": service, "dry_run": dryRun, "deleted": n, "accounts": accounts, "by": by,
		}
		return emit(cmd, told, func() string {
			done := "deleted"
			if dryRun {
				done = "to delete"
			}
			return fmt.Sprintf("%s%s of %s %s\n", names.String(), count(n, "credential"), service, done)
		})
	})
}
