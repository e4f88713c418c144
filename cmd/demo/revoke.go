package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// revokeTimeout is how long the provider's answer is waited for.
const revokeTimeout = 30 * time.Second

// revokeFlags are those of delete that have the provider told.
func revokeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name:  "revoke",
			Usage: "have the provider end the grant too, at its revocation endpoint `URL` (RFC 7009)",
		},
		&cli.StringFlag{Name: "client-id", Usage: "the app's id at the provider, with --revoke"},
		authStyleFlag(),
	}
}

// revocation is the part of delete --revoke that the provider has.
type revocation struct {
	refresher *oauth2refresh.Refresher
	token     credentials.Secret
	deleted   bool
}

// revocationOf reads the flags; nil without --revoke.
func revocationOf(cmd *cli.Command) (*revocation, error) {
	if !cmd.IsSet("revoke") {
		for _, name := range []string{"client-id", "auth-style"} {
			if cmd.IsSet(name) {
				return nil, usagef(cmd, "--%s goes with --revoke", name)
			}
		}
		return nil, nil
	}
	style, err := authStyleOf(cmd)
	if err != nil {
		return nil, err
	}
	at, id := cmd.String("revoke"), cmd.String("client-id")
	switch u, err := url.Parse(at); {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, usagef(cmd,
			"--revoke is not the address of a revocation endpoint; write it as https://HOST/PATH")
	case id == "":
		return nil, usagef(cmd, "--revoke needs --client-id, the id that the provider gave to the app")
	}
	config := oauth2.Config{
		ClientID: id, ClientSecret: os.Getenv("CLIENT_SECRET"), Endpoint: oauth2.Endpoint{AuthStyle: style},
	}
	return &revocation{
		refresher: oauth2refresh.New(config).With(oauth2refresh.Options{RevocationURL: at}),
	}, nil
}

// remove deletes the credential when an exchange that is under way has ended, and keeps the refresh
// token that it had last.
func (r *revocation) remove(ctx context.Context, store *mysql.Store, ch credentials.Change) (err error) {
	r.token, err = credentials.Disconnect(ctx, store, ch, credentials.DefaultLease)
	r.deleted = err == nil
	return err
}

// tell has the provider revoke the token of the credential that was deleted. A provider that does
// not answer changes nothing about the deletion.
func (r *revocation) tell(ctx context.Context, cmd *cli.Command, key credentials.Key) error {
	if !r.deleted {
		return nil
	}
	if r.token.IsZero() {
		note(cmd, "%s had no refresh token, so there was nothing to revoke", key)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	if err := r.refresher.Revoke(ctx, r.token); err != nil {
		return fmt.Errorf("%s is deleted, but its grant may live on: %w", key, err)
	}
	audit(ctx, cmd, "grant revoked", "credential", key.String())
	return nil
}
