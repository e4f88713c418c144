package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list the credentials of a service, or all",
		ArgsUsage:   "[SERVICE]",
		Description: "Example: demo list xero --json",
		Flags:       []cli.Flag{revealFlag()},
		Action:      runList,
	}
}

func runList(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Len() > 1 {
		return usagef(cmd, "list takes at most a service, got %d arguments", cmd.Args().Len())
	}
	service := cmd.Args().First()
	if service != "" {
		name, err := credentials.NormalizeService(service)
		if err != nil {
			return &usageError{command: cmd.FullName(), err: err}
		}
		service = name
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		reveal := cmd.Bool("reveal")
		list := []shown{}
		rows := []table.Row{}
		for c, err := range store.List(ctx, service) {
			if err != nil {
				return err
			}
			s := showCredential(c, reveal)
			list = append(list, s)
			expires, refreshed := "", "never"
			if !c.Token.IsZero() {
				expires = in(c.ExpiresIn)
			}
			if s.Refreshed != nil {
				refreshed = in(-c.Refreshed.Ago)
			}
			rows = append(rows, table.Row{c.Key.Service, c.Key.Account, s.State, s.Token, expires, in(c.DueIn), refreshed})
		}
		return emit(cmd, map[string]any{"credentials": list}, func() string {
			if len(list) == 0 {
				return "no credentials\n"
			}
			t := table.NewWriter()
			t.SetStyle(table.StyleLight)
			t.Style().Format.Header = text.FormatDefault
			t.AppendHeader(table.Row{"service", "account", "state", "token", "expires", "due", "refreshed"})
			t.AppendRows(rows)
			return t.Render() + "\n"
		})
	})
}
