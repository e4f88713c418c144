package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// providerFlags say how tokens are exchanged; refresherOf and timeoutOf read them.
func providerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "token-url", Required: true, Usage: "the provider's token endpoint"},
		&cli.StringFlag{Name: "client-id", Required: true, Usage: "the app's id at the provider"},
		&cli.StringFlag{
			Name: "grant", Value: "refresh_token", Usage: "refresh_token or client_credentials",
		},
		authStyleFlag(),
		&cli.StringSliceFlag{
			Name: "scope", Usage: "scope to ask for, with client_credentials; may be repeated",
		},
		&cli.DurationFlag{
			Name: "timeout", Value: credentials.DefaultExchangeTimeout,
			Usage: "how long the exchange may take",
		},
	}
}

func authStyleFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "auth-style", Value: "header",
		Usage: "how the client authenticates: header (HTTP Basic) or body, " +
			"as the provider's documentation says",
	}
}

// authStyleOf reads --auth-style.
func authStyleOf(cmd *cli.Command) (oauth2.AuthStyle, error) {
	switch name := cmd.String("auth-style"); name {
	case "header":
		return oauth2.AuthStyleInHeader, nil
	case "body":
		return oauth2.AuthStyleInParams, nil
	default:
		return 0, usagef(cmd, "--auth-style is %q; use header or body", name)
	}
}

// refresherOf makes the way to the provider from the flags.
func refresherOf(cmd *cli.Command) (*oauth2refresh.Refresher, error) {
	style, err := authStyleOf(cmd)
	if err != nil {
		return nil, err
	}
	id, secret := cmd.String("client-id"), os.Getenv("CLIENT_SECRET")
	tokenURL, scopes := cmd.String("token-url"), cmd.StringSlice("scope")
	switch u, err := url.Parse(tokenURL); {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		// The URL may have a key in its query, and the error quotes the URL: neither is shown.
		return nil, usagef(cmd, "--token-url is not the address of a token endpoint; "+
			"write it as https://HOST/PATH")
	case id == "":
		return nil, usagef(cmd, "--client-id is empty; give the id that the provider gave to the app")
	}
	endpoint := oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: style}
	var refresher *oauth2refresh.Refresher
	switch grant := cmd.String("grant"); grant {
	case "refresh_token":
		if len(scopes) > 0 {
			return nil, usagef(cmd, "--scope goes with --grant client_credentials; "+
				"a refresh token keeps the scope it was granted")
		}
		refresher = oauth2refresh.New(oauth2.Config{ClientID: id, ClientSecret: secret, Endpoint: endpoint})
	case "client_credentials":
		if secret == "" {
			return nil, usagef(cmd, "--grant client_credentials takes a secret beside the id; "+
				"set $CLIENT_SECRET")
		}
		refresher = oauth2refresh.NewClientCredentials(clientcredentials.Config{
			ClientID: id, ClientSecret: secret, TokenURL: tokenURL, AuthStyle: style, Scopes: scopes,
		})
	default:
		return nil, usagef(cmd, "--grant is %q; use refresh_token or client_credentials", grant)
	}
	if err := refresher.Check(); err != nil {
		return nil, &usageError{command: cmd.FullName(), err: err}
	}
	return refresher, nil
}

// keeperFlags say which credentials a keeper renews, and how; servicesOf and keeperOptions read
// them.
func keeperFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "service", Usage: "the `NAME` of a service of that provider; may be repeated",
		},
		&cli.FloatFlag{
			Name: "rate", Usage: "exchanges begun per second for each service; 0: no limit but --parallel",
		},
		&cli.IntFlag{
			Name: "parallel", Value: credentials.DefaultKeepParallel,
			Usage: "exchanges made at the same time for each service",
		},
		&cli.DurationFlag{
			Name: "keep-alive", Usage: "renews a grant that was not used for so long, " +
				"whatever its token's life, since the provider ends idle grants; 0: never",
		},
		&cli.DurationFlag{
			Name: "ahead", Usage: "how long before its end a token that is issued now becomes due; " +
				"0: in the last fifth of its life, at most 5m before",
		},
	}
}

// servicesOf gives the policy of the flags, with their provider, to each service that --service
// names.
func servicesOf(ctx context.Context, cmd *cli.Command) (credentials.Services, error) {
	if !cmd.IsSet("service") {
		return nil, usagef(cmd, "--service is missing: the token endpoint is that of which service?")
	}
	refresher, err := refresherOf(cmd)
	if err != nil {
		return nil, err
	}
	policy := credentials.Service{
		Refresher: refresher, KeepAlive: cmd.Duration("keep-alive"), RefreshAhead: cmd.Duration("ahead"),
	}
	services := make(credentials.Services)
	for _, name := range cmd.StringSlice("service") {
		normalized, err := credentials.NormalizeService(name)
		if err != nil {
			return nil, &usageError{command: cmd.FullName(), err: err}
		}
		services[normalized] = policy
	}
	// NewManager would say the same about the policies, but it needs a server.
	check := credentials.ServicesFunc(services.Service)
	flags := strings.NewReplacer("KeepAlive", "--keep-alive", "RefreshAhead", "--ahead")
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if _, err := check.Service(ctx, name); err != nil {
			return nil, &usageError{command: cmd.FullName(), err: errors.New(flags.Replace(err.Error()))}
		}
	}
	return services, nil
}

// keeperOptions reads a keeper's bounds from its flags.
func keeperOptions(cmd *cli.Command) (*credentials.KeeperOptions, error) {
	rate, parallel := cmd.Float("rate"), cmd.Int("parallel")
	switch {
	case !(rate >= 0) || math.IsInf(rate, 1): // NaN is not either
		return nil, usagef(cmd, "--rate is %v; it must be a number that is not negative", rate)
	case parallel < 1: // 0 means the default to the library
		return nil, usagef(cmd, "--parallel is %d; at least 1 is needed", parallel)
	}
	return &credentials.KeeperOptions{Parallel: parallel, Rate: rate}, nil
}

// beyondExchange is how much longer a lease is than an exchange may take, so that the result is
// saved under the lease.
const beyondExchange = credentials.DefaultLease - credentials.DefaultExchangeTimeout

func timeoutOf(cmd *cli.Command) (time.Duration, error) {
	timeout := cmd.Duration("timeout")
	switch longest := credentials.MaxLease - beyondExchange; {
	case timeout <= 0:
		return 0, usagef(cmd, "--timeout is %v; it must be more than 0", timeout)
	case timeout > longest:
		return 0, usagef(cmd, "--timeout is %v; at most %v are allowed, "+
			"since others wait that long after a holder died", timeout, longest)
	}
	return timeout, nil
}

// newManager makes a manager whose exchanges may take as long as timeout, which timeoutOf checks.
func newManager(
	store *mysql.Store, services credentials.Services, timeout time.Duration, log *slog.Logger,
) (*credentials.Manager, error) {
	return credentials.NewManager(store, services, &credentials.Options{
		ExchangeTimeout: timeout,
		Lease:           timeout + beyondExchange,
		Logger:          log,
	})
}

// closeTimeout is how long closeManager waits for exchanges that may take as long as timeout, and
// for their results to be saved.
func closeTimeout(timeout time.Duration) time.Duration { return timeout + 10*time.Second }

// closeManager lets exchanges end and saves their results, even if ctx has ended.
func closeManager(ctx context.Context, manager *credentials.Manager, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout(timeout))
	defer cancel()
	return manager.Close(ctx)
}
