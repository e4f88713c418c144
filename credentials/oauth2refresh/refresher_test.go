package oauth2refresh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
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

// untrusted starts a server with a certificate that no client knows, and returns its URL.
func untrusted(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// closed returns the URL of a server that is gone.
func closed() string {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
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

// over returns a Refresher whose requests go out over that transport.
func over(transport http.RoundTripper, tokenURL string) *oauth2refresh.Refresher {
	client := &http.Client{Transport: transport}
	return oauth2refresh.New(config(tokenURL)).With(oauth2refresh.Options{HTTPClient: client})
}

// refresh presents the refresh token at that endpoint.
func refresh(t *testing.T, tokenURL, refreshToken string) (credentials.Grant, error) {
	t.Helper()
	return oauth2refresh.New(config(tokenURL)).Refresh(t.Context(), credential(refreshToken))
}

func credential(refreshToken string) credentials.RefreshInput {
	return credentials.RefreshInput{
		Key:          credentials.Key{Service: "github", Account: "alice"},
		RefreshToken: credentials.NewSecret(refreshToken),
	}
}

// fails fails the test unless err is a RefreshError that a row can keep and that shows none of the
// secrets, neither in its text nor in the errors that it wraps.
func fails(t *testing.T, err error, secrets ...string) *credentials.RefreshError {
	t.Helper()
	var e *credentials.RefreshError
	if !errors.As(err, &e) {
		t.Fatalf("got error %v (%T); want a *credentials.RefreshError", err, err)
	}
	switch e.Class {
	case credentials.ClassDead, credentials.ClassTransient, credentials.ClassUnknown:
	default:
		t.Errorf("got class %q; want one that exists", e.Class)
	}
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	if e.Reason == "" || len(e.Reason) > 255 || strings.ContainsFunc(e.Reason, unprintable) {
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

// failsAs fails the test unless err is a RefreshError of that class, with that text in its reason
// and that cause; nil: any that is no context's error.
func failsAs(t *testing.T, err error, class credentials.Class, says string, cause error, secrets ...string) {
	t.Helper()
	e := fails(t, err, secrets...)
	if e.Class != class || !strings.Contains(e.Reason, says) {
		t.Errorf("got %s %q; want %s, %q in it", e.Class, e.Reason, class, says)
	}
	if cause != nil && !errors.Is(err, cause) {
		t.Errorf("got cause %v; want %v", e.Err, cause)
	}
	for _, end := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, end) && cause != end {
			t.Errorf("got cause %v; but the caller's context has not ended so", e.Err)
		}
	}
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
				if account, ok := s.Provider.Validate(grant.AccessToken.Reveal()); account != "alice" || !ok {
					t.Errorf("exchange %d: got a token of %q, good: %v; want a good one of alice", n, account, ok)
				}
				if token = grant.RefreshToken.Reveal(); !s.Provider.Current("alice", token) {
					t.Errorf("exchange %d: the refresh token is not the newest", n)
				}
				if grant.Lifetime != time.Minute || grant.RefreshLifetime != 0 {
					t.Errorf("exchange %d: got lifetimes %v, %v; want 1m0s, 0s", n, grant.Lifetime, grant.RefreshLifetime)
				}
				want := map[string]string{
					"scope": "read write", "instance_url": "https://eu1.example", "token_type": "Bearer",
				}
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
	grant, err := refresh(t, s.TokenURL(), s.Provider.Register("alice"))
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
		_, _ = io.WriteString(w, `{"access_token":"a","expires_in":60,`+
			`"refresh_token":"nobody asked","refresh_expires_in":600}`)
	})
	c := clientConfig(url)
	c.Scopes = []string{"read", "write"}
	c.EndpointParams = map[string][]string{"audience": {"https://api.example"}}
	grant, err := oauth2refresh.NewClientCredentials(c).Refresh(t.Context(), credential(""))
	if err != nil || grant.AccessToken.Reveal() != "a" || grant.Lifetime != time.Minute {
		t.Errorf("got %q for %v, %v; want the token for a minute", grant.AccessToken.Reveal(), grant.Lifetime, err)
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
	robot := oauth2refresh.NewClientCredentials(clientConfig(s.TokenURL()))
	grant, err := robot.Refresh(t.Context(), credential(""))
	if err != nil {
		t.Fatal(err)
	}
	if account, ok := s.Provider.Validate(grant.AccessToken.Reveal()); account != clientID || !ok {
		t.Errorf("got a token of %q, good: %v; want a good one of %q", account, ok, clientID)
	}
}

// changed returns a Refresher with a change to a good configuration.
func changed(change func(*oauth2.Config)) *oauth2refresh.Refresher {
	c := config("https://login.example/token")
	change(&c)
	return oauth2refresh.New(c)
}

// at returns a Refresher with that TokenURL.
func at(tokenURL string) *oauth2refresh.Refresher {
	return oauth2refresh.New(config(tokenURL))
}

// robot returns a Refresher of client credentials with a change to a good configuration.
func robot(change func(*clientcredentials.Config)) *oauth2refresh.Refresher {
	c := clientConfig("https://login.example/token")
	change(&c)
	return oauth2refresh.NewClientCredentials(c)
}

var checks = []struct {
	name      string
	refresher *oauth2refresh.Refresher
	want      []string // none: the configuration is good
}{
	{"good", changed(func(*oauth2.Config) {}), nil},
	{"good robot", robot(func(*clientcredentials.Config) {}), nil},
	{"plain HTTP", at("http://127.0.0.1:80/token"), nil},
	{"no secret, a public client", changed(func(c *oauth2.Config) {
		c.ClientSecret, c.Endpoint.AuthStyle = "", oauth2.AuthStyleInParams
	}), nil},
	{"zero Refresher", new(oauth2refresh.Refresher), []string{"not made with New", "use one of them"}},
	{"zero config", oauth2refresh.New(oauth2.Config{}), []string{"TokenURL is empty", "set it"}},
	{"zero robot", oauth2refresh.NewClientCredentials(clientcredentials.Config{}),
		[]string{"TokenURL is empty", "set it"}},
	{"auto-detected style", changed(func(c *oauth2.Config) { c.Endpoint.AuthStyle = oauth2.AuthStyleAutoDetect }),
		[]string{"presenting the same refresh token again", "set AuthStyleInParams", "else AuthStyleInHeader"}},
	{"robot's auto-detected style", robot(func(c *clientcredentials.Config) { c.AuthStyle = 0 }),
		[]string{"else AuthStyleInHeader"}},
	{"style that is none", changed(func(c *oauth2.Config) { c.Endpoint.AuthStyle = 7 }),
		[]string{"AuthStyle is 7", "set"}},
	{"no client", changed(func(c *oauth2.Config) { c.ClientID = "" }), []string{"ClientID is empty", "set"}},
	{"robot without id", robot(func(c *clientcredentials.Config) { c.ClientID = "" }),
		[]string{"ClientID is empty", "set"}},
	{"other scheme", at("ftp://login.example/s3cret"), []string{`"ftp"`, "https://HOST/PATH"}},
	{"no scheme", at("login.example/s3cret"), []string{`scheme ""`, "https://HOST/PATH"}},
	{"no host", at("https:///s3cret"), []string{`host ""`, "https://HOST/PATH"}},
	{"no URL", at("https://login.example/%s3cret"), []string{"cannot be parsed", "https://HOST/PATH"}},
	{"scope in two places", robot(func(c *clientcredentials.Config) {
		c.Scopes, c.EndpointParams = []string{"a"}, url.Values{"scope": {"b"}}
	}), []string{"both Scopes and EndpointParams", "keep Scopes"}},
}

func TestCheck(t *testing.T) {
	for _, tt := range checks {
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
			if e := fails(t, refreshErr, "refresh-1"); e.Class != transient || e.Reason != err.Error() {
				t.Errorf("Refresh: got %s %q; want transient with the same text", e.Class, e.Reason)
			}
		})
	}
}

func TestNoRefreshToken(t *testing.T) {
	s := serve(t, provider.Options{})
	_, err := refresh(t, s.TokenURL(), "")
	if e := fails(t, err); e.Class != transient || !strings.Contains(e.Reason, "nothing was presented") {
		t.Errorf("got %v; want transient, which says that nothing was presented", e)
	}
	if got := s.Provider.Stats().Calls; got != 0 {
		t.Errorf("got %d calls; want none", got)
	}
}

func TestWithoutADeadline(t *testing.T) {
	var got time.Duration
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		deadline, ok := r.Context().Deadline()
		if got = time.Until(deadline); !ok {
			got = 0
		}
		return nil, errors.New("enough")
	})
	r := over(transport, "https://login.example/token")
	_, err := r.Refresh(context.Background(), credential("refresh-1"))
	fails(t, err)
	if got <= 0 || got > oauth2refresh.DefaultTimeout {
		t.Errorf("got %v until the deadline; want up to %v", got, oauth2refresh.DefaultTimeout)
	}
}

// roundTrip adapts a function to http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
