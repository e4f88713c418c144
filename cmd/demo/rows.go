package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// keyUsage is the arguments of the subcommands that work on one credential.
const keyUsage = "SERVICE [ACCOUNT] | SERVICE/ACCOUNT"

// keyOf reads the credential's name from the arguments: two are a service and an account, one is a
// name as it is printed.
func keyOf(cmd *cli.Command) (credentials.Key, error) {
	args := cmd.Args()
	if args.Len() < 1 || args.Len() > 2 {
		return credentials.Key{}, usagef(cmd, "%s takes %s, got %d arguments",
			cmd.Name, keyUsage, args.Len())
	}
	key, err := credentials.Key{Service: args.Get(0), Account: args.Get(1)}, error(nil)
	if args.Len() == 1 {
		key, err = parseKey(args.First())
	}
	if err == nil {
		key, err = key.Normalize()
	}
	if err != nil {
		return credentials.Key{}, &usageError{command: cmd.FullName(), err: err}
	}
	return key, nil
}

// parseKey reads what Key.String writes.
func parseKey(text string) (credentials.Key, error) {
	service, account, _ := strings.Cut(text, "/")
	var err error
	if strings.HasPrefix(text, `"`) {
		prefix, badPrefix := strconv.QuotedPrefix(text)
		rest, slash := strings.CutPrefix(text[len(prefix):], "/")
		if badPrefix != nil || rest != "" && !slash {
			return credentials.Key{}, fmt.Errorf("%w: %q is no name as it is printed: "+
				"the quotation marks do not enclose the service", credentials.ErrInvalidKey, text)
		}
		account = rest
		service, _ = strconv.Unquote(prefix) // QuotedPrefix has seen that it can be unquoted
	}
	if strings.HasPrefix(account, `"`) {
		if account, err = strconv.Unquote(account); err != nil {
			return credentials.Key{}, fmt.Errorf("%w: %q is no name as it is printed: "+
				"the quotation marks do not enclose the account", credentials.ErrInvalidKey, text)
		}
	}
	return credentials.Key{Service: service, Account: account}, nil
}

// printableName returns an account's name as Key.String prints it: quoted where it has characters
// that cannot be seen.
func printableName(name string) string {
	if name == "" {
		return ""
	}
	return strings.TrimPrefix(credentials.Key{Service: "s", Account: name}.String(), "s/")
}

// withStore opens the store on the server in use, checks that its table is there, and calls do.
func withStore(ctx context.Context, cmd *cli.Command, do func(store *mysql.Store) error) error {
	options, err := storeOptions(cmd, logOf(cmd))
	if err != nil {
		return err
	}
	return withServer(ctx, cmd, func(s *server) error {
		store, err := mysql.NewStore(s.db, options)
		if err != nil {
			return &storeError{err}
		}
		if err := store.Check(ctx); err != nil {
			return &storeError{err}
		}
		if err := do(store); err != nil {
			return &storeError{err}
		}
		return nil
	})
}

// withRemedy adds to ErrNotFound the commands that help.
func withRemedy(err error, key credentials.Key) error {
	if errors.Is(err, credentials.ErrNotFound) {
		return fmt.Errorf("there is no credential %s: "+
			"`demo list` shows those there are, `demo put` stores one", key)
	}
	return err
}

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
				return emitRow(ctx, cmd, store, key)
			})
		},
	}
}

// emitRow reads a credential and writes it to stdout.
func emitRow(ctx context.Context, cmd *cli.Command, store *mysql.Store, key credentials.Key) error {
	c, err := store.Get(ctx, key)
	if err != nil {
		return withRemedy(err, key)
	}
	shown := showCredential(c, cmd.Bool("reveal"))
	return emit(cmd, shown, func() string { return shown.lines(c) })
}

func listCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the credentials of a service, or all",
		ArgsUsage: "[SERVICE]",
		Description: "The states: " + conditionNames() + `. The dead, the due, the interrupted and
the disabled are found by an index, however many rows the table has.

Example: demo list xero --json
Example: demo list --state dead --state no-token-yet`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{
				Name: "state", Usage: "list those in this `STATE` alone; may be given more than once",
			},
			&cli.BoolFlag{Name: "reveal", Usage: "show the tokens too"},
		},
		Action: runList,
	}
}

// conditions are the states that a credential may be in.
var conditions = []credentials.Condition{
	credentials.ConditionFresh, credentials.ConditionDue, credentials.ConditionExpired,
	credentials.ConditionNoToken, credentials.ConditionRefreshing, credentials.ConditionInterrupted,
	credentials.ConditionBackingOff, credentials.ConditionDead, credentials.ConditionDisabled,
}

func conditionNames() string {
	names := make([]string, len(conditions))
	for i, condition := range conditions {
		names[i] = string(condition)
	}
	return strings.Join(names, ", ")
}

// filterOf reads the arguments and flags.
func filterOf(cmd *cli.Command) (f mysql.Filter, err error) {
	if cmd.Args().Len() > 1 {
		return f, usagef(cmd, "%s takes at most a service, got %d arguments", cmd.Name, cmd.Args().Len())
	}
	if f.Service = cmd.Args().First(); f.Service != "" {
		if f.Service, err = credentials.NormalizeService(f.Service); err != nil {
			return f, &usageError{command: cmd.FullName(), err: err}
		}
	}
	for _, name := range cmd.StringSlice("state") {
		condition := credentials.Condition(strings.ReplaceAll(name, "-", " "))
		if !slices.Contains(conditions, condition) {
			return f, usagef(cmd, "--state is %q; it must be one of: %s", name, conditionNames())
		}
		f.Conditions = append(f.Conditions, condition)
	}
	return f, nil
}

func runList(ctx context.Context, cmd *cli.Command) error {
	filter, err := filterOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		var listed []credentials.Status
		for c, err := range store.List(ctx, filter) {
			if err != nil {
				return err
			}
			listed = append(listed, c)
		}
		list := make([]shown, len(listed))
		for i, c := range listed {
			list[i] = showStatus(c)
		}
		reveal := cmd.Bool("reveal")
		if reveal {
			if err := revealAll(ctx, store, listed, list); err != nil {
				return err
			}
		}
		return emit(cmd, map[string]any{"credentials": list}, func() string {
			return listTable(listed, list, reveal)
		})
	})
}

// revealAll adds the secrets of the credentials to what is shown of them. A credential that was
// deleted since it was listed has none.
func revealAll(ctx context.Context, store *mysql.Store, listed []credentials.Status, list []shown) error {
	keys := make([]credentials.Key, len(listed))
	for i, c := range listed {
		keys[i] = c.Key
	}
	all, err := store.GetAll(ctx, keys)
	if err != nil {
		return err
	}
	for i, found := range all {
		switch {
		case errors.Is(found.Err, credentials.ErrNotFound):
		case found.Err != nil:
			return found.Err
		default:
			list[i].addSecrets(found.Credential, true)
		}
	}
	return nil
}

func listTable(listed []credentials.Status, list []shown, reveal bool) string {
	if len(list) == 0 {
		return "no credentials\n"
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	header := table.Row{"service", "account", "state", "expires", "due", "refreshed"}
	if reveal {
		header = append(header, "token")
	}
	t.AppendHeader(header)
	for i, c := range listed {
		row := listRow(c)
		if reveal {
			row = append(row, list[i].Token)
		}
		t.AppendRow(row)
	}
	return t.Render() + "\n"
}

func listRow(c credentials.Status) table.Row {
	expires, refreshed := "", "never"
	if c.ExpiresIn != 0 {
		expires = in(c.ExpiresIn)
	}
	if c.Refreshed.By != "" {
		refreshed = in(-c.Refreshed.Ago)
	}
	return table.Row{
		c.Key.Service, printableName(c.Key.Account), string(c.Condition), expires, in(c.DueIn), refreshed,
	}
}
