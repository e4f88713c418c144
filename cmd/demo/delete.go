package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:        "delete",
		Usage:       "remove one credential; the provider is not told",
		ArgsUsage:   keyUsage,
		Description: "Example: demo delete xero alice",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			key, err := keyOf(cmd)
			if err != nil {
				return err
			}
			return withStore(ctx, cmd, func(store *mysql.Store) error {
				if err := store.Delete(ctx, key); err != nil {
					return found(err, key)
				}
				deleted := map[string]any{"service": key.Service, "account": key.Account, "deleted": true}
				return emit(cmd, deleted, func() string { return "deleted " + key.String() + "\n" })
			})
		},
	}
}
