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
		Description: `The grant is one JSON object on stdin, or in the file that --from names,
since others can see arguments. All members are optional; with a refresh token alone, or with
nothing, the first caller has it exchanged:

  {"token": "…", "lifetime": "1h", "refresh_token": "…", "refresh_lifetime": "720h", "extra": {"instance_url": "…"}}

Example: demo put xero alice < grant.json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Value: "-", Usage: "the `FILE` with the grant; - is stdin"},
		},
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

// maxGrant bounds the grant's text: two tokens, and the entries beside them.
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
		return credentials.Grant{}, fmt.Errorf("the text %s is larger than %d MiB, and so no grant; %s",
			where, maxGrant>>20, grantForm)
	}
	return parseGrant(text, where)
}

// grantForm is the remedy for a grant that cannot be read.
const grantForm = `give one JSON object such as {"refresh_token": "…"}; see demo put --help`

// parseGrant reads the JSON of a grant; where says for errors where it came from. No error quotes
// the grant.
func parseGrant(text []byte, where string) (credentials.Grant, error) {
	given, err := decodeGrant(text, where)
	if err != nil {
		return credentials.Grant{}, err
	}
	grant := credentials.Grant{
		AccessToken:  credentials.NewSecret(given.Token),
		RefreshToken: credentials.NewSecret(given.RefreshToken),
	}
	if len(given.Extra) > 0 {
		grant.Extra = make(map[string]credentials.Secret, len(given.Extra))
		for name, value := range given.Extra {
			grant.Extra[name] = credentials.NewSecret(value)
		}
	}
	if grant.Lifetime, err = parseLifetime("lifetime", given.Lifetime); err != nil {
		return credentials.Grant{}, err
	}
	grant.RefreshLifetime, err = parseLifetime("refresh_lifetime", given.RefreshLifetime)
	return grant, err
}

// givenGrant is the JSON of a grant.
type givenGrant struct {
	Token           string            `json:"token"`
	RefreshToken    string            `json:"refresh_token"`
	Lifetime        string            `json:"lifetime"`
	RefreshLifetime string            `json:"refresh_lifetime"`
	Extra           map[string]string `json:"extra"`
}

func decodeGrant(text []byte, where string) (*givenGrant, error) {
	var given *givenGrant
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		return nil, explainJSON(err, where)
	}
	if err := decoder.Decode(new(json.RawMessage)); !errors.Is(err, io.EOF) {
		return nil, errors.New(
			"the grant is followed by something else; give one JSON object")
	}
	if given == nil { // an empty object is a grant, for client credentials; null is a mistake
		return nil, errors.New("the grant is null; " + grantForm)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, explainJSON(err, where)
	}
	tokens := map[string]string{"token": given.Token, "refresh_token": given.RefreshToken}
	for name, value := range tokens {
		if _, named := members[name]; named && value == "" { // or null: of a variable that was not set
			return nil, fmt.Errorf(
				"the grant's %q is empty; leave it out where there is none", name)
		}
	}
	return given, nil
}

// parseLifetime reads a member of the grant; zero for one that is absent.
func parseLifetime(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	lifetime, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf(
			`the grant's %q is not a duration; write it as in "1h", "90s" or "720h"`, name)
	}
	if lifetime == 0 {
		return 0, fmt.Errorf(
			"the grant's %q is 0; leave it out where the provider did not say", name)
	}
	return lifetime, nil
}

// explainJSON says what is wrong with the grant's JSON and where, and quotes nothing of the grant.
func explainJSON(err error, where string) error {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("there is no grant %s; %s", where, grantForm)
	case errors.As(err, &syntax):
		return fmt.Errorf("the grant is not JSON, from byte %d on; %s", syntax.Offset, grantForm)
	case errors.As(err, &mismatch):
		return fmt.Errorf("the grant's %q has the JSON type %s; "+
			"all members are strings, and \"extra\" an object of strings",
			mismatch.Field, jsonKind(mismatch.Value))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the grant's JSON ends too soon; " + grantForm)
	}
	// A member is not known. Its name may be a token that stands in the wrong place.
	return errors.New("the grant has a member that is none of " +
		"token, refresh_token, lifetime, refresh_lifetime and extra; " + grantForm)
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
