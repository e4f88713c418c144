package main

import (
	"context"
	"maps"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
)

// policyFlags say of which services of the provider what is due is renewed, and how; servicesOf reads them.
func policyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "service", Usage: "the `NAME` of a service of that provider; may be repeated"},
		&cli.FloatFlag{Name: "rate", Usage: "exchanges per second that it begins for each service; 0: no limit but --parallel"},
		&cli.IntFlag{Name: "parallel", Value: credentials.DefaultKeepParallel, Usage: "exchanges that it makes for each service at the same time"},
		&cli.DurationFlag{Name: "keep-alive", Usage: "renews what was not used for so long, whatever the token's life, since the provider ends idle grants; 0: it does not"},
		&cli.DurationFlag{Name: "ahead", Usage: "how long before its end a token is due that is issued now; 0: in the last fifth of its life, at most 5m before"},
	}
}

// servicesOf gives the policy of the flags, with their provider, to each service that --service names.
func servicesOf(ctx context.Context, cmd *cli.Command) (credentials.Services, error) {
	switch {
	case !cmd.IsSet("service"):
		return nil, usagef(cmd, "--service is missing: the token endpoint is that of which service?")
	case cmd.Int("parallel") == 0: // which to the library means its default
		return nil, usagef(cmd, "--parallel is 0; at least 1 is needed")
	}
	refresher, err := refresherOf(cmd)
	if err != nil {
		return nil, err
	}
	policy := credentials.Service{
		Refresher:    refresher,
		KeepRate:     cmd.Float("rate"),
		KeepParallel: cmd.Int("parallel"),
		KeepAlive:    cmd.Duration("keep-alive"),
		RefreshAhead: cmd.Duration("ahead"),
	}
	services := make(credentials.Services)
	for _, name := range cmd.StringSlice("service") {
		normalized, err := credentials.NormalizeService(name)
		if err != nil {
			return nil, &usageError{command: cmd.FullName(), err: err}
		}
		services[normalized] = policy
	}
	// NewManager would say the same, but it needs a server.
	check := credentials.ServicesFunc(services.Service)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if _, err := check.Service(ctx, name); err != nil {
			return nil, &usageError{command: cmd.FullName(), err: err}
		}
	}
	return services, nil
}
