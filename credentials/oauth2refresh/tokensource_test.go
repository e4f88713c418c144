package oauth2refresh_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

var alice = credentials.Key{Service: "github", Account: "alice"}

// process is one process on a store, whose refresher brings the token "exchanged".
type process struct {
	t *testing.T
	*credentials.Manager
	source *credentials.Source
}

func startProcess(t *testing.T, store *memstore.Store) process {
	t.Helper()
	exchange := func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{AccessToken: credentials.NewSecret("exchanged"), Lifetime: time.Hour}, nil
	}
	m, err := credentials.NewManager(store,
		credentials.Services{alice.Service: {Refresher: credentials.RefresherFunc(exchange)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	source, err := m.Source(alice)
	if err != nil {
		t.Fatal(err)
	}
	return process{t, m, source}
}

// put stores a token of an hour.
func put(t *testing.T, store *memstore.Store, token string) {
	t.Helper()
	putGrant(t, store, credentials.Grant{
		AccessToken: credentials.NewSecret(token), RefreshToken: credentials.NewSecret("refresh"), Lifetime: time.Hour,
	})
}

func putGrant(t *testing.T, store *memstore.Store, grant credentials.Grant) {
	t.Helper()
	if err := store.Put(t.Context(), alice, grant); err != nil {
		t.Fatal(err)
	}
}

// tokenOf asks the source for a token.
func tokenOf(t *testing.T, source oauth2.TokenSource) *oauth2.Token {
	t.Helper()
	token, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// The Expiry is 11 seconds ahead, or the token's end if that is earlier.
func TestTokenSourceExpiry(t *testing.T) {
	for _, test := range []struct {
		name     string
		lifetime time.Duration
		want     time.Duration
		valid    bool
	}{
		{"an hour", time.Hour, 11 * time.Second, true},
		{"12 seconds", 12 * time.Second, 11 * time.Second, true},
		{"8 seconds, which x/oauth2 takes for expired", 8 * time.Second, 8 * time.Second, false},
		{"without expiration", 0, 11 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				putGrant(t, store, credentials.Grant{AccessToken: credentials.NewSecret("a"), Lifetime: test.lifetime})
				got := tokenOf(t, oauth2refresh.TokenSource(t.Context(), startProcess(t, store).source))
				if left := time.Until(got.Expiry); left != test.want || got.Valid() != test.valid {
					t.Errorf("got an Expiry in %v, valid %v; want %v, %v", left, got.Valid(), test.want, test.valid)
				}
				if got.AccessToken != "a" || got.TokenType != "Bearer" || got.RefreshToken != "" {
					t.Errorf("got %q of type %q, refresh token %q; want a, Bearer, none",
						got.AccessToken, got.TokenType, got.RefreshToken)
				}
			})
		})
	}
}

// The entries that standards name are there, and no others.
func TestTokenSourceExtra(t *testing.T) {
	store := memstore.New()
	putGrant(t, store, credentials.Grant{AccessToken: credentials.NewSecret("a"), Extra: map[string]credentials.Secret{
		"scope": credentials.NewSecret("read write"), "id_token": credentials.NewSecret("h.p.s"),
		"token_type": credentials.NewSecret("bot"), "instance_url": credentials.NewSecret("https://eu1.example"),
	}})
	got := tokenOf(t, oauth2refresh.TokenSource(t.Context(), startProcess(t, store).source))
	for name, want := range map[string]any{
		"scope": "read write", "id_token": "h.p.s", "token_type": "bot", "instance_url": nil, "refresh_token": nil,
	} {
		if extra := got.Extra(name); extra != want {
			t.Errorf("%s: got %v; want %v", name, extra, want)
		}
	}
	if got.Type() != "Bearer" {
		t.Errorf("got type %s; want Bearer", got.Type())
	}
}

// api records the tokens that requests carry.
type api struct{ header string }

func (a *api) RoundTrip(request *http.Request) (*http.Response, error) {
	a.header = request.Header.Get("Authorization")
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: http.NoBody, Request: request}, nil
}

