package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write the credentials of a service, or all, as JSON Lines, sealed as they are stored",
		ArgsUsage: "[SERVICE]",
		Description: `A sealed line is of use only where the same keys and the same deployment name are.
A credential that is not sealed in the table is left out and reported; with --reveal, all are written
plain, and the file is as secret as the tokens. An export grows old as a backup does: once a refresh
token in it was exchanged, the line is of no use, and a provider may end the grant when it is
presented.

Example: demo export xero --to xero.jsonl`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "to", Value: "-", Usage: "the `FILE` to write, which must not be there yet; - is stdout",
			},
			&cli.BoolFlag{Name: "reveal", Usage: "write the tokens plain"},
		},
		Action: runExport,
	}
}

func runExport(ctx context.Context, cmd *cli.Command) (err error) {
	filter, err := filterOf(cmd)
	if err != nil {
		return err
	}
	name := cmd.String("to")
	if name == "-" && cmd.Bool("json") {
		return usagef(cmd, "--json goes with --to FILE; the lines on stdout are JSON without it")
	}
	return withStore(ctx, cmd, func(store *mysql.Store) (err error) {
		out := cmd.Root().Writer
		if name != "-" {
			file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("write the export: %w", err)
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out = file
		}
		written, failed, err := exportTo(ctx, cmd, store, filter.Service, out)
		if err != nil {
			return err
		}
		note(cmd, "%s exported, %d left out", count(written, "credential"), failed)
		if name != "-" {
			told := map[string]any{
				"exported": written, "left_out": failed, "file": name, "plain": cmd.Bool("reveal"),
			}
			if err := emit(cmd, told, func() string { return "" }); err != nil {
				return err
			}
		}
		if failed > 0 {
			return errReported
		}
		return nil
	})
}

// exportTo writes the lines, and says which credentials are left out.
func exportTo(
	ctx context.Context, cmd *cli.Command, store *mysql.Store, service string, out io.Writer,
) (written, failed int, err error) {
	reveal := cmd.Bool("reveal")
	encoder := json.NewEncoder(out)
	for e, err := range store.Export(ctx, service, reveal) {
		switch {
		case err != nil && e.Key == (credentials.Key{}):
			return written, failed, err
		case err != nil && !reveal:
			note(cmd, "left out: %s; --reveal exports it plain", oneLine(err))
			failed++
			continue
		case err != nil:
			note(cmd, "left out: %s", oneLine(err))
			failed++
			continue
		}
		if err := encoder.Encode(transferOf(e)); err != nil {
			return written, failed, fmt.Errorf("write the export: %w", err)
		}
		written++
	}
	return written, failed, nil
}
