package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

func putCommand() *cli.Command {
	return &cli.Command{
		Name:      "put",
		Usage:     "store a grant that a person's authorization gave, new or in place of the one there",
		ArgsUsage: keyUsage,
		Description: `The grant is one JSON object on stdin, or in the file that --from names, since others can see arguments. All members
are optional; with a refresh token alone, or with nothing, the first caller has it exchanged:

  {"token": "…", "lifetime": "1h", "refresh_token": "…", "refresh_lifetime": "720h", "extra": {"instance_url": "…"}}

Example: demo put xero alice < grant.json`,
		Flags:  []cli.Flag{&cli.StringFlag{Name: "from", Value: "-", Usage: "the `FILE` with the grant; - is stdin"}},
		Action: runPut,
	}
}

func runPut(ctx context.Context, cmd *cli.Command) error {
	key, err := keyOf(cmd)
	if err != nil {
		return err
	}
	grant, err := readGrant(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(store *mysql.Store) error {
		if err := store.Put(ctx, key, grant); err != nil {
			return err
		}
		stored := map[string]any{"service": key.Service, "account": key.Account, "stored": true}
		return emit(cmd, stored, func() string { return "stored " + key.String() + "\n" })
	})
}

// maxGrant bounds what is read: two tokens, and what came beside them.
const maxGrant = 1 << 20

func readGrant(cmd *cli.Command) (credentials.Grant, error) {
	in := cmd.Root().Reader
	if name := cmd.String("from"); name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return credentials.Grant{}, fmt.Errorf("read the grant: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	} else if isTerminal(in) {
		note(cmd, "reading the grant from the terminal: one JSON object, then Ctrl-D")
	}
	return parseGrant(io.LimitReader(in, maxGrant))
}

// parseGrant reads the JSON of put. Its errors quote nothing of it.
func parseGrant(in io.Reader) (credentials.Grant, error) {
	var given struct {
		Token           string            `json:"token"`
		RefreshToken    string            `json:"refresh_token"`
		Lifetime        string            `json:"lifetime"`
		RefreshLifetime string            `json:"refresh_lifetime"`
		Extra           map[string]string `json:"extra"`
	}
	decoder := json.NewDecoder(in)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		return credentials.Grant{}, explainJSON(err)
	}
	if err := decoder.Decode(new(json.RawMessage)); !errors.Is(err, io.EOF) {
		return credentials.Grant{}, errors.New("the grant is followed by something else; give one JSON object")
	}
	grant := credentials.Grant{
		Token:        credentials.NewSecret(given.Token),
		RefreshToken: credentials.NewSecret(given.RefreshToken),
	}
	if len(given.Extra) > 0 {
		grant.Extra = make(map[string]credentials.Secret, len(given.Extra))
		for name, value := range given.Extra {
			grant.Extra[name] = credentials.NewSecret(value)
		}
	}
	for _, d := range []struct {
		name, text string
		value      *time.Duration
	}{{"lifetime", given.Lifetime, &grant.Lifetime}, {"refresh_lifetime", given.RefreshLifetime, &grant.RefreshLifetime}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.value, err = time.ParseDuration(d.text); err != nil {
			return credentials.Grant{}, fmt.Errorf(`the grant's %q is not a duration; write it as in "1h", "90s" or "720h"`, d.name)
		}
		if *d.value == 0 {
			return credentials.Grant{}, fmt.Errorf("the grant's %q is 0; leave it out where the provider did not say", d.name)
		}
	}
	return grant, nil
}

// explainJSON says what is wrong with the grant's JSON and where, without a word of what was given.
func explainJSON(err error) error {
	const form = `give one JSON object such as {"refresh_token": "…"}; see demo put --help`
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("there is no grant on stdin; " + form)
	case errors.As(err, &syntax):
		return fmt.Errorf("the grant is not JSON, from byte %d on; %s", syntax.Offset, form)
	case errors.As(err, &mismatch):
		return fmt.Errorf("the grant's %q has the JSON type %s; all members are strings, and \"extra\" an object of strings",
			mismatch.Field, jsonKind(mismatch.Value))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the grant's JSON ends too soon; " + form)
	}
	// What is left is a member that is not known. Its name may be a token that stands in the wrong place.
	return errors.New("the grant has a member that is none of token, refresh_token, lifetime, refresh_lifetime and extra; " + form)
}

// jsonKind drops the number that encoding/json puts behind the word.
func jsonKind(value string) string {
	for _, kind := range []string{"number", "string", "array", "object", "bool"} {
		if len(value) >= len(kind) && value[:len(kind)] == kind {
			return kind
		}
	}
	return "value of that kind"
}
