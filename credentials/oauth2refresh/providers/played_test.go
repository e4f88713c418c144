package providers_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
	"github.com/latchkey-go/latchkey/internal/provider"
)

const (
	clientID, clientSecret = "an-app", "its secret"

	redirectURI = "https://app.example/callback"
)

// played is a manager with a preset, and an endpoint that behaves as the preset's pages say.
type played struct {
	*testing.T
	*credentials.Manager
	preset   providers.Provider
	endpoint *provider.Provider
	key      credentials.Key
}

// play runs a test in a bubble, where time is fake, with a grant that was put and never exchanged.
func play(t *testing.T, preset providers.Provider, test func(p *played)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		options := provider.As(preset, 0)
		options.Latency = 100 * time.Millisecond
		options.ClientID, options.ClientSecret = clientID, clientSecret
		p := &played{T: t, preset: preset, endpoint: provider.New(options)}
		p.key = credentials.Key{Service: preset.Name, Account: "alice"}

		store := memstore.New()
		grant := credentials.Grant{
			RefreshToken: credentials.NewSecret(p.endpoint.Register("alice")),
			Extra:        map[string]credentials.Secret{"redirect_uri": credentials.NewSecret(redirectURI)},
		}
		if err := store.Put(t.Context(), p.key, grant); err != nil {
			t.Fatal(err)
		}
		var err error
		p.Manager, err = credentials.NewManager(store, credentials.Services{preset.Name: p.service()},
			&credentials.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		test(p)
	})
}

// service returns the preset's service, with an HTTP client that reaches the endpoint alone.
func (p *played) service() credentials.Service {
	p.Helper()
	if p.preset.Places != "" {
		p.preset = p.preset.At("place.example")
	}
	endpoint, err := p.preset.Endpoint()
	if err != nil {
		p.Fatal(err)
	}
	options := p.preset.Options()
	options.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		p.addressed(r, endpoint)
		r.URL.Path = "/token"
		w := httptest.NewRecorder()
		p.endpoint.ServeHTTP(w, r)
		p.redirected(r)
		return w.Result(), nil
	})}
	service := p.preset.Service(clientID, clientSecret)
	service.Refresher = service.Refresher.(*oauth2refresh.Refresher).With(options)
	return service
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// addressed checks that a request goes where the preset says, in its AuthStyle.
func (p *played) addressed(r *http.Request, endpoint oauth2.Endpoint) {
	p.Helper()
	if got := r.URL.String(); got != endpoint.TokenURL {
		p.Errorf("a request to %s, want %s", got, endpoint.TokenURL)
	}
	_, _, basic := r.BasicAuth()
	if want := endpoint.AuthStyle == oauth2.AuthStyleInHeader; basic != want {
		p.Errorf("HTTP Basic is %v, want %v", basic, want)
	}
}

// redirected checks that a request, whose form was read, has a redirect_uri where the preset says
// so.
func (p *played) redirected(r *http.Request) {
	p.Helper()
	want := ""
	if p.preset.SendsRedirectURI.Value {
		want = redirectURI
	}
	if got := r.PostForm.Get("redirect_uri"); got != want {
		p.Errorf("redirect_uri is %q, want %q", got, want)
	}
}

// token returns a token that the endpoint's API takes.
func (p *played) token() credentials.Token {
	p.Helper()
	token, err := p.Token(p.Context(), p.key)
	if err != nil {
		p.Fatal(err)
	}
	if _, ok := p.endpoint.Validate(token.Value.Reveal()); !ok {
		p.Fatal("the token does not work")
	}
	return token
}

// lifetime is for how long the endpoint's access tokens live.
func (p *played) lifetime() time.Duration {
	if p.preset.Lifetime.Stated() {
		return p.preset.Lifetime.Value
	}
	return provider.DefaultLifetime
}

