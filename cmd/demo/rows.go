package main

import (
	"context"
	"errors"
	"fmt"
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
	return withServer(ctx, cmd, func(s *server) error {
		store, err := mysql.NewStore(s.db, nil)
		if err != nil {
			return err
		}
		if err := store.Check(ctx); err != nil {
			return err
		}
		return do(store)
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
			rows = append(rows, listRow(c, s))
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

func listRow(c credentials.Credential, s shown) table.Row {
	expires, refreshed := "", "never"
	if !c.AccessToken.IsZero() {
		expires = in(c.ExpiresIn)
	}
	if s.Refreshed != nil {
		refreshed = in(-c.Refreshed.Ago)
	}
	return table.Row{
		c.Key.Service, printableName(c.Key.Account), s.State, s.Token, expires, in(c.DueIn), refreshed,
	}
}

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
					return withRemedy(err, key)
				}
				deleted := map[string]any{"service": key.Service, "account": key.Account, "deleted": true}
				return emit(cmd, deleted, func() string { return "deleted " + key.String() + "\n" })
			})
		},
	}
}
