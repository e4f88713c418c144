package main

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

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
	if !cmd.IsSet("service") {
		return nil, usagef(cmd, "--service is missing: the token endpoint is that of which service?")
	}
	policy, err := policyOf(cmd)
	if err != nil {
		return nil, err
	}
	if policy.Refresher, err = refresherOf(cmd); err != nil {
		return nil, err
	}
	services := make(credentials.Services)
	for _, name := range cmd.StringSlice("service") {
		normalized, err := credentials.NormalizeService(name)
		if err != nil {
			return nil, &usageError{command: cmd.FullName(), err: err}
		}
		services[normalized] = policy
	}
	// NewManager would say the same, but it needs a server. What the flags may be was said above, in their names.
	check := credentials.ServicesFunc(services.Service)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if _, err := check.Service(ctx, name); err != nil {
			return nil, &usageError{command: cmd.FullName(), err: err}
		}
	}
	return services, nil
}

// leastKeepAlive is that of package credentials; a test holds it against it.
const leastKeepAlive = time.Minute

// policyOf reads the policy from its flags.
func policyOf(cmd *cli.Command) (credentials.Service, error) {
	rate, parallel, keepAlive, ahead := cmd.Float("rate"), cmd.Int("parallel"), cmd.Duration("keep-alive"), cmd.Duration("ahead")
	var err error
	switch {
	case !(rate >= 0) || math.IsInf(rate, 1): // NaN is not either
		err = usagef(cmd, "--rate is %v; it must be a number that is not negative", rate)
	case parallel < 1: // 0 means the default to the library
		err = usagef(cmd, "--parallel is %d; at least 1 is needed", parallel)
	case keepAlive != 0 && keepAlive < leastKeepAlive:
		err = usagef(cmd, "--keep-alive is %v; at least %v, or 0 for none", keepAlive, leastKeepAlive)
	case ahead < 0:
		err = usagef(cmd, "--ahead is %v; it must not be negative", ahead)
	}
	return credentials.Service{KeepRate: rate, KeepParallel: parallel, KeepAlive: keepAlive, RefreshAhead: ahead}, err
}
