package main

import (
	"bytes"
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
	in, where := cmd.Root().Reader, "on stdin"
	if name := cmd.String("from"); name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return credentials.Grant{}, fmt.Errorf("read the grant: %w", err)
		}
		defer func() { _ = file.Close() }()
		in, where = file, "in "+name
	} else if isTerminal(in) {
		note(cmd, "reading the grant from the terminal: one JSON object, then Ctrl-D")
	}
	text, err := io.ReadAll(io.LimitReader(in, maxGrant+1))
	switch {
	case err != nil:
		return credentials.Grant{}, fmt.Errorf("read the grant: %w", err)
	case len(text) > maxGrant:
		return credentials.Grant{}, fmt.Errorf("what is %s is larger than %d MiB, and so no grant; %s", where, maxGrant>>20, grantForm)
	}
	return parseGrant(text, where)
}

// grantForm is what to do about a grant that cannot be read.
const grantForm = `give one JSON object such as {"refresh_token": "…"}; see demo put --help`

// parseGrant reads the JSON of put, which came from where. Its errors quote nothing of it.
func parseGrant(text []byte, where string) (credentials.Grant, error) {
	var given *struct {
		Token           string            `json:"token"`
		RefreshToken    string            `json:"refresh_token"`
		Lifetime        string            `json:"lifetime"`
		RefreshLifetime string            `json:"refresh_lifetime"`
		Extra           map[string]string `json:"extra"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		return credentials.Grant{}, explainJSON(err, where)
	}
	if err := decoder.Decode(new(json.RawMessage)); !errors.Is(err, io.EOF) {
		return credentials.Grant{}, errors.New("the grant is followed by something else; give one JSON object")
	}
	if given == nil { // an object without members is a grant, for client credentials; this is rather a mistake
		return credentials.Grant{}, errors.New("the grant is null; " + grantForm)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return credentials.Grant{}, explainJSON(err, where)
	}
	for name, value := range map[string]string{"token": given.Token, "refresh_token": given.RefreshToken} {
		if _, named := members[name]; named && value == "" { // null too: of a variable that was not set, say
			return credentials.Grant{}, fmt.Errorf("the grant's %q is empty; leave it out where there is none", name)
		}
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
func explainJSON(err error, where string) error {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("there is no grant %s; %s", where, grantForm)
	case errors.As(err, &syntax):
		return fmt.Errorf("the grant is not JSON, from byte %d on; %s", syntax.Offset, grantForm)
	case errors.As(err, &mismatch):
		return fmt.Errorf("the grant's %q has the JSON type %s; all members are strings, and \"extra\" an object of strings",
			mismatch.Field, jsonKind(mismatch.Value))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the grant's JSON ends too soon; " + grantForm)
	}
	// What is left is a member that is not known. Its name may be a token that stands in the wrong place.
	return errors.New("the grant has a member that is none of token, refresh_token, lifetime, refresh_lifetime and extra; " + grantForm)
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