// caches are what SDKs put around a TokenSource: each returns the token that a request carries.
var caches = map[string]func(t *testing.T, source oauth2.TokenSource) (carried func() string){
	"oauth2.ReuseTokenSource": func(t *testing.T, source oauth2.TokenSource) func() string {
		reusing := oauth2.ReuseTokenSource(nil, source)
		return func() string { return "Bearer " + tokenOf(t, reusing).AccessToken }
	},
	"oauth2.NewClient": func(t *testing.T, source oauth2.TokenSource) func() string {
		a := new(api)
		client := oauth2.NewClient(context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: a}), source)
		return func() string {
			response, err := client.Get("https://api.example/me")
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			return a.header
		}
	},
}

// step is how often replaced asks.
const step = 100 * time.Millisecond

// replaced asks at every step until another token than the first comes, and returns how long that
// took.
func replaced(t *testing.T, carried func() string, first, next string) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(step) {
		switch got, took := carried(), time.Since(began); {
		case got == "Bearer "+next:
			return took
		case got != "Bearer "+first:
			t.Fatalf("got %q; want %q or %q", got, first, next)
		case took > time.Hour:
			t.Fatalf("%q is served for ever", first)
		}
	}
}

// A token that was replaced is served for a second longer than by the source itself, at most.
func TestTokenSourceServesNoReplacedToken(t *testing.T) {
	for name, cache := range caches {
		for _, test := range []struct {
			name    string
			replace func(t *testing.T, store *memstore.Store, p process) (next string)
			within  time.Duration
		}{
			{"invalidated here", func(t *testing.T, _ *memstore.Store, p process) string {
				token, err := p.source.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err = p.source.Invalidate(t.Context(), token); err != nil {
					t.Fatal(err)
				}
				return "exchanged"
			}, time.Second + step},
			{"invalidated elsewhere", func(t *testing.T, store *memstore.Store, _ process) string {
				other := startProcess(t, store)
				token, err := other.source.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err = other.source.Invalidate(t.Context(), token); err != nil {
					t.Fatal(err)
				}
				return "exchanged"
			}, credentials.DefaultRecheck + time.Second + step},
			{"put elsewhere", func(t *testing.T, store *memstore.Store, _ process) string {
				put(t, store, "b")
				return "b"
			}, credentials.DefaultRecheck + time.Second + step},
		} {
			t.Run(name+", "+test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memstore.New()
					put(t, store, "a")
					p := startProcess(t, store)
					carried := cache(t, oauth2refresh.TokenSource(t.Context(), p.source))
					if got := carried(); got != "Bearer a" {
						t.Fatalf("got %q; want a", got)
					}
					next := test.replace(t, store, p)
					if took := replaced(t, carried, "a", next); took > test.within {
						t.Errorf("the replaced token was served for %v; want at most %v", took, test.within)
					}
				})
			})
		}
	}
}

// Near the end of a token nothing is reused, and the next token comes with its renewal.
func TestTokenSourceAtTheEnd(t *testing.T) {
	for name, cache := range caches {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				put(t, store, "a")
				carried := cache(t, oauth2refresh.TokenSource(t.Context(), startProcess(t, store).source))
				if took := replaced(t, carried, "a", "exchanged"); took > time.Hour {
					t.Errorf("the token was served for %v; it lives an hour", took)
				}
			})
		})
	}
}

// An SDK's client returns the errors of the source.
func TestTokenSourceErrors(t *testing.T) {
	source := oauth2refresh.TokenSource(t.Context(), startProcess(t, memstore.New()).source)
	_, err := oauth2.NewClient(t.Context(), source).Get("https://api.example/me")
	if !errors.Is(err, credentials.ErrNotFound) {
		t.Errorf("got %v; want ErrNotFound", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = oauth2refresh.TokenSource(ctx, startProcess(t, memstore.New()).source).Token()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: got %v; want its error", err)
	}
}

func BenchmarkTokenSource(b *testing.B) {
	store := memstore.New()
	err := store.Put(b.Context(), alice, credentials.Grant{AccessToken: credentials.NewSecret("a"), Lifetime: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: {Refresher: credentials.RefresherFunc(
		func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
			return credentials.Grant{}, nil
		})}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	source, err := m.Source(alice)
	if err != nil {
		b.Fatal(err)
	}
	tokens := oauth2refresh.TokenSource(b.Context(), source)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.Token(); err != nil {
			b.Fatal(err)
		}
	}
}
