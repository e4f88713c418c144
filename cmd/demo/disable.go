package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func disableCommand() *cli.Command {
	return &cli.Command{
		Name:      "disable",
		Usage:     "stop the use of one credential: nobody gets its token, and no exchange begins",
		ArgsUsage: keyUsage,
		Description: `Processes that hold the token notice within half a minute (Options.Recheck), and
their callers get ErrDisabled. An exchange that is under way runs to its end, and its result is
stored, so that no grant is lost. The mark stays until enable takes it off, whatever is put or saved.
The provider is not told, and a token that somebody has copied still works.

Example: demo disable xero alice --by "ann, ticket 4711"`,
		Flags: changeFlags(),
		Action: change{
			verb: "disable", past: "disabled", blind: true,
			moot: func(c credentials.Status) string {
				if c.Disabled.By == "" {
					return ""
				}
				return fmt.Sprintf("was disabled already, by %s %s", c.Disabled.By, in(-c.Disabled.Ago))
			},
			tells: func(c credentials.Status) string {
				if !c.Lease.Live() {
					return ""
				}
				return fmt.Sprintf("an exchange of %s, begun %s, is under way; its result will be stored",
					c.Lease.Holder, in(-c.Lease.Age))
			},
			do: func(ctx context.Context, store *mysql.Store, ch credentials.Change) error {
				return store.Disable(ctx, ch)
			},
		}.run,
	}
}

func enableCommand() *cli.Command {
	return &cli.Command{
		Name:      "enable",
		Usage:     "allow the use of a credential again that was disabled",
		ArgsUsage: keyUsage,
		Description: `The credential is due at once, or when its lease or its back-off ends: one process
exchanges its token, as ever. A grant that is dead stays so; see revive.

Example: demo enable xero alice`,
		Flags: changeFlags(),
		Action: change{
			verb: "enable", past: "enabled",
			moot: func(c credentials.Status) string {
				if c.Disabled.By != "" {
					return ""
				}
				return "is not disabled"
			},
			tells: func(c credentials.Status) string {
				return fmt.Sprintf("it was disabled by %s %s", c.Disabled.By, in(-c.Disabled.Ago))
			},
			do: func(ctx context.Context, store *mysql.Store, ch credentials.Change) error {
				return store.Enable(ctx, ch)
			},
		}.run,
	}
}
