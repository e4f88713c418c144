package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// keyUsage is the arguments of the subcommands that work on one credential.
const keyUsage = "SERVICE [ACCOUNT]"

// keyOf reads the credential's name from the arguments.
func keyOf(cmd *cli.Command) (credentials.Key, error) {
	args := cmd.Args()
	if args.Len() < 1 || args.Len() > 2 {
		return credentials.Key{}, usagef(cmd, "%s takes %s, got %d arguments", cmd.Name, keyUsage, args.Len())
	}
	key, err := credentials.Key{Service: args.Get(0), Account: args.Get(1)}.Normalize()
	if err != nil {
		return credentials.Key{}, &usageError{command: cmd.FullName(), err: err}
	}
	return key, nil
}

// withStore opens the store on the server in use, checks that its table is there, and calls do.
func withStore(ctx context.Context, cmd *cli.Command, do func(store *mysql.Store) error) (err error) {
	s, err := findServer(ctx, cmd, noPrivate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	store, err := mysql.NewStore(s.db, nil)
	if err != nil {
		return err
	}
	if err := store.Check(ctx); err != nil {
		return err
	}
	return do(store)
}

// found adds the remedy to the error about a credential that is not there.
func found(err error, key credentials.Key) error {
	if errors.Is(err, credentials.ErrNotFound) {
		return fmt.Errorf("there is no credential %s: `demo list` shows those there are, `demo put` stores one", key)
	}
	return err
}
