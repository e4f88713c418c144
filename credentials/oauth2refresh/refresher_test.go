package oauth2refresh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

const (
	clientID     = "app:1"
	clientSecret = "client s3cret %"
)

// serve starts a token endpoint for the length of the test.
func serve(t *testing.T, options provider.Options) *provider.Server {
	t.Helper()
	s, err := provider.Start("", provider.New(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// answering starts a token endpoint that a function plays.
func answering(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL + "/token"
}

func config(tokenURL string) oauth2.Config {
	return oauth2.Config{
		ClientID:     clientID,
		ClientSecret: clientSecret,
		Endpoint:     oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader},
	}
}

func clientConfig(tokenURL string) clientcredentials.Config {
	return clientcredentials.Config{
		ClientID: clientID, ClientSecret: clientSecret, TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader,
	}
}

func credential(refreshToken string) credentials.Credential {
	return credentials.Credential{
		Key:          credentials.Key{Service: "github", Account: "alice"},
		RefreshToken: credentials.NewSecret(refreshToken),
	}
}

// fails fails the test unless err is a RefreshError that a row can keep and that shows none of the secrets, neither in
// its text nor in what it wraps.
func fails(t *testing.T, err error, secrets ...string) *credentials.RefreshError {
	t.Helper()
	var e *credentials.RefreshError
	if !errors.As(err, &e) {
		t.Fatalf("got error %v (%T); want a *credentials.RefreshError", err, err)
	}
	switch e.Class {
	case credentials.Rejected, credentials.Transient, credentials.Unknown:
	default:
		t.Errorf("got class %q; want one that exists", e.Class)
	}
	if e.Reason == "" || len(e.Reason) > 255 || strings.ContainsFunc(e.Reason, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("got reason %q of %d bytes; want printable ASCII, at most 255", e.Reason, len(e.Reason))
	}
	for err := error(e); err != nil; err = errors.Unwrap(err) {
		for _, secret := range append(secrets, clientSecret, "s3cret") {
			if text := fmt.Sprintf("%v %+v", err, err); secret != "" && strings.Contains(text, secret) {
				t.Errorf("the error shows %q: %s", secret, text)
			}
		}
	}
	return e
}

func TestRefreshRotates(t *testing.T) {
	styles := map[string]oauth2.AuthStyle{"header": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams}
	for name, style := range styles {
		t.Run(name, func(t *testing.T) {
			s := serve(t, provider.Options{ClientID: clientID, ClientSecret: clientSecret, Lifetime: time.Minute,
				Extra: map[string]any{"scope": "read write", "instance_url": "https://eu1.example"}})
			c := config(s.TokenURL())
			c.Endpoint.AuthStyle = style
			r := oauth2refresh.New(c)
			if err := r.Check(); err != nil {
				t.Fatalf("Check: %v", err)
			}
			token := s.Provider.Register("alice")
			for n := range 3 {
				grant, err := r.Refresh(t.Context(), credential(token))
				if err != nil {
					t.Fatalf("exchange %d: %v", n, err)
				}
				if account, ok := s.Provider.Validate(grant.Token.Reveal()); account != "alice" || !ok {
					t.Errorf("exchange %d: got a token of %q, good: %v; want a good one of alice", n, account, ok)
				}
				if token = grant.RefreshToken.Reveal(); !s.Provider.Current("alice", token) {
					t.Errorf("exchange %d: the refresh token is not the newest", n)
				}
				if grant.Lifetime != time.Minute || grant.RefreshLifetime != 0 {
					t.Errorf("exchange %d: got lifetimes %v, %v; want 1m0s, 0s", n, grant.Lifetime, grant.RefreshLifetime)
				}
				want := map[string]string{"scope": "read write", "instance_url": "https://eu1.example", "token_type": "Bearer"}
				if got := revealed(grant.Extra); !maps.Equal(got, want) {
					t.Errorf("exchange %d: got extra %v; want %v", n, got, want)
				}
			}
			if got := s.Provider.Stats(); got.Calls != 3 || got.Duplicates != 0 {
				t.Errorf("got %+v; want 3 calls, no duplicate", got.Counts)
			}
		})
	}
}

func revealed(extra map[string]credentials.Secret) map[string]string {
	texts := make(map[string]string, len(extra))
	for name, secret := range extra {
		texts[name] = secret.Reveal()
	}
	return texts
}

func TestRefreshTokenThatStays(t *testing.T) {
	s := serve(t, provider.Options{KeepRefreshToken: true})
	grant, err := oauth2refresh.New(config(s.TokenURL())).Refresh(t.Context(), credential(s.Provider.Register("alice")))
	if err != nil || !grant.RefreshToken.IsZero() {
		t.Errorf("got refresh token set: %v, error %v; want none, no error", !grant.RefreshToken.IsZero(), err)
	}
}

func TestClientCredentials(t *testing.T) {
	var form url.Values
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form = r.PostForm
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"a","expires_in":60,"refresh_token":"nobody asked","refresh_expires_in":600}`)
	})
	c := clientConfig(url)
	c.Scopes = []string{"read", "write"}
	c.EndpointParams = map[string][]string{"audience": {"https://api.example"}}
	grant, err := oauth2refresh.NewClientCredentials(c).Refresh(t.Context(), credential(""))
	if err != nil || grant.Token.Reveal() != "a" || grant.Lifetime != time.Minute {
		t.Errorf("got %q for %v, %v; want the token for a minute", grant.Token.Reveal(), grant.Lifetime, err)
	}
	if !grant.RefreshToken.IsZero() || grant.RefreshLifetime != 0 {
		t.Error("got a refresh token; want none (RFC 6749 section 4.4.3)")
	}
	want := "audience=https%3A%2F%2Fapi.example&grant_type=client_credentials&scope=read+write"
	if got := form.Encode(); got != want {
		t.Errorf("got form %s; want %s", got, want)
	}
}

func TestClientCredentialsAgainstTheProvider(t *testing.T) {
	s := serve(t, provider.Options{ClientID: clientID, ClientSecret: clientSecret})
	grant, err := oauth2refresh.NewClientCredentials(clientConfig(s.TokenURL())).Refresh(t.Context(), credential(""))
	if err != nil {
		t.Fatal(err)
	}
	if account, ok := s.Provider.Validate(grant.Token.Reveal()); account != clientID || !ok {
		t.Errorf("got a token of %q, good: %v; want a good one of %q", account, ok, clientID)
	}
}

func TestCheck(t *testing.T) {
	const good = "https://login.example/token"
	refresher := func(change func(*oauth2.Config)) *oauth2refresh.Refresher {
		c := config(good)
		change(&c)
		return oauth2refresh.New(c)
	}
	robot := func(change func(*clientcredentials.Config)) *oauth2refresh.Refresher {
		c := clientConfig(good)
		change(&c)
		return oauth2refresh.NewClientCredentials(c)
	}
	tests := []struct {
		name      string
		refresher *oauth2refresh.Refresher
		want      []string // nothing: it is good
	}{
		{"good", refresher(func(*oauth2.Config) {}), nil},
		{"good robot", robot(func(*clientcredentials.Config) {}), nil},
		{"plain HTTP", refresher(func(c *oauth2.Config) { c.Endpoint.TokenURL = "http://127.0.0.1:80/token" }), nil},
		{"no secret, a public client", refresher(func(c *oauth2.Config) {
			c.ClientSecret, c.Endpoint.AuthStyle = "", oauth2.AuthStyleInParams
		}), nil},
		{"zero Refresher", new(oauth2refresh.Refresher), []string{"not made with New", "use one of them"}},
		{"zero config", oauth2refresh.New(oauth2.Config{}), []string{"TokenURL is empty", "set it"}},
		{"zero robot", oauth2refresh.NewClientCredentials(clientcredentials.Config{}), []string{"TokenURL is empty", "set it"}},
		{"auto-detected style", refresher(func(c *oauth2.Config) { c.Endpoint.AuthStyle = oauth2.AuthStyleAutoDetect }),
			[]string{"presents the same refresh token again", "set AuthStyleInHeader"}},
		{"robot's auto-detected style", robot(func(c *clientcredentials.Config) { c.AuthStyle = 0 }), []string{"set AuthStyleInHeader"}},
		{"style that is none", refresher(func(c *oauth2.Config) { c.Endpoint.AuthStyle = 7 }), []string{"AuthStyle is 7", "set"}},
		{"no client", refresher(func(c *oauth2.Config) { c.ClientID = "" }), []string{"ClientID is empty", "set"}},
		{"robot without id", robot(func(c *clientcredentials.Config) { c.ClientID = "" }), []string{"ClientID is empty", "set"}},
		{"other scheme", refresher(func(c *oauth2.Config) { c.Endpoint.TokenURL = "ftp://login.example/s3cret" }), []string{`"ftp"`, "https://HOST/PATH"}},
		{"no scheme", refresher(func(c *oauth2.Config) { c.Endpoint.TokenURL = "login.example/s3cret" }), []string{`scheme ""`, "https://HOST/PATH"}},
		{"no host", refresher(func(c *oauth2.Config) { c.Endpoint.TokenURL = "https:///s3cret" }), []string{`host ""`, "https://HOST/PATH"}},
		{"no URL", refresher(func(c *oauth2.Config) { c.Endpoint.TokenURL = "https://login.example/%s3cret" }), []string{"cannot be parsed", "https://HOST/PATH"}},
		{"scope in two places", robot(func(c *clientcredentials.Config) {
			c.Scopes, c.EndpointParams = []string{"a"}, url.Values{"scope": {"b"}}
		}), []string{"both Scopes and EndpointParams", "keep Scopes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.refresher.Check()
			if tt.want == nil {
				if err != nil {
					t.Errorf("got %v; want no error", err)
				}
				return
			}
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q; want %q in it", err, want)
				}
			}
			_, refreshErr := tt.refresher.Refresh(t.Context(), credential("refresh-1"))
			if e := fails(t, refreshErr, "refresh-1"); e.Class != credentials.Transient || e.Reason != err.Error() {
				t.Errorf("Refresh: got %s %q; want transient with the same text", e.Class, e.Reason)
			}
		})
	}
}

func TestNoRefreshToken(t *testing.T) {
	s := serve(t, provider.Options{})
	_, err := oauth2refresh.New(config(s.TokenURL())).Refresh(t.Context(), credential(""))
	if e := fails(t, err); e.Class != credentials.Rejected || !errors.Is(err, credentials.ErrReauthRequired) {
		t.Errorf("got %v; want a new authorization asked for", e)
	}
	if got := s.Provider.Stats().Calls; got != 0 {
		t.Errorf("got %d calls; want none", got)
	}
}

func TestWithoutADeadline(t *testing.T) {
	var got time.Duration
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		deadline, ok := r.Context().Deadline()
		if got = time.Until(deadline); !ok {
			got = 0
		}
		return nil, errors.New("enough")
	})}
	r := oauth2refresh.New(config("https://login.example/token")).With(oauth2refresh.Options{HTTPClient: client})
	_, err := r.Refresh(context.Background(), credential("refresh-1"))
	fails(t, err)
	if got <= 0 || got > oauth2refresh.DefaultTimeout {
		t.Errorf("got %v until the deadline; want up to %v", got, oauth2refresh.DefaultTimeout)
	}
}

// roundTrip adapts a function to http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
