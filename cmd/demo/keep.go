package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func keepCommand() *cli.Command {
	return &cli.Command{
		Name:  "keep",
		Usage: "renew credentials when they become due, until it is interrupted",
		Description: `Any number of processes may run it, on the same services or on others: the
rows decide between them. It renews the credentials of the services that --service names, all at
one provider; those of other services are left to others. The client's secret is taken from
$CLIENT_SECRET.

On a terminal it shows on stderr how each service is doing, else it logs the changes there, at most
every 10 s. When it is interrupted (Ctrl-C, SIGTERM) it lets the exchanges end that are under way,
says what was done, and exits with status 0.

Example: CLIENT_SECRET=… demo keep --service xero --token-url https://identity.xero.com/connect/token --client-id 1234 --rate 5`,
		Flags:  slices.Concat(providerFlags(), keeperFlags()),
		Action: runKeep,
	}
}

func runKeep(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return usagef(cmd, "keep takes no arguments, got %q; --service names the service",
			cmd.Args().First())
	}
	k, err := keeperOf(ctx, cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		view := newKeepView(cmd.Root().ErrWriter, k.services)
		if err := k.open(store, fewLines(view)); err != nil {
			return err
		}
		view.stats, view.due = k.keeper.Stats, store.DueServices
		view.log = slog.New(slog.NewTextHandler(view, nil))
		note(cmd, "renewing what is due, until interrupted (Ctrl-C)")

		var watching sync.WaitGroup
		watching.Go(func() { view.watch(ctx) })
		err := k.keeper.Run(ctx)
		if ctx.Err() == nil {
			return err // the keeper ends for no other reason
		}
		watching.Wait()
		view.clear()
		if n := exchanging(k.keeper); n > 0 {
			note(cmd, "interrupted: %s under way, given %v to end",
				count(n, "exchange"), closeTimeout(k.timeout))
		}
		closeErr := k.close(ctx)
		list := listStats(k.services, k.keeper.Stats())
		err = emit(cmd, map[string]any{"services": list}, func() string {
			return statsLines(list, shownStats.String)
		})
		if err != nil {
			return err
		}
		if closeErr != nil {
			note(cmd, "demo: %s", oneLine(closeErr))
			return errReported
		}
		return nil // an interrupt is the normal end of the command
	})
}

// keeperCommand is a command that has a keeper: its flags as they were read and, once it is open,
// the keeper and its manager.
type keeperCommand struct {
	services credentials.Services
	options  *credentials.KeeperOptions
	timeout  time.Duration

	manager *credentials.Manager
	keeper  *credentials.Keeper
}

// keeperOf reads the flags.
func keeperOf(ctx context.Context, cmd *cli.Command) (*keeperCommand, error) {
	options, err := keeperOptions(cmd)
	if err != nil {
		return nil, err
	}
	services, err := servicesOf(ctx, cmd)
	if err != nil {
		return nil, err
	}
	timeout, err := timeoutOf(cmd)
	return &keeperCommand{services: services, options: options, timeout: timeout}, err
}

func (k *keeperCommand) open(store *mysql.Store, log *slog.Logger) (err error) {
	if k.manager, err = newManager(store, k.services, k.timeout, log); err != nil {
		return err
	}
	k.keeper, err = credentials.NewKeeper(k.manager, k.options)
	return err
}

func (k *keeperCommand) close(ctx context.Context) error {
	return closeManager(ctx, k.manager, k.timeout)
}

// exchanging is how many exchanges the keeper has under way.
func exchanging(keeper *credentials.Keeper) int {
	n := 0
	for _, s := range keeper.Stats() {
		n += s.Exchanging
	}
	return n
}

// shownStats is a keeper's work for one service, as it is printed.
type shownStats struct {
	Service    string `json:"service"`
	Renewed    int    `json:"renewed"`
	Dead       int    `json:"dead"`
	Failed     int    `json:"failed"`
	Exchanging int    `json:"exchanging,omitempty"` // the command did not wait for their outcome
	Down       bool   `json:"provider_down"`
	MassDeath  bool   `json:"mass_death"`
	Unknown    bool   `json:"left"` // no --service names it
}

// listStats has all services by name: those that --service names, and those of which something was
// due.
func listStats(
	services credentials.Services, stats map[string]credentials.KeeperStats,
) []shownStats {
	all := maps.Clone(stats)
	for name := range services {
		all[name] = stats[name]
	}
	list := make([]shownStats, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		list = append(list, shownStats{
			Service: name, Renewed: s.Renewed, Dead: s.Dead, Failed: s.Failed,
			Exchanging: s.Exchanging, Down: s.ProviderDown, MassDeath: s.MassDeath, Unknown: s.UnknownService,
		})
	}
	return list
}

// statsLines is a line for each service.
func statsLines(list []shownStats, say func(shownStats) string) string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range list {
		_, _ = fmt.Fprintf(out, "%s\t%s\n", s.Service, say(s))
	}
	_ = out.Flush() // to a strings.Builder
	return b.String()
}

// massDeath says what the keeper stopped for.
const massDeath = "the provider calls one grant after the other dead: is the client right?"

func (s shownStats) String() string {
	if s.Unknown {
		return "due, but left: no --service names it"
	}
	text := fmt.Sprintf("%d renewed, %d dead, %d failed", s.Renewed, s.Dead, s.Failed)
	if s.Exchanging > 0 {
		text += fmt.Sprintf(", %d not waited for", s.Exchanging)
	}
	switch {
	case s.Down:
		text += "; the provider is down, and what else is due was left"
	case s.MassDeath:
		text += "; " + massDeath + ", and what else is due was left"
	}
	return text
}
