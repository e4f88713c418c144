package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func revealFlag() cli.Flag {
	return &cli.BoolFlag{Name: "reveal", Usage: "show tokens instead of [redacted]"}
}

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "show one credential as it is stored; nothing is refreshed",
		ArgsUsage: keyUsage,
		Description: `With --json, durations are seconds from now.

Example: demo get xero alice --reveal`,
		Flags: []cli.Flag{revealFlag()},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			key, err := keyOf(cmd)
			if err != nil {
				return err
			}
			return withStore(ctx, cmd, func(store *mysql.Store) error {
				c, err := store.Get(ctx, key)
				if err != nil {
					return found(err, key)
				}
				shown := showCredential(c, cmd.Bool("reveal"))
				return emit(cmd, shown, func() string { return shown.lines(c) })
			})
		},
	}
}
