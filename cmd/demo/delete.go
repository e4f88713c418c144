package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "remove one credential, or all of a service; the provider is told with --revoke",
		ArgsUsage: keyUsage + " | --service NAME",
		Description: `The refresh token is gone with the row: to have the credential back, the account
must be authorized again. The result of an exchange that is under way is dropped. All of a service
are deleted in batches, and the command may be broken off and repeated; those that are put meanwhile
stay. Export them before, if they may be wanted again.

With --revoke, an exchange that is under way ends first, for as long as a lease at most, while the
credential is disabled. Then the credential is deleted, and the provider ends the grant of its newest
refresh token. The exit status is 1 if the provider did not, and the credential is deleted all the
same. The client's secret is taken from $CLIENT_SECRET.

Example: demo delete xero alice
Example: CLIENT_SECRET=… demo delete xero alice --revoke https://identity.xero.com/connect/revocation --client-id 1234
Example: demo delete --service xero --dry-run`,
		Flags: slices.Concat(changeFlags(), []cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "delete all credentials of the service of that `NAME`"},
			&cli.BoolFlag{Name: "yes", Usage: "delete them; without it, --service deletes nothing"},
		}, revokeFlags()),
		Action: runDelete,
	}
}

func runDelete(ctx context.Context, cmd *cli.Command) error {
	revocation, err := revocationOf(cmd)
	switch {
	case err != nil:
		return err
	case cmd.IsSet("service") && revocation != nil:
		return usagef(cmd, "--revoke is for one credential; --service names many")
	case cmd.IsSet("service"):
		return runDeleteAll(ctx, cmd)
	}
	if cmd.IsSet("yes") {
		return usagef(cmd, "--yes is for --service; without it, the arguments name one credential")
	}
	deletion := change{
		verb: "delete", past: "deleted",
		tells: func(c credentials.Status) string {
			if !c.Lease.Live() || revocation != nil {
				return ""
			}
			return fmt.Sprintf("the result of an exchange of %s, begun %s, is dropped",
				c.Lease.Holder, in(-c.Lease.Age))
		},
		do: func(ctx context.Context, store *mysql.Store, ch credentials.Change) error {
			if revocation != nil {
				return revocation.remove(ctx, store, ch)
			}
			return store.Remove(ctx, ch)
		},
	}
	if err := deletion.run(ctx, cmd); err != nil || revocation == nil {
		return err
	}
	key, err := keyOf(cmd)
	if err != nil {
		return err
	}
	return revocation.tell(ctx, cmd, key)
}

// runDeleteAll is delete with --service.
func runDeleteAll(ctx context.Context, cmd *cli.Command) error {
	dryRun := cmd.Bool("dry-run")
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
	return sweep{
		service: service, noun: "credential", verb: "delete", past: "deleted",
		do: func(store *mysql.Store, each func(credentials.Key)) (int, error) {
			return store.DeleteAll(ctx, mysql.Deletion{Service: service, DryRun: dryRun, Each: each})
		},
	}.run(ctx, cmd)
}
