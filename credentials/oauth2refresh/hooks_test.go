package oauth2refresh_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

type (
	params = func(context.Context, credentials.RefreshInput) (url.Values, error)
	header = func(context.Context, credentials.RefreshInput) (http.Header, error)
)

// TestParams: the request has what the hooks say, taken from the row too.
func TestParams(t *testing.T) {
	var form url.Values
	var fields http.Header
	tokenURL := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form, fields = r.PostForm, r.Header
		_, _ = io.WriteString(w, `{"access_token":"a"}`)
	})
	c := config(tokenURL)
	c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	r := oauth2refresh.New(c).With(oauth2refresh.Options{
		Params: func(_ context.Context, in credentials.RefreshInput) (url.Values, error) {
			return url.Values{
				"resource": {"https://a.example", "https://b.example"}, "scope": {"read write"},
				"tenant": {in.Extra["tenant"].Reveal()}, "client_secret": nil,
			}, nil
		},
		Header: func(_ context.Context, in credentials.RefreshInput) (http.Header, error) {
			return http.Header{"Idempotency-Key": {in.Fence.Claim}, "accept": {"application/vnd.example+json"}}, nil
		},
	})
	in := credential("refresh-1")
	in.Extra = map[string]credentials.Secret{"tenant": credentials.NewSecret("t1")}
	in.Fence.Claim = "claim-1"
	if _, err := r.Refresh(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {"refresh-1"}, "client_id": {clientID},
		"resource": {"https://a.example", "https://b.example"}, "scope": {"read write"}, "tenant": {"t1"},
	}
	if form.Encode() != want.Encode() {
		t.Errorf("got form %v; want %v", form, want)
	}
	if got := fields.Get("Idempotency-Key"); got != "claim-1" {
		t.Errorf("got Idempotency-Key %q; want the claim", got)
	}
	if got := fields["Accept"]; !slices.Equal(got, []string{"application/vnd.example+json"}) {
		t.Errorf("got Accept %q; want the hook's in place of the usual one", got)
	}
}

// TestPlainBasic: the client's id and secret go out form-encoded or, where the option says so, as
// they are.
func TestPlainBasic(t *testing.T) {
	for plain, want := range map[bool]string{false: url.QueryEscape(clientSecret), true: clientSecret} {
		var got string
		c := config(answering(t, func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			_, got, _ = r.BasicAuth()
			_, _ = io.WriteString(w, `{"access_token":"a"}`)
		}))
		c.ClientID = "app" // no form encoding can take a colon
		r := oauth2refresh.New(c).With(oauth2refresh.Options{PlainBasic: plain})
		if _, err := r.Refresh(t.Context(), credential("refresh-1")); err != nil || got != want {
			t.Errorf("PlainBasic %v: got %q, error %v; want %q", plain, got, err, want)
		}
	}
	c := config("https://login.example/token")
	c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	err := oauth2refresh.New(c).With(oauth2refresh.Options{PlainBasic: true}).Check()
	if err == nil || !strings.Contains(err.Error(), "PlainBasic") {
		t.Errorf("Check: got %v; want it to say that PlainBasic does not fit", err)
	}
}

var errHook = errors.New("s3cret of the hook")

