package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func rekeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "rekey",
		Usage: "re-seal under the primary key the rows of older keys, and seal plain rows",
		Description: `Services go on meanwhile: a row is written if nobody wrote it since it was read.
An interrupt (Ctrl-C, SIGTERM) ends the command after a batch, and the last line says where to go
on. The result has the number of rows that need each key. The exit status is 1 while a row is left
that is not sealed under the primary key; with --dry-run, too.

Example: demo rekey --keyset keyset.json --rate 2000
Example: demo rekey --keyset keyset.json --dry-run --json`,
		Flags:  pagingFlags(),
		Action: runRekey,
	}
}

func adoptCommand() *cli.Command {
	return &cli.Command{
		Name:  "adopt",
		Usage: "take over the rows of another deployment, whose table was copied to here",
		Description: `The rows of the deployment that --from names become those of --deployment, and
are sealed under the keys of --keyset, which must open them. Make sure first that the other
deployment does not work on the same grants any more: both would present the same refresh tokens. A
row that is being exchanged is left. The exit status is 1 while rows of that deployment are left;
with --dry-run, too.

Example: demo adopt --from production --deployment staging --keyset keyset.json --dry-run`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{
				Name: "from", Required: true, Usage: "the `NAME` of the deployment that the rows are of",
			},
		}, pagingFlags()...),
		Action: runAdopt,
	}
}

// pagingFlags say how a command goes through all rows; pagingOf reads them.
func pagingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.FloatFlag{Name: "rate", Usage: "rows that are read per second; 0: as fast as it goes"},
		&cli.IntFlag{
			Name: "batch", Value: mysql.DefaultResealBatch,
			Usage: "rows that one transaction writes, which are locked meanwhile",
		},
		&cli.Uint64Flag{Name: "after", HideDefault: true, Usage: "go on behind the row of that `ID`, " +
			"where an interrupted command stopped"},
		&cli.BoolFlag{Name: "dry-run", Usage: "count the rows, and change nothing"},
	}
}

func pagingOf(cmd *cli.Command) (mysql.ResealOptions, error) {
	if err := noArguments(cmd); err != nil {
		return mysql.ResealOptions{}, err
	}
	rate, batch := cmd.Float("rate"), cmd.Int("batch")
	switch {
	case !(rate >= 0) || math.IsInf(rate, 1): // NaN is not either
		return mysql.ResealOptions{}, usagef(cmd, "--rate is %v; it must be a number that is not negative", rate)
	case batch < 1: // 0 means the default to the library
		return mysql.ResealOptions{}, usagef(cmd, "--batch is %d; at least 1 is needed", batch)
	}
	return mysql.ResealOptions{
		After: cmd.Uint64("after"), Rate: rate, Batch: batch, DryRun: cmd.Bool("dry-run"),
	}, nil
}

func runRekey(ctx context.Context, cmd *cli.Command) error {
	paging, err := pagingOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		shown, err := goThrough(ctx, cmd, paging, store.Reseal)
		if err == nil {
			err = shown.countKeys(ctx, store)
		}
		return shown.end(cmd, "re-sealed", err)
	})
}

func runAdopt(ctx context.Context, cmd *cli.Command) error {
	paging, err := pagingOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		adopt := func(ctx context.Context, paging mysql.ResealOptions) (mysql.Resealed, error) {
			return store.Adopt(ctx, cmd.String("from"), paging)
		}
		shown, err := goThrough(ctx, cmd, paging, adopt)
		return shown.end(cmd, "adopted", err)
	})
}

// shownReseal is what a command did that goes through all rows, as it is printed.
type shownReseal struct {
	OK         bool              `json:"ok"`
	DryRun     bool              `json:"dry_run"`
	After      uint64            `json:"after"` // the last row that was dealt with
	Rows       int               `json:"rows"`
	Written    int               `json:"written"`
	Current    int               `json:"current"`
	Left       int               `json:"left"`
	Foreign    int               `json:"foreign"`
	Unreadable []shownUnreadable `json:"unreadable"`
	Keys       *shownKeyCount    `json:"keys,omitempty"` // absent where nobody has counted
}

// shownUnreadable is a row that does not open.
type shownUnreadable struct {
	Service string `json:"service"`
	Account string `json:"account"`
	Error   string `json:"error"`
}

