package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/keyset"
)

// keysetEnv is the variable that holds a keyset itself, for hosts that hand secrets out that way.
const keysetEnv = "LATCHKEY_KEYSET"

func keysetFlag() cli.Flag {
	return &cli.StringFlag{Name: "keyset", Usage: "seals tokens under the keys in `FILE`, " +
		"as demo key new makes it; without it $" + keysetEnv + " may hold a keyset"}
}

// keysetOf reads the keyset that the command line names, else the one in the environment. Without
// either it returns nil.
func keysetOf(cmd *cli.Command) (*keyset.Keyset, error) {
	if cmd.IsSet("keyset") {
		name, err := keysetFile(cmd)
		if err != nil {
			return nil, err
		}
		return keyset.Read(name)
	}
	text, set := os.LookupEnv(keysetEnv)
	if !set {
		return nil, nil
	}
	// A variable that is set and empty comes from a secret that was not found: tokens that were to
	// be sealed must not be stored as they are.
	k, err := keyset.Parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("$%s %w; the variable holds a keyset itself, and --keyset names a file",
			keysetEnv, err)
	}
	return k, nil
}

// keysetFile is the file that --keyset names, for the subcommands that write it.
func keysetFile(cmd *cli.Command) (string, error) {
	name := cmd.String("keyset")
	switch {
	case cmd.IsSet("keyset") && name == "":
		return "", usagef(cmd, "--keyset is empty; name a keyset file, or leave it out for $%s", keysetEnv)
	case name == "":
		return "", usagef(cmd, "--keyset is missing: name the keyset file")
	}
	return name, nil
}
