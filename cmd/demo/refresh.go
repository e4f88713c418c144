package main

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

func refreshCommand() *cli.Command {
	return &cli.Command{
		Name:      "refresh",
		Usage:     "have one credential's token exchanged now, as if its API had turned it down; or all that are due",
		ArgsUsage: keyUsage + " | --due --service NAME",
		Description: `The client's secret is taken from $CLIENT_SECRET. If another process is exchanging the same credential, its result is
taken and no second exchange is made.

With --due, all credentials of the services that --service names are renewed that are due now, one pass of what keep does:
for a cron job. Those of other services are left, and reported. The exit status is 1 if an exchange failed or the provider
is down; what was left undone is up to the next pass. A grant that the provider declared dead is reported once, and does
not fail the command: it takes a new authorization.

Example: CLIENT_SECRET=… demo refresh xero alice --token-url https://identity.xero.com/connect/token --client-id 1234
Example: CLIENT_SECRET=… demo refresh --due --service xero --token-url https://identity.xero.com/connect/token --client-id 1234`,
		Flags: slices.Concat(
			providerFlags(),
			[]cli.Flag{
				revealFlag(),
				&cli.BoolFlag{Name: "due", Usage: "renew all credentials that are due, and take no arguments; the options below go with it"},
			},
			policyFlags(),
		),
		Action: runRefresh,
	}
}

// providerFlags say how to have tokens exchanged; refresherOf and timeoutOf read them.
func providerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "token-url", Required: true, Usage: "the provider's token endpoint"},
		&cli.StringFlag{Name: "client-id", Required: true, Usage: "the app's id at the provider"},
		&cli.StringFlag{Name: "grant", Value: "refresh_token", Usage: "refresh_token or client_credentials"},
		&cli.StringFlag{Name: "auth-style", Value: "header", Usage: "how the client authenticates: header (HTTP Basic) or body, as the provider's documentation says"},
		&cli.StringSliceFlag{Name: "scope", Usage: "scope to ask for, with client_credentials; may be repeated"},
		&cli.DurationFlag{Name: "timeout", Value: credentials.DefaultExchangeTimeout, Usage: "how long the exchange may take"},
	}
}

func runRefresh(ctx context.Context, cmd *cli.Command) error {
	if cmd.Bool("due") {
		return runRefreshDue(ctx, cmd)
	}
	for _, flag := range policyFlags() {
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
			return found(err, key)
		}
		nobody := slog.New(slog.DiscardHandler) // what goes wrong is returned
		manager, err := newManager(store, credentials.Services{key.Service: {Refresher: refresher}}, timeout, nobody)
		if err != nil {
			return err
		}
		// The one who asked for it may leave, but what was exchanged is saved.
		defer func() { _ = closeManager(ctx, manager, timeout) }()
		if _, err := manager.Reject(ctx, key, credentials.Token{Value: before.Token}); err != nil {
			return err
		}
		after, err := store.Get(ctx, key)
		if err != nil {
			return found(err, key)
		}
		shown := showCredential(after, cmd.Bool("reveal"))
		return emit(cmd, shown, func() string { return shown.lines(after) })
	})
}

// beyondExchange is how much longer a lease is than an exchange may take, so that what it brought is saved under it.
const beyondExchange = credentials.DefaultLease - credentials.DefaultExchangeTimeout

// newManager makes one whose exchanges may take that long, which timeoutOf checks.
func newManager(store *mysql.Store, services credentials.Services, timeout time.Duration, log *slog.Logger) (*credentials.Manager, error) {
	return credentials.NewManager(store, services, &credentials.Options{
		ExchangeTimeout: timeout,
		Lease:           timeout + beyondExchange,
		Logger:          log,
	})
}

// closing is how long closeManager waits for exchanges that may take that long, and for their results to be saved.
func closing(timeout time.Duration) time.Duration { return timeout + 10*time.Second }

// closeManager lets exchanges end and saves what they brought, even if ctx has ended.
func closeManager(ctx context.Context, manager *credentials.Manager, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing(timeout))
	defer cancel()
	return manager.Close(ctx)
}

func timeoutOf(cmd *cli.Command) (time.Duration, error) {
	timeout := cmd.Duration("timeout")
	switch longest := credentials.MaxLease - beyondExchange; {
	case timeout <= 0:
		return 0, usagef(cmd, "--timeout is %v; it must be more than 0", timeout)
	case timeout > longest:
		return 0, usagef(cmd, "--timeout is %v; at most %v are allowed, since others wait that long after a holder died", timeout, longest)
	}
	return timeout, nil
}

// refresherOf makes the way to the provider from the flags.
func refresherOf(cmd *cli.Command) (*oauth2refresh.Refresher, error) {
	var style oauth2.AuthStyle
	switch name := cmd.String("auth-style"); name {
	case "header":
		style = oauth2.AuthStyleInHeader
	case "body":
		style = oauth2.AuthStyleInParams
	default:
		return nil, usagef(cmd, "--auth-style is %q; use header or body", name)
	}
	id, secret, tokenURL, scopes := cmd.String("client-id"), os.Getenv("CLIENT_SECRET"), cmd.String("token-url"), cmd.StringSlice("scope")
	switch u, err := url.Parse(tokenURL); {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		// Neither the URL nor the error, which quotes it, is shown: it may have a key in its query.
		return nil, usagef(cmd, "--token-url is not the address of a token endpoint; write it as https://HOST/PATH")
	case id == "":
		return nil, usagef(cmd, "--client-id is empty; give the id that the provider gave to the app")
	}
	var refresher *oauth2refresh.Refresher
	switch grant := cmd.String("grant"); grant {
	case "refresh_token":
		if len(scopes) > 0 {
			return nil, usagef(cmd, "--scope goes with --grant client_credentials; a refresh token keeps the scope it was granted")
		}
		refresher = oauth2refresh.New(oauth2.Config{
			ClientID: id, ClientSecret: secret, Endpoint: oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: style},
		})
	case "client_credentials":
		if secret == "" {
			return nil, usagef(cmd, "--grant client_credentials takes a secret beside the id; set $CLIENT_SECRET")
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
