package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// lifetimesFlags are those of a storm over several lifetimes.
func lifetimesFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "lifetimes", Value: storm.DefaultLifetimes, HideDefault: true, Usage: fmt.Sprintf(
			"a storm over `N` lifetimes of a token, without rounds and faults (default: %d, if there is a --lifetime)", storm.DefaultLifetimes)},
		&cli.DurationFlag{Name: "lifetime", Value: storm.DefaultLifetime, HideDefault: true, Usage: fmt.Sprintf(
			"how long tokens live in such a storm, in whole seconds, 2s or more (default: %v, if there are --lifetimes)", storm.DefaultLifetime)},
	}
}

// withLifetimes adds to cfg what the command line says about lifetimes: either of its two flags asks for such a storm.
func withLifetimes(cmd *cli.Command, cfg storm.Config) (storm.Config, error) {
	if !cmd.IsSet("lifetimes") && !cmd.IsSet("lifetime") {
		return cfg, nil
	}
	for _, name := range []string{"rounds", "kill", "pause", "restart", "chaos"} {
		if cmd.IsSet(name) {
			return cfg, usagef(cmd, "--%s is not for --lifetimes and --lifetime, with which tokens expire by themselves and nothing goes wrong on purpose", name)
		}
	}
	if n := cmd.Int("lifetimes"); n < 1 {
		return cfg, usagef(cmd, "--lifetimes is %d; at least 1 is needed", n)
	}
	if d := cmd.Duration("lifetime"); d <= 0 {
		return cfg, usagef(cmd, "--lifetime is %v; it must be more than 0", d)
	}
	cfg.Lifetimes, cfg.Lifetime = cmd.Int("lifetimes"), cmd.Duration("lifetime")
	return cfg, nil
}

// lifetimesVerdict is a storm over several lifetimes in a few sentences.
func lifetimesVerdict(r storm.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s × %s × %s over %s of %v on %s: %s, %s by %s, %s.\n",
		count(r.Processes, "process"), count(r.Threads, "thread"), count(r.Accounts, "account"),
		count(r.Renewals.Lifetimes, "lifetime"), time.Duration(r.LifetimeMS*float64(time.Millisecond)), r.Server,
		count(r.Callers, "call"), count(r.Refreshes.Calls, "exchange"), count(r.Renewers, "process"), count(r.ClaimsLost, "claim")+" lost to another")
	fmt.Fprintf(&b, "%s waited for an exchange, which takes %.1f ms. Connections held during one: %d.\n",
		count(r.CallersWaited, "caller"), r.EndpointLatencyMS, r.HeldConnections.Max)
	s := r.ServedAfterReplaced
	fmt.Fprintf(&b, "A token was served for up to %.1f ms after the provider had issued the next one (p99 %.1f): %.1f where it was renewed, %.1f elsewhere.\n",
		s.Max, s.P99, s.MaxInRenewer, s.MaxInOthers)
	return b.String() + okOrBroken(r, "one exchange for each expiry, and nobody waited for it.")
}
