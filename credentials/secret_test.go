package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
	"github.com/latchkey-go/latchkey/internal/testkit/leak"
)

// leaks returns how v shows a secret, "" if it does not.
func leaks(v any) string { return leak.Printed(v, mark) }

// careless is a refresher of a program's own, whose fields are secrets in plain text.
type careless struct {
	ClientSecret string
	key          []byte
}

func (careless) Refresh(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
	return credentials.Grant{AccessToken: secret("new")}, nil
}

// printed are values of all exported types, by name, with a secret wherever one can be. The test
// fills in those that need no more than that.
func printed(t *testing.T) map[string]any {
	const key = mark + "-key"
	service := credentials.Service{Refresher: careless{mark + "-client", []byte(key)}, KeepRate: 1}
	services := credentials.Services{alice.Service: service}
	values := map[string]any{"Service": &service, "Services": &services}
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", func(s *setup) { s.services = services })
		token := p.mustGet(alice)
		source, err := p.Source(alice)
		if err != nil {
			w.Fatal(err)
		}
		values["Token"], values["Source"], values["Manager"], values["Keeper"] = &token, source, p.Manager, p.keeper
	})
	s := secret("text")
	values["Secret"] = &s
	values["RefreshError"] = &credentials.RefreshError{Key: alice, Class: credentials.ClassUnknown, Err: body{mark}}
	values["ServicesFunc"], values["RefresherFunc"] = new(credentials.ServicesFunc), new(credentials.RefresherFunc)
	for name, v := range map[string]any{
		"Batch": new(credentials.Batch), "Change": new(credentials.Change), "Claim": new(credentials.Claim), "Class": new(credentials.Class),
		"Credential": new(credentials.Credential), "Failure": new(credentials.Failure), "Fence": new(credentials.Fence),
		"CallInfo": new(credentials.CallInfo), "Condition": new(credentials.Condition), "ExchangeInfo": new(credentials.ExchangeInfo),
		"Found": new(credentials.Found), "Observer": new(credentials.Observer),
		"Outcome": new(credentials.Outcome), "Stats": new(credentials.Stats), "Status": new(credentials.Status), "Trigger": new(credentials.Trigger),
		"Grant": new(credentials.Grant), "Instant": new(credentials.Instant),
		"Interruption": new(credentials.Interruption), "KeeperOptions": new(credentials.KeeperOptions),
		"KeeperStats": new(credentials.KeeperStats), "Key": new(credentials.Key), "Lease": new(credentials.Lease), "Mark": new(credentials.Mark),
		"Options": new(credentials.Options), "RefreshInput": new(credentials.RefreshInput),
		"Refreshed": new(credentials.Refreshed), "Renewal": new(credentials.Renewal), "Revival": new(credentials.Revival),
		"Replay": new(credentials.Replay), "State": new(credentials.State), "TokenID": new(credentials.TokenID),
	} {
		leak.Fill(v, mark)
		values[name] = v
	}
	return values
}

// No exported type shows a secret, a refresher's included, whatever the verb and wherever the value
// stands. A type that is new has to be added.
func TestInvariant14SilentSecrets(t *testing.T) {
	if s := secret("text"); leaks(s.Reveal()) == "" || leaks(struct{ S string }{s.Reveal()}) == "" ||
		leaks(struct{ c careless }{careless{key: []byte(mark)}}) == "" {
		t.Fatal("this test would not find a leak")
	}
	types, err := leak.ExportedTypes(".")
	if err != nil {
		t.Fatal(err)
	}
	values := printed(t)
	for _, name := range types {
		pointer, ok := values[name]
		if !ok {
			t.Errorf("a value of %s is missing", name)
			continue
		}
		shown := []any{pointer, struct{ Public any }{pointer}}
		if value := reflect.ValueOf(pointer).Elem(); !slices.Contains([]string{"Manager", "Keeper", "Source"}, name) {
			list := reflect.MakeSlice(reflect.SliceOf(value.Type()), 1, 1)
			list.Index(0).Set(value)
			shown = append(shown, value.Interface(), list.Interface(), fmt.Errorf("%+v %#v %q", value, value, value))
		}
		for _, v := range shown {
			if text := leaks(v); text != "" {
				t.Errorf("%T shows a secret: %s", v, text)
			}
		}
	}
}

// What holds a secret shows none where fmt cannot ask for its methods, either, and leads reflection
// to none.
func TestInvariant14SilentFields(t *testing.T) {
	values := printed(t)
	type holder struct {
		secret     credentials.Secret
		token      credentials.Token
		pointer    *credentials.Token
		credential credentials.Credential
		grants     []credentials.Grant
		input      map[string]credentials.RefreshInput
		manager    *credentials.Manager
		source     *credentials.Source
	}
	token := values["Token"].(*credentials.Token)
	if token.Extra("tenant").IsZero() {
		token.Value = secret("text")
	}
	h := holder{
		*values["Secret"].(*credentials.Secret), *token, token, *values["Credential"].(*credentials.Credential),
		[]credentials.Grant{*values["Grant"].(*credentials.Grant)},
		map[string]credentials.RefreshInput{"it": *values["RefreshInput"].(*credentials.RefreshInput)},
		values["Manager"].(*credentials.Manager), values["Source"].(*credentials.Source),
	}
	for _, v := range []any{h, &h, []holder{h}} {
		if text := leaks(v); text != "" {
			t.Errorf("%T shows a secret: %s", v, text)
		}
	}
	h.manager, h.source = nil, nil // which lead to the program's own refresher
	if text := leak.Reached(&h, mark); text != "" {
		t.Errorf("reflection finds %q", text)
	}
	if leak.Reached(&careless{key: []byte(mark)}, mark) == "" {
		t.Error("this test would not find a secret")
	}
}

