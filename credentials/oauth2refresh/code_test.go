package oauth2refresh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// withCallback returns the configuration of an app with an authorization callback.
func withCallback(s *provider.Server) oauth2.Config {
	c := config(s.TokenURL())
	c.Endpoint.AuthURL, c.RedirectURL = s.URL+"/authorize", "https://app.example/callback"
	return c
}

// authorized sends alice to the provider and returns the code at the callback.
func authorized(t *testing.T, c oauth2.Config, opts ...oauth2.AuthCodeOption) (code string) {
	t.Helper()
	opts = append(opts, oauth2.SetAuthURLParam("login_hint", "alice"))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.AuthCodeURL("state", opts...), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	location, err := response.Location()
	if err != nil || location.Query().Get("code") == "" {
		t.Fatalf("got %v, %v; want a redirect with a code", location, err)
	}
	return location.Query().Get("code")
}

// codeFails is fails for the error of an Exchange, whose own text is no refresh's.
func codeFails(t *testing.T, err error, secrets ...string) *credentials.RefreshError {
	t.Helper()
	e := fails(t, err, secrets...)
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, secret := range append(secrets, "s3cret") {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("the error shows %q: %s", secret, text)
		}
	}
	if !strings.HasPrefix(text, "exchange of an authorization code: "+string(e.Class)) || !strings.Contains(text, e.Reason) {
		t.Errorf("got %q; want the class %s and the reason %q in it", text, e.Class, e.Reason)
	}
	if again := strings.Contains(text, "send the person to the provider again"); again == (e.Class == transient) {
		t.Errorf("got %q; want to be told to authorize again unless the code was left alone", text)
	}
	return e
}

// A callback's code becomes a grant that a put takes and whose refresh token works.
func TestExchange(t *testing.T) {
	s := serve(t, provider.Options{ClientID: clientID, ClientSecret: clientSecret, Lifetime: time.Minute,
		Extra: map[string]any{"scope": "read", "instance_url": "https://eu1.example"}})
	c := withCallback(s)
	verifier := oauth2.GenerateVerifier()
	code := authorized(t, c, oauth2.S256ChallengeOption(verifier))

	r := oauth2refresh.New(c)
	grant, err := r.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if account, ok := s.Provider.Validate(grant.AccessToken.Reveal()); account != "alice" || !ok {
		t.Errorf("got a token of %q, %v; want alice's", account, ok)
	}
	if grant.Lifetime <= 0 || grant.Lifetime >= time.Minute {
		t.Errorf("got a lifetime of %v; want a minute less the exchange's time", grant.Lifetime)
	}
	if got := revealed(grant.Extra); got["scope"] != "read" || got["instance_url"] != "https://eu1.example" {
		t.Errorf("got entries %v; want scope and instance_url", got)
	}
	putGrant(t, memstore.New(), grant)
	if got := s.Provider.Presentations(); len(got) != 1 {
		t.Errorf("the provider got %d requests; want 1", len(got))
	}
	if _, err = r.Refresh(t.Context(), credential(grant.RefreshToken.Reveal())); err != nil {
		t.Errorf("refresh: %v", err)
	}
}

// The lifetimes count from when the request was sent.
func TestExchangeTakesTime(t *testing.T) {
	for _, test := range []struct {
		name              string
		answer            string
		takes             time.Duration
		access            string
		lifetime, refresh time.Duration
	}{
		{"of a minute", `"expires_in":60,"refresh_expires_in":600`, 10 * time.Second, "a", 50 * time.Second, 590 * time.Second},
		{"over by then", `"expires_in":5`, 10 * time.Second, "", 0, 0},
		{"none named", `"scope":"read"`, 10 * time.Second, "a", 0, 0},
		{"rounded down to zero", `"expires_in":0`, 400 * time.Millisecond, "a", 600 * time.Millisecond, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := over(roundTrip(func(request *http.Request) (*http.Response, error) {
					_, _ = io.Copy(io.Discard, request.Body)
					time.Sleep(test.takes)
					body := `{"access_token":"a","refresh_token":"r",` + test.answer + `}`
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
						Body: io.NopCloser(strings.NewReader(body)), Request: request}, nil
				}), "https://login.example/token")
				grant, err := r.Exchange(t.Context(), "code")
				if err != nil {
					t.Fatal(err)
				}
				if grant.AccessToken.Reveal() != test.access || grant.Lifetime != test.lifetime ||
					grant.RefreshLifetime != test.refresh || grant.RefreshToken.Reveal() != "r" {
					t.Errorf("got %q for %v, %q for %v; want %q for %v, r for %v", grant.AccessToken.Reveal(), grant.Lifetime,
						grant.RefreshToken.Reveal(), grant.RefreshLifetime, test.access, test.lifetime, test.refresh)
				}
				putGrant(t, memstore.New(), grant)
			})
		})
	}
}

