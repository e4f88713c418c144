package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func releaseCommand() *cli.Command {
	return &cli.Command{
		Name:      "release",
		Usage:     "end the lease of a holder that is gone, so that nobody waits for it",
		ArgsUsage: keyUsage,
		Description: `A lease ends by itself, and others take it over then: mostly there is nothing to
do. The outcome of the holder's exchange counts as unknown from then on, by its name. The next claim
gives the holder some seconds to save, and presents the refresh token again; where the service's
policy is never to do that, the grant counts as dead. A holder that lives after all may still present
the refresh token; its success is stored unless a later one is. So make sure that the process is gone.

Example: demo release xero alice --dry-run`,
		Flags: slices.Concat(changeFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "live", Usage: "end the lease though it has not ended by itself yet"},
		}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return release(cmd.Bool("live")).run(ctx, cmd)
		},
	}
}

// release is the end of a lease; of one that is live only if live says so.
func release(live bool) change {
	return change{
		verb: "release", past: "released",
		refuses: func(c credentials.Status) string {
			switch {
			case c.Lease.ID == "":
				return fmt.Sprintf("no lease stands in the row; the credential is %s", c.Condition)
			case c.Lease.Live() && !live:
				return fmt.Sprintf("the lease of %s ends %s, and its holder may be at an exchange; "+
					"wait for that or, if that process is gone, add --live", c.Lease.Holder, in(c.Lease.EndsIn))
			}
			return ""
		},
		tells: func(c credentials.Status) string {
			return fmt.Sprintf("the lease of %s, begun %s, ends, and the outcome of its exchange is unknown",
				c.Lease.Holder, in(-c.Lease.Age))
		},
		do: func(ctx context.Context, store *mysql.Store, ch credentials.Change) error {
			return store.EndLease(ctx, ch)
		},
	}
}
