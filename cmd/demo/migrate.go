package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/migrations"
)

func migrateCommand() *cli.Command {
	return &cli.Command{
		Name:        "migrate",
		Usage:       "make the credentials table, take it back, or say where it stands",
		Description: "Example: MYSQL_DSN='user:password@tcp(host:3306)/database' demo migrate up",
		Commands: []*cli.Command{
			{
				Name: "up",
				Usage: "apply the migrations that are not applied yet; " +
					"any number of processes may do so at once",
				Description: "Example: demo migrate up",
				Flags:       []cli.Flag{onlyCallerFlag()},
				Action:      migrateUp,
			},
			{
				Name: "down",
				Usage: "take back the newest migration; " +
					"taking back the first drops the table with every token in it",
				Description: "Example: demo migrate down --yes",
				Flags: []cli.Flag{
					&cli.BoolFlag{
						Name: "yes", Usage: "confirms that what the migration made is dropped, tokens and all",
					},
					onlyCallerFlag(),
				},
				Action: migrateDown,
			},
			{
				Name:  "status",
				Usage: "list the migrations and which of them are applied",
				Description: `Exits with status 1 unless all are applied and the table is there; writes nothing.

Example: demo migrate status --json`,
				Action: migrateStatus,
			},
		},
		Action: chooseSubcommand,
	}
}

// onlyCallerFlag is migrations.Options.OnlyCaller.
func onlyCallerFlag() cli.Flag {
	return &cli.BoolFlag{
		Name: "only-caller",
		Usage: "says that nobody else migrates at the same time, on any server of the group; " +
			"needed where several primaries are on",
	}
}

func migrationOptions(cmd *cli.Command) *migrations.Options {
	return &migrations.Options{OnlyCaller: cmd.Bool("only-caller")}
}

type migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

func migrateUp(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	return withServer(ctx, cmd, func(s *server) error {
		results, err := migrations.Up(ctx, s.db, migrationOptions(cmd))
		if err != nil {
			return err
		}
		applied := []migration{}
		for _, r := range results {
			applied = append(applied, migration{r.Source.Version, r.Source.Path, true})
		}
		return emit(cmd, map[string]any{"applied": applied}, func() string {
			if len(applied) == 0 {
				return "nothing to apply: the table is up to date\n"
			}
			return migrationLines("applied", applied)
		})
	})
}

func migrateDown(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	if !cmd.Bool("yes") {
		return usagef(cmd, "migrate down drops what the migration made, tokens and all; "+
			"confirm with --yes")
	}
	return withServer(ctx, cmd, func(s *server) error {
		result, err := migrations.Down(ctx, s.db, migrationOptions(cmd))
		if errors.Is(err, goose.ErrNoNextVersion) {
			return errors.New("no migration is applied, so that there is none to take back")
		}
		if err != nil {
			return err
		}
		reverted := []migration{{Version: result.Source.Version, Name: result.Source.Path}}
		return emit(cmd, map[string]any{"reverted": reverted}, func() string {
			return migrationLines("taken back", reverted)
		})
	})
}

func migrateStatus(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	return withServer(ctx, cmd, func(s *server) error {
		known, err := migrations.Status(ctx, s.db, nil)
		if err != nil {
			return err
		}
		list, pending := []migration{}, false
		for _, m := range known {
			list, pending = append(list, migration(m)), pending || !m.Applied
		}
		err = emit(cmd, map[string]any{"migrations": list}, func() string { return statusLines(list) })
		if err == nil && pending {
			err = errReported
		}
		return err
	})
}

func statusLines(list []migration) string {
	var b strings.Builder
	for _, m := range list {
		state := "pending"
		if m.Applied {
			state = "applied"
		}
		b.WriteString(migrationLines(state, []migration{m}))
	}
	return b.String()
}

func migrationLines(state string, list []migration) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%-10s  %s\n", state, m.Name)
	}
	return b.String()
}

func schemaCommand() *cli.Command {
	return &cli.Command{
		Name: "schema",
		Usage: "print the SQL that makes the credentials table, for other migration tools; " +
			"needs no server",
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
