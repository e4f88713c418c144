package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/migrations"
)

func schemaCommand() *cli.Command {
	return &cli.Command{
		Name:        "schema",
		Usage:       "print the SQL that makes the credentials table, for other migration tools; needs no server",
		Description: "Example: demo schema > credentials.sql",
		Action: func(_ context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			schema, err := migrations.Schema(nil)
			if err != nil {
				return err
			}
			return emit(cmd, map[string]any{"schema": schema}, func() string { return schema })
		},
	}
}
