package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/keyset"
)

func keyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "make, rotate, list and retire the keys that tokens are sealed under",
		Description: `A keyset is a Tink keyset of AEAD keys, as JSON in clear text, in a file that
nobody but its owner (and, at most, its group) can read. One key of it is the primary, which seals;
all keys that are not retired open. No subcommand prints a key. A change replaces the file as a
whole.

A rotation takes two steps, since a process that has not read the new key cannot open what another
one sealed under it:

  demo key rotate --add --keyset keyset.json       then give the file to every process
  demo key rotate --promote --keyset keyset.json   then give the file to every process again
  demo rekey --keyset keyset.json                  seals what is left under older keys
  demo key retire 1234567890 --keyset keyset.json

Example: demo key new --keyset keyset.json`,
		Commands: []*cli.Command{
			{
				Name:        "new",
				Usage:       "make a keyset of one key (AES-256-GCM) in a new file",
				Description: "Example: demo key new --keyset keyset.json",
				Action:      runKeyNew,
			},
			{
				Name:      "rotate",
				Usage:     "add a key, or have one that was added seal from now on",
				ArgsUsage: "--add | --promote [KEY]",
				Description: `--add adds a key that opens and does not seal yet. --promote makes it the
primary, once every process has the keyset with it; or the KEY of that id. Both at once are for a
keyset that a single process reads.

Example: demo key rotate --add --keyset keyset.json`,
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "add", Usage: "add a key that opens, and seals once it is promoted"},
					&cli.BoolFlag{Name: "promote", Usage: "have the key that was added last seal from now on"},
				},
				Action: runKeyRotate,
			},
			{
				Name:        "list",
				Usage:       "list the keys by id, without their material",
				Description: "Example: demo key list --keyset keyset.json",
				Action:      runKeyList,
			},
			retireCommand(),
		},
		Action: chooseSubcommand,
	}
}

func runKeyNew(_ context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	name, err := keysetFile(cmd)
	if err != nil {
		return err
	}
	k, err := keyset.New()
	if err != nil {
		return err
	}
	if err := keyset.Create(name, k); err != nil {
		return err
	}
	id := k.Newest().ID
	return emit(cmd, map[string]any{"keyset": name, "key": id}, func() string {
		return fmt.Sprintf("made %s with the key %d; whoever has the file opens what it seals, "+
			"and without it nobody does: keep a copy\n", name, id)
	})
}

func runKeyRotate(_ context.Context, cmd *cli.Command) error {
	add, promote := cmd.Bool("add"), cmd.Bool("promote")
	switch {
	case !add && !promote:
		return usagef(cmd, "key rotate takes --add first and, once every process has the file, --promote")
	case cmd.Args().Len() > 1 || cmd.Args().Present() && (add || !promote):
		return usagef(cmd, "key rotate takes at most the id of one key, with --promote alone")
	}
	name, err := keysetFile(cmd)
	if err != nil {
		return err
	}
	var id uint32
	if cmd.Args().Present() {
		if id, err = keyID(cmd); err != nil {
			return err
		}
	}
	err = keyset.Edit(name, func(k *keyset.Keyset) (err error) {
		if add {
			if id, err = k.Add(); err != nil {
				return err
			}
		}
		if promote {
			id, err = promoteKey(k, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	rotated := map[string]any{"keyset": name, "key": id, "added": add, "primary": promote}
	return emit(cmd, rotated, func() string { return rotatedLine(name, id, promote) })
}

// promoteKey promotes the key of that id or, where it is zero, the newest.
func promoteKey(k *keyset.Keyset, id uint32) (uint32, error) {
	if id == 0 {
		newest := k.Newest()
		if newest.Primary {
			return 0, fmt.Errorf("the newest key, %d, is the primary already; "+
				"add another with --add, and give the file to every process", newest.ID)
		}
		id = newest.ID
	}
	return id, k.Promote(id)
}

func rotatedLine(name string, id uint32, promoted bool) string {
	if promoted {
		return fmt.Sprintf("the key %d of %s seals from now on, in processes that read the file again; "+
			"`demo rekey` seals under it what older keys sealed\n", id, name)
	}
	return fmt.Sprintf("added the key %d to %s: give the file to every process, then promote the key: "+
		"demo key rotate --promote\n", id, name)
}

// shownKey is a key as it is printed.
type shownKey struct {
	ID      uint32 `json:"id"`
	Status  string `json:"status"` // enabled or retired
	Primary bool   `json:"primary"`
}

func runKeyList(_ context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	k, err := keysetOf(cmd)
	if err != nil {
		return err
	}
	if k == nil {
		return usagef(cmd, "there is no keyset: name a file with --keyset, or set $%s", keysetEnv)
	}
	list := []shownKey{}
	for _, key := range k.Keys() {
		status := "enabled"
		if key.Retired {
			status = "retired"
		}
		list = append(list, shownKey{key.ID, status, key.Primary})
	}
	return emit(cmd, map[string]any{"keys": list}, func() string { return keyLines(list) })
}

func keyLines(list []shownKey) string {
	var b strings.Builder
	for _, key := range list {
		status := key.Status
		if key.Primary {
			status = "primary"
		}
		fmt.Fprintf(&b, "%-10d  %s\n", key.ID, status)
	}
	return b.String()
}

// keyID reads the id of a key, which is the only argument.
func keyID(cmd *cli.Command) (uint32, error) {
	if cmd.Args().Len() != 1 {
		return 0, usagef(cmd, "%s takes the id of one key, got %d arguments; "+
			"`demo key list` shows the ids", cmd.Name, cmd.Args().Len())
	}
	id, err := strconv.ParseUint(cmd.Args().First(), 10, 32)
	if err != nil || id == 0 {
		return 0, usagef(cmd, "%q is no id of a key; `demo key list` shows the ids", cmd.Args().First())
	}
	return uint32(id), nil
}
