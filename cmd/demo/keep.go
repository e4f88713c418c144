package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func keepCommand() *cli.Command {
	return &cli.Command{
		Name:  "keep",
		Usage: "renew credentials when they become due, until it is interrupted",
		Description: `Any number of processes may run it, on the same services or on others: the rows decide between them. It renews the
credentials of the services that --service names, all at one provider; those of other services are left to others. The
client's secret is taken from $CLIENT_SECRET.

On a terminal it shows on stderr how each service is doing, else it logs there what changed, at most every 10 s. When it is
interrupted (Ctrl-C, SIGTERM) it lets the exchanges end that are under way, says what was done, and exits with status 0.

Example: CLIENT_SECRET=… demo keep --service xero --token-url https://identity.xero.com/connect/token --client-id 1234 --rate 5`,
		Flags:  append(providerFlags(), policyFlags()...),
		Action: runKeep,
	}
}

func runKeep(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return usagef(cmd, "keep takes no arguments, got %q; --service names the service", cmd.Args().First())
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
		view := newKeepView(cmd.Root().ErrWriter, services)
		manager, err := newManager(store, services, timeout, fewLines(view))
		if err != nil {
			return err
		}
		view.kept, view.due, view.log = manager.Kept, store.DueServices, slog.New(slog.NewTextHandler(view, nil))
		note(cmd, "renewing what is due, until interrupted (Ctrl-C)")

		var watching sync.WaitGroup
		watching.Go(func() { view.watch(ctx) })
		err = manager.Keep(ctx)
		if ctx.Err() == nil {
			return err // it ends for no other reason
		}
		watching.Wait()
		view.clear()
		if n := exchanging(manager); n > 0 {
			note(cmd, "interrupted: %s under way, given %v to end", count(n, "exchange"), closing(timeout))
		}
		closeErr := closeManager(ctx, manager, timeout)
		list := listKept(services, manager.Kept())
		if err := emit(cmd, map[string]any{"services": list}, func() string { return lines(list, shownKept.String) }); err != nil {
			return err
		}
		if closeErr != nil {
			note(cmd, "demo: %s", oneLine(closeErr))
			return errReported
		}
		return nil // being interrupted is how it ends
	})
}

// exchanging is how many exchanges the keeper has under way.
func exchanging(manager *credentials.Manager) int {
	n := 0
	for _, k := range manager.Kept() {
		n += k.Exchanging
	}
	return n
}
