package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// runRefreshDue is refresh with --due.
func runRefreshDue(ctx context.Context, cmd *cli.Command) error {
	switch {
	case cmd.Args().Present():
		return usagef(cmd, "refresh --due takes no arguments, got %q; --service names the service", cmd.Args().First())
	case cmd.IsSet("reveal"):
		return usagef(cmd, "--reveal is not for --due, which shows no credentials")
	}
	services, err := servicesOf(ctx, cmd)
	if err != nil {
		return err
	}
	timeout, err := timeoutOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		manager, err := newManager(store, services, timeout, fewLines(cmd.Root().ErrWriter))
		if err != nil {
			return err
		}
		_, passErr := manager.RefreshDue(ctx)
		// It waited for the exchanges, unless it was interrupted.
		if err := closeManager(ctx, manager, timeout); err != nil {
			note(cmd, "%s", oneLine(err))
		}
		kept := manager.Kept()
		if passErr != nil && len(kept) == 0 {
			return passErr
		}
		ok := passErr == nil
		for _, k := range kept {
			ok = ok && k.Failed == 0 && !k.Down
		}
		list := listKept(services, kept)
		err = emit(cmd, map[string]any{"ok": ok, "services": list}, func() string { return dueLines(list, kept) })
		switch {
		case err != nil:
			return err
		case passErr != nil:
			return passErr
		case !ok:
			return errReported
		}
		return nil
	})
}

// dueLines is the list for people, given of which services something was due.
func dueLines(list []shownKept, due map[string]credentials.Kept) string {
	if len(due) == 0 {
		return "nothing was due\n"
	}
	return lines(list, func(s shownKept) string {
		if _, ok := due[s.Service]; !ok {
			return "nothing was due"
		}
		return s.String()
	})
}