// A code that the provider refuses is a dead grant: a person has to authorize again.
func TestExchangeRefused(t *testing.T) {
	s := serve(t, provider.Options{})
	c := withCallback(s)
	r := oauth2refresh.New(c)
	verifier := oauth2.GenerateVerifier()
	used := authorized(t, c, oauth2.S256ChallengeOption(verifier))
	if _, err := r.Exchange(t.Context(), used, oauth2.VerifierOption(verifier)); err != nil {
		t.Fatal(err)
	}
	fresh := authorized(t, c, oauth2.S256ChallengeOption(verifier))
	for name, try := range map[string]struct {
		code string
		opts []oauth2.AuthCodeOption
	}{
		"used":           {used, []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}},
		"never issued":   {"code-never", []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}},
		"no verifier":    {fresh, nil},
		"other verifier": {fresh, []oauth2.AuthCodeOption{oauth2.VerifierOption("another-verifier")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Exchange(t.Context(), try.code, try.opts...)
			e := codeFails(t, err, try.code, verifier, "another-verifier")
			if !errors.Is(err, credentials.ErrGrantDead) || e.Code != "invalid_grant" ||
				!strings.Contains(e.Reason, "the authorization code has expired, was used already") {
				t.Errorf("got %v; want ErrGrantDead, invalid_grant and its causes", err)
			}
		})
	}
}

// echo answers with a parameter of the request in the place of an error code.
func echo(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":%q,"error_description":%q}`, r.FormValue(name), r.FormValue(name))
	}
}

// The request is sent once, whatever comes back, and is not redirected.
func TestExchangeIsSentOnce(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		class  credentials.Class
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, unknown},
		"401": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, transient},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/token", http.StatusTemporaryRedirect)
		}, transient},
		"connection":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, unknown},
		"no token":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) }, unknown},
		"verifier as error": {echo("code_verifier"), transient},
		"code as error":     {echo("code"), transient},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			tokenURL := answering(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				test.answer(w, r)
			})
			_, err := oauth2refresh.New(config(tokenURL)).Exchange(t.Context(), "secretcode", oauth2.VerifierOption("secretverifier"))
			if e := codeFails(t, err, "secretcode", "secretverifier"); e.Class != test.class {
				t.Errorf("got %v; want class %s", err, test.class)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("the provider got %d requests; want 1", n)
			}
		})
	}
}

// An exchange ends with its context, and by itself where that has no deadline.
func TestExchangeIsBounded(t *testing.T) {
	hanging := over(roundTrip(func(request *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, request.Body)
		<-request.Context().Done()
		return nil, request.Context().Err()
	}), "https://login.example/token")
	for name, test := range map[string]struct {
		bound, want time.Duration
		cause       error
	}{
		"deadline":    {time.Second, time.Second, context.DeadlineExceeded},
		"no deadline": {0, oauth2refresh.DefaultTimeout, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.bound > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.bound)
					defer cancel()
				}
				began := time.Now()
				_, err := hanging.Exchange(ctx, "code-1")
				if took := time.Since(began); took != test.want {
					t.Errorf("it took %v; want %v", took, test.want)
				}
				failsAs(t, err, unknown, "did not answer before the exchange's time was over", test.cause, "code-1")
			})
		})
	}
}

// Nothing is sent where nothing could come of it.
func TestExchangeSendsNothing(t *testing.T) {
	tokenURL := answering(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	autodetect := config(tokenURL)
	autodetect.Endpoint.AuthStyle = oauth2.AuthStyleAutoDetect
	for _, test := range []struct {
		name      string
		refresher *oauth2refresh.Refresher
		code      string
		says      string
	}{
		{"zero Refresher", new(oauth2refresh.Refresher), "code-1", "use one of them"},
		{"client credentials", oauth2refresh.NewClientCredentials(clientcredentials.Config{ClientID: clientID,
			TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader}), "code-1", "use a Refresher that New made"},
		{"no AuthStyle", oauth2refresh.New(autodetect), "code-1", "AuthStyle is not set"},
		{"no code", oauth2refresh.New(config(tokenURL)), "", "no authorization code"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.refresher.Exchange(t.Context(), test.code)
			if e := codeFails(t, err, "code-1"); !strings.Contains(e.Reason, test.says) {
				t.Errorf("got %v; want %q in it", err, test.says)
			}
		})
	}
}

// Parameters of the request beside the code: the redirect URL, the verifier, the client.
func TestExchangeRequest(t *testing.T) {
	var got url.Values
	c := config(answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r.PostForm
		_, _ = w.Write([]byte(`{"access_token":"a"}`))
	}))
	c.RedirectURL, c.Endpoint.AuthStyle = "https://app.example/callback", oauth2.AuthStyleInParams
	if _, err := oauth2refresh.New(c).Exchange(t.Context(), "code-1", oauth2.VerifierOption("v")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"grant_type": "authorization_code", "code": "code-1", "redirect_uri": c.RedirectURL, "code_verifier": "v",
		"client_id": clientID, "client_secret": clientSecret,
	} {
		if got.Get(name) != want {
			t.Errorf("%s: got %q; want %q", name, got.Get(name), want)
		}
	}
}
