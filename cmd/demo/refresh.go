package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func refreshCommand() *cli.Command {
	return &cli.Command{
		Name: "refresh",
		Usage: "have one credential's token exchanged now, as if its API had turned it down; " +
			"or all that are due",
		ArgsUsage: keyUsage + " | --due --service NAME",
		Description: `The client's secret is taken from $CLIENT_SECRET. If another process is
exchanging the same credential, its result is taken and no second exchange is made.

With --due, all credentials of the services that --service names are renewed that are due now, one
pass of what keep does: for a cron job. Those of other services are left, and reported. The exit
status is 1 if an exchange failed or the provider is down; what was left undone is up to the next
pass. A grant that the provider declared dead is reported once, and does not fail the command: it
takes a new authorization.

Example: CLIENT_SECRET=… demo refresh xero alice --token-url https://identity.xero.com/connect/token --client-id 1234
Example: CLIENT_SECRET=… demo refresh --due --service xero --token-url https://identity.xero.com/connect/token --client-id 1234`,
		Flags: slices.Concat(
			providerFlags(),
			[]cli.Flag{
				revealFlag(),
				&cli.BoolFlag{
					Name: "due",
					Usage: "renew all credentials that are due, and take no arguments; " +
						"the options below go with it",
				},
			},
			keeperFlags(),
		),
		Action: runRefresh,
	}
}

func runRefresh(ctx context.Context, cmd *cli.Command) error {
	if cmd.Bool("due") {
		return runRefreshDue(ctx, cmd)
	}
	for _, flag := range keeperFlags() {
		if name := flag.Names()[0]; cmd.IsSet(name) {
			return usagef(cmd, "--%s is for --due; without it, the arguments name one credential", name)
		}
	}
	key, err := keyOf(cmd)
	if err != nil {
		return err
	}
	refresher, err := refresherOf(cmd)
	if err != nil {
		return err
	}
	timeout, err := timeoutOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		before, err := store.Get(ctx, key)
		if err != nil {
			return withRemedy(err, key)
		}
		silent := slog.New(slog.DiscardHandler) // an error is returned, and need not be logged too
		// A person asks for the exchange, who may do so twice.
		service := credentials.Service{Refresher: refresher, MinTokenAge: time.Nanosecond}
		services := credentials.Services{key.Service: service}
		manager, err := newManager(store, services, timeout, silent)
		if err != nil {
			return err
		}
		// A user who interrupts the command ends the wait for the exchange, and not the exchange.
		defer func() { _ = closeManager(ctx, manager, timeout) }()
		turnedDown := credentials.Token{Value: before.AccessToken}
		if _, err := manager.Invalidate(ctx, key, turnedDown); err != nil {
			return err
		}
		return emitRow(ctx, cmd, store, key)
	})
}

// runRefreshDue is refresh with --due.
func runRefreshDue(ctx context.Context, cmd *cli.Command) error {
	switch {
	case cmd.Args().Present():
		return usagef(cmd, "refresh --due takes no arguments, got %q; --service names the service",
			cmd.Args().First())
	case cmd.IsSet("reveal"):
		return usagef(cmd, "--reveal is not for --due, which shows no credentials")
	}
	k, err := keeperOf(ctx, cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		if err := k.open(store, fewLines(cmd.Root().ErrWriter)); err != nil {
			return err
		}
		_, passErr := k.keeper.RunOnce(ctx)
		// An interrupted pass leaves exchanges under way.
		if err := k.close(ctx); err != nil {
			note(cmd, "%s", oneLine(err))
		}
		stats := k.keeper.Stats()
		if passErr != nil && len(stats) == 0 {
			return passErr
		}
		ok := passErr == nil
		for _, s := range stats {
			ok = ok && s.Failed == 0 && !s.ProviderDown && !s.MassDeath
		}
		list := listStats(k.services, stats)
		object := map[string]any{"ok": ok, "services": list}
		err := emit(cmd, object, func() string { return dueLines(list, stats) })
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

// dueLines is the list for people. due has the services of which something was due.
func dueLines(list []shownStats, due map[string]credentials.KeeperStats) string {
	if len(due) == 0 {
		return "nothing was due\n"
	}
	return statsLines(list, func(s shownStats) string {
		if _, ok := due[s.Service]; !ok {
			return "nothing was due"
		}
		return s.String()
	})
}
