package main

import (
	"cmp"
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/storm"
)

// findRestartable is findServer, and keeps a handle on the server if it is a private one; else the handle is nil.
func findRestartable(ctx context.Context, cmd *cli.Command) (_ *server, _ storm.Database, err error) {
	named := cmp.Or(cmd.String("dsn"), os.Getenv("MYSQL_DSN")) != ""
	if !named {
		s, err := composeServer(ctx, cmd)
		if err != nil {
			return nil, nil, err
		}
		named = s != nil
		if named {
			_ = s.Close()
		}
	}
	program, findErr := localmysql.Find()
	if named || findErr != nil {
		s, err := findServer(ctx, cmd, orPrivate) // which knows what to say without a program
		return s, nil, err
	}
	note(cmd, "starting a private server from %s, which ends with this command", program)
	private, err := localmysql.Start(ctx, &localmysql.Options{Program: program})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, private.Stop())
		}
	}()
	if err := createDatabase(ctx, private.DSN(""), "latchkey"); err != nil {
		return nil, nil, err
	}
	s, err := connect(ctx, private.DSN("latchkey"), "private")
	if err != nil {
		return nil, nil, err
	}
	s.stop = private.Stop
	note(cmd, "server: %s", s.label)
	return s, private, nil
}
