package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

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

// shownKept is what was done for a service, as it is printed.
type shownKept struct {
	Service    string `json:"service"`
	Renewed    int    `json:"renewed"`
	Rejected   int    `json:"rejected"`
	Failed     int    `json:"failed"`
	Exchanging int    `json:"exchanging,omitempty"` // whose outcome was not waited for
	Down       bool   `json:"provider_down"`
	Unknown    bool   `json:"left"` // since --service does not name it
}

// listKept has all services by name: those that --service names, and those of which something was due.
func listKept(services credentials.Services, kept map[string]credentials.Kept) []shownKept {
	all := maps.Clone(kept)
	for name := range services {
		all[name] = kept[name]
	}
	list := make([]shownKept, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		k := all[name]
		list = append(list, shownKept{name, k.Renewed, k.Rejected, k.Failed, k.Exchanging, k.Down, k.Unknown})
	}
	return list
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

// lines is a line for each service.
func lines(list []shownKept, say func(shownKept) string) string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range list {
		_, _ = fmt.Fprintf(out, "%s\t%s\n", s.Service, say(s))
	}
	_ = out.Flush() // to a strings.Builder
	return b.String()
}

func (s shownKept) String() string {
	if s.Unknown {
		return "due, but left: no --service names it"
	}
	text := fmt.Sprintf("%d renewed, %d rejected, %d failed", s.Renewed, s.Rejected, s.Failed)
	if s.Exchanging > 0 {
		text += fmt.Sprintf(", %d not waited for", s.Exchanging)
	}
	if s.Down {
		text += "; the provider is down, and what else is due was left"
	}
	return text
}
