package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// sweep is what a subcommand does to many credentials of a service, batch by batch.
type sweep struct {
	service string
	noun    string // "grant"
	verb    string // "revive"
	past    string // "revived": the member of the JSON object, too

	// do makes the changes, or counts them in a dry run, and calls each with the credentials.
	do func(store *mysql.Store, each func(credentials.Key)) (int, error)
}

// run makes the changes and says which credentials were changed. A command that was broken off may
// be repeated.
func (s sweep) run(ctx context.Context, cmd *cli.Command) error {
	dryRun, by := cmd.Bool("dry-run"), byOf(cmd)
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		var names strings.Builder
		accounts := []string{}
		n, err := s.do(store, func(key credentials.Key) {
			accounts = append(accounts, key.Account)
			_, _ = fmt.Fprintln(&names, key)
		})
		if n > 0 && !dryRun {
			audit(ctx, cmd, s.noun+"s "+s.past, "service", s.service, s.past, n, "by", by)
		}
		switch {
		case err != nil && n > 0:
			return fmt.Errorf("%s %s, then: %w; the same command goes on", count(n, s.noun), s.past, err)
		case err != nil:
			return err
		}
		told := map[string]any{
			"service": s.service, "dry_run": dryRun, s.past: n, "accounts": accounts, "by": by,
		}
		return emit(cmd, told, func() string {
			done := s.past
			if dryRun {
				done = "to " + s.verb
			}
			return fmt.Sprintf("%s%s of %s %s\n", names.String(), count(n, s.noun), s.service, done)
		})
	})
}