// TestHooksThatFail: where a hook fails nothing is presented, the refresh token is untouched, and
// the error shows nothing of the hook's.
func TestHooksThatFail(t *testing.T) {
	tests := []struct {
		name   string
		params params
		header header
		says   string
		cause  error
	}{
		{"error", func(context.Context, credentials.RefreshInput) (url.Values, error) { return nil, errHook }, nil,
			"Options.Params returned an error of type *errors.errorString", errHook},
		{"panic", func(_ context.Context, in credentials.RefreshInput) (url.Values, error) {
			panic(in.RefreshToken.Reveal())
		}, nil,
			"Options.Params panicked with a string", nil},
		{"goroutine ended", func(context.Context, credentials.RefreshInput) (url.Values, error) {
			runtime.Goexit()
			return nil, nil
		}, nil, "Options.Params ended its goroutine", nil},
		{"another refresh token", func(context.Context, credentials.RefreshInput) (url.Values, error) {
			return url.Values{"refresh_token": {"another"}}, nil
		}, nil, "named refresh_token", nil},
		{"error of Header", nil, func(context.Context, credentials.RefreshInput) (http.Header, error) { return nil, errHook },
			"Options.Header returned an error", errHook},
		{"panic of Header", nil, func(context.Context, credentials.RefreshInput) (http.Header, error) { panic(errHook) },
			"Options.Header panicked with a *errors.errorString", nil},
		{"another length", nil, func(context.Context, credentials.RefreshInput) (http.Header, error) {
			return http.Header{"Content-Length": {"3"}}, nil
		}, "named Content-Length", nil},
		{"a field that cannot be sent", nil, func(context.Context, credentials.RefreshInput) (http.Header, error) {
			return http.Header{"X-Key": {"a\nb"}}, nil
		}, "nothing was sent", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int32
			url := answering(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
			r := oauth2refresh.New(config(url)).With(oauth2refresh.Options{Params: tt.params, Header: tt.header})
			_, err := r.Refresh(t.Context(), credential("refresh-1"))
			var e *credentials.RefreshError
			if !errors.As(err, &e) || e.Class != transient || !strings.Contains(e.Reason, tt.says) ||
				strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "refresh-1") {
				t.Errorf("got %v; want transient, %q in it", err, tt.says)
			}
			if tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("got cause %v; want the hook's error", e.Err)
			}
			if n := requests.Load(); n != 0 {
				t.Errorf("the provider got %d requests; want none", n)
			}
		})
	}
}

// TestHookThatTakesForEver: it has half of the exchange's time, and nothing is sent when it returns
// after all.
func TestHookThatTakesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		sent := false
		r := over(roundTrip(func(*http.Request) (*http.Response, error) {
			sent = true
			return nil, errHook
		}), "https://login.example/token").With(oauth2refresh.Options{
			Params: func(context.Context, credentials.RefreshInput) (url.Values, error) {
				<-release
				return nil, nil
			},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := r.Refresh(ctx, credential("refresh-1"))
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v; want half of the time", took)
		}
		failsAs(t, err, transient, "Options.Params did not return in time; nothing was presented", nil, "refresh-1")
		close(release)
		synctest.Wait()
		if sent {
			t.Error("a request was sent")
		}
	})
}

// TestHooksOfAnswersThatTakeForEver: this package's own reading counts when the time is over.
func TestHooksOfAnswersThatTakeForEver(t *testing.T) {
	for body, options := range map[string]oauth2refresh.Options{
		`{"access_token":"a","refresh_token":"r"}`: {Decode: func(oauth2refresh.Response) (credentials.Grant, bool) { select {} }},
		`{"error":"invalid_grant"}`:                {Classify: func(oauth2refresh.Response) (credentials.Class, bool) { select {} }},
	} {
		options.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, r.Body)
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(body)), Request: r,
			}, nil
		})}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		grant, err := oauth2refresh.New(config("https://login.example/token")).With(options).Refresh(ctx, credential("refresh-1"))
		cancel()
		if options.Decode != nil && grant.RefreshToken.Reveal() != "r" {
			t.Errorf("got error %v; want the grant", err)
		}
		if options.Classify != nil && !errors.Is(err, credentials.ErrGrantDead) {
			t.Errorf("got error %v; want the word of the provider", err)
		}
	}
}

// TestClassifyThatPanics: the meaning is then this package's.
func TestClassifyThatPanics(t *testing.T) {
	r := oauth2refresh.New(config(refusing(t, 400, `{"error":"invalid_grant"}`))).With(oauth2refresh.Options{
		Classify: func(oauth2refresh.Response) (credentials.Class, bool) { panic("no") },
	})
	if _, err := r.Refresh(t.Context(), credential("refresh-1")); fails(t, err).Class != dead {
		t.Errorf("got %v; want dead", err)
	}
}

// TestHookSecretsAreNotEchoed: a provider that repeats what hooks sent shows it to nobody.
func TestHookSecretsAreNotEchoed(t *testing.T) {
	const key = "correct-horse-battery"
	tokenURL := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"error":"`+r.Header.Get("X-Key")+`","error_description":"bad key `+r.Header.Get("X-Key")+`"}`)
	})
	r := oauth2refresh.New(config(tokenURL)).With(oauth2refresh.Options{
		Header: func(context.Context, credentials.RefreshInput) (http.Header, error) {
			return http.Header{"X-Key": {key}}, nil
		},
	})
	_, err := r.Refresh(t.Context(), credential("refresh-1"))
	if e := fails(t, err, key, "battery"); e.Code != "" {
		t.Errorf("got code %q; want none", e.Code)
	}
}
