package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:  "import",
		Usage: "put the credentials that demo export has written",
		Description: `A credential that is there already is kept, unless --replace is given. Sealed
lines must open with this command's keys and deployment name, and are sealed under the primary key
when they are put. Credentials that were dead or disabled stay so. Stop the programs that exchange
the same grants elsewhere before: two tables with one grant present its refresh token twice.

Example: demo import --from xero.jsonl --dry-run`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Value: "-", Usage: "the `FILE` with the lines; - is stdin"},
			&cli.BoolFlag{
				Name:  "replace",
				Usage: "put a line in the place of the credential that is there, unless that moves on meanwhile",
			},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"},
			byFlag(),
		},
		Action: runImport,
	}
}

func runImport(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	in := cmd.Root().Reader
	if name := cmd.String("from"); name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read the import: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		i := &importer{
			store: store, counts: make(map[mysql.Imported]int), rows: []map[string]any{},
			options: mysql.ImportOptions{Replace: cmd.Bool("replace"), DryRun: cmd.Bool("dry-run")},
		}
		err := i.run(ctx, in)
		if n := i.counts[mysql.ImportedNew] + i.counts[mysql.ImportedReplaced]; n > 0 && !i.options.DryRun {
			audit(ctx, cmd, "credentials imported", "imported", n, "by", byOf(cmd))
		}
		if err != nil {
			return fmt.Errorf("%w; the lines before were dealt with, and the same command goes on", err)
		}
		told := map[string]any{
			"dry_run": i.options.DryRun, "imported": i.counts[mysql.ImportedNew],
			"replaced": i.counts[mysql.ImportedReplaced], "kept": i.counts[mysql.ImportedKept],
			"refused": i.refused, "credentials": i.rows,
		}
		if err := emit(cmd, told, i.String); err != nil {
			return err
		}
		if i.refused > 0 {
			return errReported
		}
		return nil
	})
}

// importer reads an export line by line and counts the outcomes.
type importer struct {
	store   *mysql.Store
	options mysql.ImportOptions
	counts  map[mysql.Imported]int
	refused int
	rows    []map[string]any
	lines   strings.Builder // for people
}

// maxTransfer bounds a line: three values of 64 KiB in base64, and the rest.
const maxTransfer = 1 << 20

// run ends at a line that cannot be read, or when the store is away.
func (i *importer) run(ctx context.Context, in io.Reader) error {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxTransfer)
	for n := 1; scanner.Scan(); n++ {
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		line, err := parseTransfer(scanner.Bytes())
		if err != nil {
			return fmt.Errorf("line %d of the import: %w", n, err)
		}
		if err := i.put(ctx, line.exported()); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read the import: %w", err)
	}
	return nil
}

// put imports one credential. One that is refused is no error of the whole.
func (i *importer) put(ctx context.Context, e mysql.Exported) error {
	outcome, err := i.store.Import(ctx, e, i.options)
	row := map[string]any{"service": e.Key.Service, "account": e.Key.Account, "outcome": string(outcome)}
	did := string(outcome)
	switch {
	case errors.Is(err, credentials.ErrUnavailable), errors.Is(err, credentials.ErrSchema), ctx.Err() != nil:
		return err
	case err != nil:
		i.refused++
		row["outcome"], row["error"] = "refused", oneLine(err)
		did = "refused: " + oneLine(err)
	default:
		i.counts[outcome]++
	}
	i.rows = append(i.rows, row)
	_, _ = fmt.Fprintf(&i.lines, "%s %s\n", e.Key, did)
	return nil
}

// String is the result for people.
func (i *importer) String() string {
	end := "\n"
	if i.options.DryRun {
		end = "; nothing was written\n"
	}
	return fmt.Sprintf("%s%d imported, %d replaced, %d kept, %d refused%s",
		i.lines.String(), i.counts[mysql.ImportedNew], i.counts[mysql.ImportedReplaced],
		i.counts[mysql.ImportedKept], i.refused, end)
}
