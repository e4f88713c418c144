package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
	"github.com/latchkey-go/latchkey/internal/provider"
)

func providerCommand() *cli.Command {
	return &cli.Command{
		Name:  "provider",
		Usage: "run the storm's token endpoint alone, until it is interrupted; needs no server",
		Description: `Refresh tokens rotate, and one that comes back revokes its family. POST
/admin/accounts/NAME authorizes an account and answers with its first refresh token, in the form
that put reads; GET /admin/stats counts the calls. GET /authorize is an authorization endpoint, with
PKCE, whose person consents at once; GET /userinfo is an API. Any client will do, unless --client-id
names one; its secret is then $CLIENT_SECRET.

With --as the endpoint behaves as the pages of a provider say: its words for a dead grant, its grace,
its lifetimes, renewals that are too early. docs/providers.md has the names and the pages.

Example:
  demo provider &
  curl -s -X POST http://127.0.0.1:8085/admin/accounts/alice | demo put example alice
  demo refresh example alice --token-url http://127.0.0.1:8085/token --client-id any
  demo provider --as exact-online --lifetime 1m`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "listen", Value: "127.0.0.1:8085",
				Usage: "`HOST:PORT`; port 0 is a free one. " +
					"Its administration has no password, so the host must be a loopback address",
			},
			&cli.DurationFlag{
				Name: "latency", Value: 200 * time.Millisecond, Usage: "how long a call takes",
			},
			&cli.StringFlag{Name: "as", Usage: "behave as the provider of that `NAME`, such as exact-online"},
			&cli.DurationFlag{
				Name: "lifetime", Value: provider.DefaultLifetime,
				Usage: "how long access tokens live; with --as, that of the provider",
			},
			&cli.DurationFlag{
				Name: "grace",
				Usage: "how long a used refresh token may come back without being taken for a theft; " +
					"with --as, that of the provider",
			},
			&cli.StringFlag{Name: "client-id", Usage: "the only client that is let in"},
		},
		Action: runProvider,
	}
}

func runProvider(ctx context.Context, cmd *cli.Command) (err error) {
	options, err := providerOptions(cmd)
	if err != nil {
		return err
	}
	endpoint, err := provider.Start(cmd.String("listen"), provider.New(options))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endpoint.Close()) }()
	where := map[string]any{"token_url": endpoint.TokenURL(), "admin_url": endpoint.URL + "/admin"}
	err = emit(cmd, where, func() string {
		return fmt.Sprintf("token endpoint: %s\n"+
			"administration: %s/admin (accounts, faults, presentations, stats)\n",
			endpoint.TokenURL(), endpoint.URL)
	})
	if err != nil {
		return err
	}
	<-ctx.Done() // an interrupt is the normal end of the command
	return nil
}

// providerOptions reads the command line.
func providerOptions(cmd *cli.Command) (options provider.Options, err error) {
	if err := noArguments(cmd); err != nil {
		return options, err
	}
	for _, name := range []string{"latency", "lifetime", "grace"} {
		if cmd.Duration(name) < 0 {
			return options, usagef(cmd, "--%s is %v; it must not be negative", name, cmd.Duration(name))
		}
	}
	if cmd.Duration("lifetime") == 0 { // means the default to the provider
		return options, usagef(cmd, "--lifetime is 0s; it must be more than 0")
	}
	listen := cmd.String("listen")
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return options, usagef(cmd, "--listen is %q; write it as HOST:PORT, such as 127.0.0.1:8085", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return options, usagef(cmd, "--listen is %q, which others could reach; "+
			"use a loopback address such as 127.0.0.1:8085", listen)
	}
	options, err = behaviour(cmd)
	if err != nil {
		return options, err
	}
	options.Latency = cmd.Duration("latency")
	if id := cmd.String("client-id"); id != "" {
		options.ClientID, options.ClientSecret = id, os.Getenv("CLIENT_SECRET")
	}
	return options, nil
}

// behaviour returns the options that --as, --lifetime and --grace name.
func behaviour(cmd *cli.Command) (provider.Options, error) {
	lifetime, grace := cmd.Duration("lifetime"), cmd.Duration("grace")
	if !cmd.IsSet("as") {
		return provider.Options{Lifetime: lifetime, Grace: grace}, nil
	}
	var names []string
	for _, preset := range providers.All() {
		if preset.Name != cmd.String("as") {
			names = append(names, preset.Name)
			continue
		}
		if !cmd.IsSet("lifetime") {
			lifetime = 0
		}
		options := provider.As(preset, lifetime)
		if cmd.IsSet("grace") {
			options.Grace = grace
		}
		return options, nil
	}
	return provider.Options{}, usagef(cmd, "--as is %q; the providers are %s",
		cmd.String("as"), strings.Join(names, ", "))
}
