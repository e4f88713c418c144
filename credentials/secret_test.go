package credentials_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// shows prints v in every way that a program does by accident.
func shows(v any) (all []string) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		all = append(all, fmt.Sprintf(verb, v))
	}
	for _, handler := range []func(b *bytes.Buffer) slog.Handler{
		func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("it", "value", v, slog.Group("in", "list", []any{v}))
		all = append(all, b.String())
	}
	for _, f := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		text, err := f(v)
		all = append(all, string(text))
		if err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

// leaks returns how v shows a secret, "" if it does not.
func leaks(v any) string {
	hex := []string{fmt.Sprintf("%x", mark), fmt.Sprintf("%X", mark), fmt.Sprint([]byte(mark))}
	for _, shown := range shows(v) {
		if strings.Contains(shown, mark) || strings.Contains(shown, hex[0]) || strings.Contains(shown, hex[1]) ||
			strings.Contains(shown, strings.Trim(hex[2], "[]")) {
			return shown
		}
	}
	return ""
}

func TestInvariant14SilentSecrets(t *testing.T) {
	s := secret("text")
	extra := map[string]credentials.Secret{"scope": s}
	given := credentials.Grant{Token: s, RefreshToken: s, Extra: extra}
	row := credentials.Credential{Key: alice, Token: s, RefreshToken: s, Extra: extra}
	var token credentials.Token
	inWorld(t, func(w *world) {
		w.seed(alice)
		token = w.start("P").mustGet(alice)
	})
	if token.Extra("tenant").IsZero() {
		t.Fatal("the token has no extra")
	}
	type holder struct {
		Public  credentials.Secret
		private credentials.Secret
		token   *credentials.Token
	}
	// What it is found by has to be able to find it.
	if leaks(s.Reveal()) == "" || leaks(struct{ S string }{s.Reveal()}) == "" {
		t.Fatal("this test would not find a leak")
	}
	for _, v := range []any{
		s, &s, []credentials.Secret{s}, map[string]credentials.Secret{"a": s}, struct{ S credentials.Secret }{s},
		holder{s, s, &token}, &holder{s, s, &token},
		token, &token, []credentials.Token{token}, given, &given, row, &row, []credentials.Credential{row},
		credentials.Renewal{Grant: given}, credentials.Claim{ID: "id", Rejected: s},
		fmt.Errorf("wrapped: %s %+v %#v %v", s, token, given, row),
	} {
		if shown := leaks(v); shown != "" {
			t.Errorf("%T shows a secret: %s", v, shown)
		}
	}
	if text := fmt.Sprint(row); !strings.Contains(text, "github") || !strings.Contains(text, "[redacted]") {
		t.Errorf("a credential is printed as %s", text)
	}
}

func TestSecret(t *testing.T) {
	var zero credentials.Secret
	s := credentials.NewSecret("text")
	for _, test := range []struct {
		name      string
		got, want any
	}{
		{"Reveal", s.Reveal(), "text"},
		{"Reveal of zero", zero.Reveal(), ""},
		{"IsZero", s.IsZero(), false},
		{"IsZero of zero", zero.IsZero(), true},
		{"IsZero of empty", credentials.NewSecret("").IsZero(), true},
		{"Equal", s.Equal(credentials.NewSecret("te" + "xt")), true},
		{"Equal to another", s.Equal(credentials.NewSecret("Text")), false},
		{"Equal to a longer one", s.Equal(credentials.NewSecret("texts")), false},
		{"Equal to zero", s.Equal(zero), false},
		{"zero Equal to empty", zero.Equal(credentials.NewSecret("")), true},
		{"String", s.String(), "[redacted]"},
		{"String of zero", zero.String(), ""},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, test.got, test.want)
		}
	}
}

// body is an error that quotes what the provider said.
type body struct{ Text string }

func (b body) Error() string { return b.Text }

// An error that is handed to an encoder or a careless logger must not bring out what the provider said.
func TestInvariant14SilentErrors(t *testing.T) {
	for _, err := range []error{
		&credentials.RefreshError{Key: alice, Class: credentials.Unknown, Err: errors.New(mark)},
		&credentials.RefreshError{Key: alice, Class: credentials.Unknown, Err: body{mark}},
		credentials.Grant{Token: secret("x"), Lifetime: -1}.Validate(),
		credentials.Grant{RefreshToken: secret(strings.Repeat("x", credentials.MaxTokenLength))}.Validate(),
		credentials.Grant{Token: secret("x"), RefreshLifetime: -1}.Validate(),
	} {
		if err == nil {
			t.Error("got no error")
		}
		if shown := leaks(err); shown != "" {
			t.Errorf("%T shows a secret: %s", err, shown)
		}
	}
}

// Every failing path in one log, at its finest; inWorld looks for secrets in it. This test looks that they are there.
func TestInvariant14SilentLog(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		loud := &credentials.RefreshError{Class: credentials.Unknown, Err: errors.New(mark)}
		w.provider.script = func(ctx context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
			loud.Reason, loud.Code = "with "+c.RefreshToken.Reveal(), c.Token.Reveal()
			switch n {
			case 1: // a renewal ahead of expiry
				return credentials.Grant{}, loud
			case 2:
				panic(c.RefreshToken)
			case 3: // late
				<-ctx.Done()
				time.Sleep(time.Minute)
				return credentials.Grant{}, loud
			case 4: // late
				<-ctx.Done()
				time.Sleep(time.Minute)
			}
			return w.provider.rotate(c)
		}
		p := w.start("P")
		p.mustGet(alice)
		w.reaches(dueOfAnHour)
		p.mustGet(alice)
		w.reaches(time.Hour)
		p.ask(alice).failed(credentials.Unknown)
		w.reaches(time.Hour + 10*time.Second)
		p.store.on("Fail", refuse, nil)
		p.ask(alice).failed(credentials.Unknown)
		w.reaches(time.Hour + 2*time.Minute)
		p.store.on("Fail", nil, nil)
		p.ask(alice).failed(credentials.Unknown)
		p.store.on("Save", refuse, nil)
		w.reaches(time.Hour + 4*time.Minute)
		p.store.heal()
		w.reaches(time.Hour + 5*time.Minute)
		p.store.on("Save", once(refuse), nil)
		p.report(alice, p.mustGet(alice)).is("access-alice-2")
		for _, line := range []string{
			"renewal ahead of expiry failed", "refresher panicked", "could not be recorded", "after its deadline, without success",
			"succeeded after its deadline", "could not be stored yet",
		} {
			if !strings.Contains(w.logs.String(), line) {
				w.Errorf("the log has no line on %q:\n%s", line, w.logs)
			}
		}
	})
}
