package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/keyset"
)

func retireCommand() *cli.Command {
	return &cli.Command{
		Name:      "retire",
		Usage:     "have a key open nothing any more, once no row needs it",
		ArgsUsage: "KEY",
		Description: `Asks the table first, and refuses while a row was sealed under the key: demo rekey
comes before. A process with an old keyset, which still seals under the key, is not seen: give
every process the keyset with the new primary key first. A retired key stays in the keyset, and
--undo has it open again; --delete removes it for good, with every backup that it sealed.

Example: demo key retire 1234567890 --keyset keyset.json`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "delete", Usage: "remove the key from the keyset: nobody can undo that"},
			&cli.BoolFlag{Name: "undo", Usage: "have a retired key open again"},
			&cli.BoolFlag{Name: "force", Usage: "do not ask the table whether rows need the key"},
		},
		Action: runKeyRetire,
	}
}

func runKeyRetire(ctx context.Context, cmd *cli.Command) error {
	id, err := keyID(cmd)
	if err != nil {
		return err
	}
	undo, remove := cmd.Bool("undo"), cmd.Bool("delete")
	if undo && remove {
		return usagef(cmd, "--undo does not go with --delete; choose one")
	}
	name, err := keysetFile(cmd)
	if err != nil {
		return err
	}
	status, change := "retired", (*keyset.Keyset).Retire
	switch {
	case undo:
		status, change = "enabled", (*keyset.Keyset).Restore
	case remove:
		status, change = "deleted", (*keyset.Keyset).Delete
	}
	err = keyset.Edit(name, func(k *keyset.Keyset) error {
		if err := change(k, id); err != nil {
			return err
		}
		if undo || cmd.Bool("force") {
			return nil
		}
		return isNotNeeded(ctx, cmd, id)
	})
	if err != nil {
		return err
	}
	retired := map[string]any{"keyset": name, "key": id, "status": status}
	return emit(cmd, retired, func() string {
		return fmt.Sprintf("%s the key %d of %s; give the file to every process\n", status, id, name)
	})
}

// isNotNeeded returns an error if a row of the table was sealed under that key.
func isNotNeeded(ctx context.Context, cmd *cli.Command, id uint32) error {
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		needed, err := store.CountKeys(ctx)
		if err != nil {
			return fmt.Errorf("ask whether the key is needed (--force does not ask): %w", err)
		}
		if rows := needed.Keys[id]; rows > 0 {
			return fmt.Errorf("the key %d is needed: %s sealed under it, which nobody could read; "+
				"seal them under the primary key first: demo rekey", id, count(rows, "row"))
		}
		return nil
	})
}