// A manager gets a token, renews it ahead of its end, and renews one that has ended, with one
// exchange each; then the person revokes, and the grant is dead with one more.
func TestPresetsWork(t *testing.T) {
	for _, preset := range providers.All() {
		t.Run(preset.Name, func(t *testing.T) {
			play(t, preset, func(p *played) {
				first := p.token()

				time.Sleep(p.lifetime() - time.Minute)
				p.token() // it is due, unless renewal would be refused until later
				time.Sleep(50 * time.Second)
				p.token()
				time.Sleep(2 * time.Second) // a renewal begins at a moment of its own
				second := p.token()
				if second.Value.Equal(first.Value) {
					p.Error("the token was not renewed ahead of its end")
				}

				time.Sleep(p.lifetime())
				if third := p.token(); third.Value.Equal(second.Value) {
					p.Error("the token was not renewed after its end")
				}

				p.endpoint.Revoke("alice")
				time.Sleep(p.lifetime())
				p.dies()
				p.presented(4)
			})
		})
	}
}

// dies checks that the grant is dead, and that the next caller presents nothing.
func (p *played) dies() {
	p.Helper()
	for range 2 {
		if _, err := p.Token(p.Context(), p.key); !errors.Is(err, credentials.ErrGrantDead) {
			p.Fatalf("got %v, want ErrGrantDead", err)
		}
	}
}

// presented checks how often a refresh token was presented, and that none was too early.
func (p *played) presented(want int) {
	p.Helper()
	all := p.endpoint.Presentations()
	if len(all) != want {
		p.Errorf("%d presentations, want %d", len(all), want)
	}
	for _, one := range all {
		if one.Outcome == provider.Early {
			p.Errorf("a presentation was too early")
		}
	}
}

// Each refusal means to a manager as much as to the preset: a dead grant is dead at once, and any
// other answer is followed by a token.
func TestPresetsRefusals(t *testing.T) {
	for _, preset := range providers.All() {
		for _, r := range preset.Refusals {
			t.Run(preset.Name+"/"+r.Value.Body, func(t *testing.T) {
				play(t, preset, func(p *played) {
					p.endpoint.Enqueue("alice", provider.Fault{
						Kind: provider.OwnWords, Status: r.Value.Status, Body: r.Value.Body,
					})
					if r.Value.Class == credentials.ClassDead {
						p.dies()
						p.presented(1)
						return
					}
					_, err := p.Token(p.Context(), p.key)
					var failed *credentials.RefreshError
					if !errors.As(err, &failed) || failed.Class != r.Value.Class {
						p.Fatalf("got %v, want a *RefreshError of class %s", err, r.Value.Class)
					}
					if strings.Contains(err.Error(), clientSecret) {
						p.Errorf("the error has the client's secret in it: %v", err)
					}
					time.Sleep(time.Until(failed.RetryAt))
					p.token()
				})
			})
		}
	}
}

// A keeper and a caller a minute, for the life of three tokens or a day: no caller gets an error or
// a token that has ended, and no presentation is too early or needless.
func TestPresetsAreKept(t *testing.T) {
	for _, preset := range providers.All() {
		t.Run(preset.Name, func(t *testing.T) {
			play(t, preset, func(p *played) {
				keeper, err := credentials.NewKeeper(p.Manager, nil)
				if err != nil {
					p.Fatal(err)
				}
				length := min(3*p.lifetime(), 24*time.Hour)
				ctx, cancel := context.WithTimeout(p.Context(), length)
				defer cancel()
				kept := make(chan error)
				go func() { kept <- keeper.Run(ctx) }()
				for range length / time.Minute {
					p.token()
					time.Sleep(time.Minute)
				}
				if err := <-kept; !errors.Is(err, context.DeadlineExceeded) {
					p.Errorf("Run: %v", err)
				}

				// Each token is kept for four fifths of its life at least.
				all := p.endpoint.Presentations()
				if got, most := len(all), int(length/(p.lifetime()*4/5))+1; got > most {
					p.Errorf("%d presentations, want at most %d", got, most)
				}
				p.presented(len(all))
			})
		})
	}
}