// The texts say what there is for people to know.
func TestPrintedTexts(t *testing.T) {
	values := printed(t)
	many := make(credentials.Services)
	for i := range 100_000 {
		many[fmt.Sprintf("tenant-%06d", i)] = credentials.Service{}
	}
	grant := credentials.Grant{AccessToken: secret("text"), Lifetime: time.Hour}
	for _, test := range []struct {
		value any
		want  string
	}{
		{grant, "{AccessToken:[redacted] RefreshToken: Lifetime:1h0m0s RefreshLifetime:0s Extra:map[]}"},
		{values["Service"], "credentials.Service{Refresher:credentials_test.careless ClientCredentials:false Replay:0 DefaultLifetime:0s "},
		{credentials.Service{}, "credentials.Service{Refresher:<nil> "},
		{values["Services"], "credentials.Services[github]"},
		{many, "tenant-000019 and 99980 more]"},
		{values["Manager"], "credentials.Manager of P"},
		{values["Keeper"], "credentials.Keeper of P"},
		{values["Source"], "credentials.Source of github/alice"},
		{new(credentials.Manager), "credentials.Manager of "},
		{new(credentials.Keeper), "credentials.Keeper of "},
		{(*credentials.Manager)(nil), "<nil>"},
	} {
		if text := fmt.Sprintf("%+v", test.value); !strings.Contains(text, test.want) {
			t.Errorf("%T is printed as %s, want %s", test.value, text, test.want)
		}
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
		{"printed", fmt.Sprint(s), "[redacted]"},
		{"zero, printed", fmt.Sprint(zero), ""},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, test.got, test.want)
		}
	}
}

// body is an error that quotes what the provider said.
type body struct{ Text string }

func (b body) Error() string { return b.Text }

// An error that is handed to an encoder or a careless logger must not bring out what the provider
// said.
func TestInvariant14SilentErrors(t *testing.T) {
	for _, err := range []error{
		&credentials.RefreshError{Key: alice, Class: credentials.ClassUnknown, Err: errors.New(mark)},
		&credentials.RefreshError{Key: alice, Class: credentials.ClassUnknown, Err: body{mark}},
		credentials.Grant{AccessToken: secret("x"), Lifetime: -1}.Validate(),
		credentials.Grant{RefreshToken: secret(strings.Repeat("x", credentials.MaxTokenLength))}.Validate(),
		credentials.Grant{AccessToken: secret("x"), RefreshLifetime: -1}.Validate(),
	} {
		if err == nil {
			t.Error("got no error")
		}
		if shown := leaks(err); shown != "" {
			t.Errorf("%T shows a secret: %s", err, shown)
		}
	}
}

// Every failing path in one log, at its finest; inWorld looks for secrets in it. This test looks
// that they are there.
func TestInvariant14SilentLog(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		loud := &credentials.RefreshError{Class: credentials.ClassUnknown, Err: errors.New(mark)}
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			stored, _ := w.db.Get(context.WithoutCancel(ctx), in.Key)
			loud.Reason, loud.Code = "with "+in.RefreshToken.Reveal(), stored.AccessToken.Reveal()
			switch n {
			case 1: // a renewal ahead of expiry
				return credentials.Grant{}, loud
			case 2:
				panic(in.RefreshToken)
			case 3: // late
				<-ctx.Done()
				time.Sleep(time.Minute)
				return credentials.Grant{}, loud
			case 4: // late
				<-ctx.Done()
				time.Sleep(time.Minute)
			}
			return w.provider.exchange(in)
		}
		p := w.start("P")
		p.mustGet(alice)
		w.reaches(dueOfAnHour)
		p.mustGet(alice)
		w.reaches(time.Hour)
		p.ask(alice).failed(credentials.ClassUnknown)
		w.reaches(time.Hour + time.Minute)
		p.store.Before(testkit.Fail, testkit.Refuse)
		p.ask(alice).failed(credentials.ClassUnknown)
		w.reaches(time.Hour + 3*time.Minute)
		p.store.Heal(testkit.Fail)
		p.ask(alice).failed(credentials.ClassUnknown)
		time.Sleep(time.Minute)
		p.ask(alice).failed(credentials.ClassUnknown)
		p.store.Before(testkit.Save, testkit.Refuse)
		w.reaches(time.Hour + 10*time.Minute)
		p.store.Heal()
		w.reaches(time.Hour + 20*time.Minute)
		p.store.Before(testkit.Save, testkit.Once(testkit.Refuse))
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
