package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/keyset"
)

const (
	// keysetEnv is the variable that holds a keyset itself, for hosts that hand secrets out that
	// way.
	keysetEnv = "LATCHKEY_KEYSET"

	deploymentEnv = "LATCHKEY_DEPLOYMENT"
)

// storeFlags say how tokens are stored; storeOptions reads them.
func storeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "keyset", Usage: "seal tokens in the table under the keys in `FILE`, " +
			"which `demo key new` makes; without it $" + keysetEnv + " may hold a keyset itself"},
		&cli.BoolFlag{Name: "require-sealed", Usage: "take no token that stands in the table unsealed"},
		&cli.StringFlag{Name: "deployment", Usage: "the `NAME` of this installation; rows with another " +
			"name are left alone; without it $" + deploymentEnv},
	}
}

// storeOptions reads the flags. The store logs to log, as every program with a store has it.
func storeOptions(cmd *cli.Command, log *slog.Logger) (*mysql.Options, error) {
	o := &mysql.Options{
		RequireSealed: cmd.Bool("require-sealed"),
		Deployment:    cmp.Or(cmd.String("deployment"), os.Getenv(deploymentEnv)),
		Logger:        log,
	}
	if cmd.IsSet("deployment") && cmd.String("deployment") == "" { // as from a variable that is not set
		return nil, usagef(cmd, "--deployment is empty; leave it out for $%s, or for none", deploymentEnv)
	}
	k, err := keysetOf(cmd)
	if err != nil {
		return nil, err
	}
	if k == nil && o.RequireSealed {
		return nil, usagef(cmd, "--require-sealed takes keys; name a keyset file with --keyset, or set $%s",
			keysetEnv)
	}
	if k != nil {
		if o.AEAD, err = k.AEAD(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// storeError is an error of a store, which speaks of the command's flags instead of the options of
// the library.
type storeError struct{ err error }

var optionFlags = strings.NewReplacer("mysql.NewStore: ", "", "mysql.Options.", "Options.",
	"Options.AEAD", "--keyset", "Options.RequireSealed", "--require-sealed",
	"Options.Deployment", "--deployment")

func (e *storeError) Error() string { return optionFlags.Replace(e.err.Error()) }

func (e *storeError) Unwrap() error { return e.err }

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