// shownKeyCount says how many rows of the table need which key.
type shownKeyCount struct {
	Primary uint32         `json:"primary"`
	Rows    map[uint32]int `json:"rows"` // by the id of the key
	Plain   int            `json:"plain"`
	Unnamed int            `json:"unnamed"`
}

// goThrough calls do, shows its progress on a terminal, and collects what it did.
func goThrough(
	ctx context.Context, cmd *cli.Command, paging mysql.ResealOptions,
	do func(context.Context, mysql.ResealOptions) (mysql.Resealed, error),
) (*shownReseal, error) {
	s := &shownReseal{DryRun: paging.DryRun, Unreadable: []shownUnreadable{}}
	status := newStatus(cmd.Root().ErrWriter)
	defer status.clear()
	paging.Each = func(done mysql.Resealed) {
		status.show(fmt.Sprintf("%d rows read, %d written", done.Rows, done.Written))
	}
	paging.Unreadable = func(key credentials.Key, err error) {
		s.Unreadable = append(s.Unreadable, shownUnreadable{
			Service: key.Service, Account: key.Account, Error: (&storeError{err}).Error(),
		})
	}
	done, err := do(ctx, paging)
	s.After, s.Rows, s.Written, s.Current = done.Last, done.Rows, done.Written, done.Current
	s.Left, s.Foreign = done.Left, done.Foreign
	s.OK = err == nil && s.Left == 0 && len(s.Unreadable) == 0 && (!s.DryRun || s.Written == 0)
	return s, err
}

// countKeys adds the number of rows that need each key.
func (s *shownReseal) countKeys(ctx context.Context, store *mysql.Store) error {
	count, err := store.CountKeys(ctx)
	if err != nil {
		s.OK = false
		return err
	}
	s.Keys = &shownKeyCount{
		Primary: count.Primary, Rows: count.Keys, Plain: count.Plain, Unnamed: count.Unnamed,
	}
	// Without a keyset, rekey writes the deployment's name alone.
	s.OK = s.OK && (count.Primary == 0 || count.Others() == 0)
	return nil
}

// end writes what was done, after an error too, and says how the command ended.
func (s *shownReseal) end(cmd *cli.Command, verb string, err error) error {
	if err != nil && s.Rows == 0 {
		return err
	}
	if emitErr := emit(cmd, s, func() string { return s.lines(verb) }); emitErr != nil {
		return emitErr
	}
	if err != nil {
		note(cmd, "stopped behind the row %d; to go on: demo %s --after %d", s.After, cmd.Name, s.After)
		return err
	}
	if !s.OK {
		return errReported
	}
	return nil
}

// lines is the text for people.
func (s *shownReseal) lines(verb string) string {
	var b strings.Builder
	if s.DryRun {
		verb = "to be " + verb
	}
	fmt.Fprintf(&b, "%s read: %d %s, %d in order, %d left, %d that no key opens, %d of other deployments\n",
		count(s.Rows, "row"), s.Written, verb, s.Current, s.Left, len(s.Unreadable), s.Foreign)
	if s.Keys != nil {
		b.WriteString(s.Keys.lines())
	}
	for _, one := range s.Unreadable[:min(len(s.Unreadable), maxRows)] {
		fmt.Fprintf(&b, "%s: %s\n", credentials.Key{Service: one.Service, Account: one.Account}, one.Error)
	}
	if more := len(s.Unreadable) - maxRows; more > 0 {
		fmt.Fprintf(&b, "and %d more; --json has all\n", more)
	}
	return b.String()
}

// lines has a line for each key.
func (c *shownKeyCount) lines() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(c.Rows)) {
		primary := ""
		if id == c.Primary {
			primary = ", the primary"
		}
		fmt.Fprintf(&b, "%s under the key %d%s\n", count(c.Rows[id], "row"), id, primary)
	}
	if c.Plain > 0 {
		fmt.Fprintf(&b, "%s not sealed\n", count(c.Plain, "row"))
	}
	if c.Unnamed > 0 {
		fmt.Fprintf(&b, "%s sealed under a key that is not named\n", count(c.Unnamed, "row"))
	}
	return b.String()
}
