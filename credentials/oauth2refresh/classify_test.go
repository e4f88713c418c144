package oauth2refresh_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

const (
	dead      = credentials.ClassDead
	transient = credentials.ClassTransient
	unknown   = credentials.ClassUnknown
)

// speaks is a hook for a provider that speaks in its own way.
func speaks(r oauth2refresh.Response) (credentials.Class, bool) {
	switch {
	case r.Status == http.StatusBadRequest && r.Body.IsZero(): // Glewlwyd
		return dead, true
	case r.Code == "bad_refresh_token":
		return transient, true
	}
	return "", false
}

type fault = provider.Fault

var providerFaults = []struct {
	name     string
	fault    fault
	classify func(oauth2refresh.Response) (credentials.Class, bool)
	class    credentials.Class
	code     string
	says     string
	retry    time.Duration
}{
	{"429", fault{Kind: provider.RateLimited}, nil, transient, "", "429 Too Many Requests", 0},
	{"429 with seconds", fault{Kind: provider.RateLimited, RetryAfter: time.Minute}, nil, transient, "", "429", time.Minute},
	{"429 with a date", fault{Kind: provider.RateLimited, RetryAfter: time.Minute, AsDate: true}, nil, transient, "", "429", time.Minute},
	{"503", fault{Kind: provider.ServerError}, nil, transient, "", "503 Service Unavailable", 0},
	{"503 with seconds", fault{Kind: provider.ServerError, RetryAfter: time.Hour}, nil, transient, "", "503", time.Hour},
	{"500", fault{Kind: provider.ServerError, Status: 500}, nil, unknown, "", "500", 0},
	{"500, used up", fault{Kind: provider.ServerError, Status: 500, Rotated: true}, nil, unknown, "", "500", 0},
	{"502", fault{Kind: provider.ServerError, Status: 502, RetryAfter: time.Minute}, nil, unknown, "", "502", time.Minute},
	{"504", fault{Kind: provider.ServerError, Status: 504}, nil, unknown, "", "504", 0},
	{"dropped", fault{Kind: provider.Drop}, nil, unknown, "", "lost after the request had been sent", 0},
	{"dropped, used up", fault{Kind: provider.Drop, Rotated: true}, nil, unknown, "", "lost after", 0},
	{"cut off", fault{Kind: provider.CutAnswer}, nil, unknown, "", "broke off", 0},
	{"cut off, used up", fault{Kind: provider.CutAnswer, Rotated: true}, nil, unknown, "", "broke off", 0},
	{"broken JSON", fault{Kind: provider.BrokenJSON, Rotated: true}, nil, unknown, "", "cannot be read", 0},
	{"no access token", fault{Kind: provider.NoAccessToken, Rotated: true}, nil, unknown, "", "has no access_token", 0},
	{"bad_refresh_token", fault{Kind: provider.BadRefreshToken}, nil, dead, "bad_refresh_token", "200 OK", 0},
	{"bad_refresh_token, hook", fault{Kind: provider.BadRefreshToken}, speaks, transient, "bad_refresh_token", "200 OK", 0},
	{"400 without body", fault{Kind: provider.EmptyBadRequest}, nil, transient, "", "400 Bad Request", 0},
	{"firewall's page", fault{Kind: provider.Firewall}, nil, transient, "", "403 Forbidden", 0},
	{"firewall's page, 400", fault{Kind: provider.Firewall, Status: 400}, nil, transient, "", "without a reason", 0},
	{"firewall's page, 418", fault{Kind: provider.Firewall, Status: 418}, nil, transient, "", "without a reason", 0},
	{"firewall's page, 200, used up", fault{Kind: provider.Firewall, Status: 200, Rotated: true}, nil, unknown, "", "cannot be read", 0},
	{"408, used up", fault{Kind: provider.ServerError, Status: 408, Rotated: true}, nil, unknown, "", "time was over", 0},
	{"499, used up", fault{Kind: provider.ServerError, Status: 499, Rotated: true}, nil, unknown, "", "a proxy says", 0},
	{"425", fault{Kind: provider.ServerError, Status: 425}, nil, transient, "", "later", 0},
	{"400 without body, hook", fault{Kind: provider.EmptyBadRequest}, speaks, dead, "", "400 Bad Request", 0},
	{"invalid_client", fault{Kind: provider.InvalidClient}, nil, transient, "invalid_client", "check ClientID", 0},
	{"invalid_client, hook that leaves it", fault{Kind: provider.InvalidClient}, speaks, transient, "invalid_client", "check ClientID", 0},
}

// TestProviderFaults: the provider misbehaves in every way, over real HTTP. Where it used up the
// refresh token, nothing but unknown or dead is right.
func TestProviderFaults(t *testing.T) {
	for _, tt := range providerFaults {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, provider.Options{})
			token := s.Provider.Register("alice")
			s.Provider.Enqueue("alice", tt.fault)
			r := oauth2refresh.New(config(s.TokenURL())).With(oauth2refresh.Options{Classify: tt.classify})
			before := time.Now()
			_, err := r.Refresh(t.Context(), credential(token))
			e := fails(t, err, token)
			if e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s (%s) %q; want %s (%s), %q in it",
					e.Class, e.Code, e.Reason, tt.class, tt.code, tt.says)
			}
			if e.Class == transient && !s.Provider.Current("alice", token) {
				t.Error("transient, but the refresh token is used up")
			}
			between(t, e.RetryAt, before, tt.retry)
			if got := s.Provider.Stats().Calls; got != 1 {
				t.Errorf("the provider got %d presentations; want 1", got)
			}
		})
	}
}

// between fails the test unless at is the delay after a moment between before and now or, for a
// delay of 0, the zero time.
func between(t *testing.T, at, before time.Time, delay time.Duration) {
	t.Helper()
	if delay == 0 {
		if !at.IsZero() {
			t.Errorf("got RetryAt in %v; want none", time.Until(at))
		}
		return
	}
	if at.Before(before.Add(delay)) || at.After(time.Now().Add(delay)) {
		t.Errorf("got RetryAt in %v; want in %v", time.Until(at), delay)
	}
}

func TestFaultySuccesses(t *testing.T) {
	tests := map[provider.Kind]time.Duration{provider.NoExpiresIn: 0, provider.ZeroExpiresIn: 1}
	for kind, want := range tests {
		s := serve(t, provider.Options{})
		s.Provider.Enqueue("", provider.Fault{Kind: kind})
		grant, err := refresh(t, s.TokenURL(), s.Provider.Register("alice"))
		if err != nil || grant.Lifetime != want || !s.Provider.Current("alice", grant.RefreshToken.Reveal()) {
			t.Errorf("%s: got lifetime %v, error %v; want %v and the newest refresh token", kind, grant.Lifetime, err, want)
		}
	}
}

func TestDeadGrants(t *testing.T) {
	s := serve(t, provider.Options{})
	r := oauth2refresh.New(config(s.TokenURL()))
	token := s.Provider.Register("alice")
	if _, err := r.Refresh(t.Context(), credential(token)); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []string{token, "never issued"} {
		_, err := r.Refresh(t.Context(), credential(refused))
		e := fails(t, err, refused)
		if e.Class != dead || e.Code != "invalid_grant" || !errors.Is(err, credentials.ErrGrantDead) {
			t.Errorf("got %v; want dead (invalid_grant)", e)
		}
	}
}

var failures = []struct {
	name   string
	status int
	body   string
	class  credentials.Class
	code   string
	says   string
}{
	{"invalid_grant", 400, `{"error":"invalid_grant"}`, dead, "invalid_grant", "invalid, expired, revoked"},
	{"invalid_grant with 401", 401, `{"error":"invalid_grant"}`, dead, "invalid_grant", "invalid, expired, revoked"},
	{"invalid_grant with 200", 200, `{"error":"invalid_grant"}`, dead, "invalid_grant", "invalid, expired, revoked"},
	{"invalid_grant with 500", 500, `{"error":"invalid_grant"}`, unknown, "invalid_grant", "Classify"},
	{"invalid_grant with 429", 429, `{"error":"invalid_grant"}`, transient, "invalid_grant", "too many requests"},
	{"invalid_request", 400, `{"error":"invalid_request"}`, transient, "invalid_request", "malformed"},
	{"unauthorized_client", 400, `{"error":"unauthorized_client"}`, transient, "unauthorized_client", "settings"},
	{"unsupported_grant_type", 400, `{"error":"unsupported_grant_type"}`, transient, "unsupported_grant_type", "TokenURL"},
	{"invalid_scope", 400, `{"error":"invalid_scope"}`, transient, "invalid_scope", "Scopes"},
	{"temporarily_unavailable", 400, `{"error":"temporarily_unavailable"}`, transient, "temporarily_unavailable", "for now"},
	{"temporarily_unavailable with 500", 500, `{"error":"temporarily_unavailable"}`, transient, "temporarily_unavailable", "for now"},
	{"server_error", 400, `{"error":"server_error"}`, transient, "server_error", "failed"},
	{"server_error with 500", 500, `{"error":"server_error"}`, unknown, "server_error", "how far"},
	{"unheard-of code", 400, `{"error":"computer_says_no"}`, transient, "computer_says_no", "400"},
	{"Spring's error", 401, `{"status":401,"error":"Unauthorized"}`, transient, "Unauthorized", "check ClientID"},
	{"sentence for a code", 400, `{"error":"the token letters-only is bad"}`, transient, "", "400"},
	{"object for a code", 400, `{"error":{"code":190}}`, transient, "", "400"},
	{"presented token for a code", 400, `{"error":"letters-only"}`, transient, "", "400"},
	{"presented token in capitals for a code", 400, `{"error":"LETTERS-ONLY"}`, transient, "", "400"},
	{"part of it in capitals for a code", 400, `{"error":"LETTERS-ON"}`, transient, "", "400"},
	{"answer's own token in capitals for a code", 400, `{"error":"ABCDEFGHIJ","refresh_token":"abcdefghij"}`, transient, "", "400"},
	{"answer's own capitals in small letters for a code", 400, `{"error":"abcdefghij","id_token":"ABCDEFGHIJ"}`, transient, "", "400"},
	{"part of it for a code", 400, `{"error":"letters-on"}`, transient, "", "400"},
	{"around it for a code", 400, `{"error":"bad.letters-only"}`, transient, "", "400"},
	{"answer's own token for a code", 400, `{"error":"abcdefghij","access_token":"abcdefghij"}`, transient, "", "400"},
	{"digits for a code", 400, `{"error":"qw1er2ty"}`, transient, "", "400"},
	{"changing case for a code", 400, `{"error":"qwErTy"}`, transient, "", "400"},
	{"capitals", 400, `{"error":"INVALID_TOKEN"}`, transient, "INVALID_TOKEN", "400"},
	{"long code", 400, `{"error":"` + strings.Repeat("e", 65) + `"}`, transient, "", "400"},
	{"HTML", 403, `<html>letters-only</html>`, transient, "", "403"},
	{"not found", 404, ``, transient, "", "check TokenURL"},
	{"teapot", 418, ``, transient, "", "418"},
	{"status that does not exist", 599, `letters-only`, unknown, "", "answered 599"},
	{"HTML with 200", 200, `<html>letters-only</html>`, unknown, "", "cannot be read"},
	{"no content", 204, ``, unknown, "", "cannot be read"},
	{"null", 200, `null`, unknown, "", "cannot be read"},
	{"array", 200, `["access_token"]`, unknown, "", "cannot be read"},
	{"empty token", 200, `{"access_token":""}`, unknown, "", "has no access_token"},
	{"token that is no string", 200, `{"access_token":7}`, unknown, "", "has no access_token"},
}

// TestAnswersThatAreNoSuccess has answers that the provider of the other tests does not give. For
// client credentials all of them are transient.
func TestAnswersThatAreNoSuccess(t *testing.T) {
	for _, tt := range failures {
		t.Run(tt.name, func(t *testing.T) {
			url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			_, err := refresh(t, url, "letters-only")
			e := fails(t, err, "letters-only", "abcdefghij")
			if e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s (%s) %q; want %s (%s), %q in it",
					e.Class, e.Code, e.Reason, tt.class, tt.code, tt.says)
			}
			robot := oauth2refresh.NewClientCredentials(clientConfig(url))
			_, err = robot.Refresh(t.Context(), credential(""))
			if e := fails(t, err, "abcdefghij"); e.Class != transient {
				t.Errorf("client credentials: got %s %q; want transient", e.Class, e.Reason)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	var got oauth2refresh.Response
	url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Reason", "expired")
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(422)
		_, _ = io.WriteString(w, `{"error":"dead","detail":"refresh-1"}`)
	})
	tests := []struct {
		name     string
		class    credentials.Class
		ok       bool
		want     credentials.Class
		reauth   bool
		hasRetry bool
	}{
		{"dead", dead, true, dead, true, false},
		{"transient", transient, true, transient, false, true},
		{"unknown", unknown, true, unknown, false, true},
		{"not for it", dead, false, transient, false, true},
		{"no class", "", true, unknown, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := oauth2refresh.New(config(url)).With(oauth2refresh.Options{
				Classify: func(response oauth2refresh.Response) (credentials.Class, bool) {
					got = response
					return tt.class, tt.ok
				},
			})
			_, err := r.Refresh(t.Context(), credential("refresh-1"))
			e := fails(t, err, "refresh-1")
			if e.Class != tt.want || errors.Is(err, credentials.ErrGrantDead) != tt.reauth || e.RetryAt.IsZero() == tt.hasRetry {
				t.Errorf("got %v; want %s, RetryAt: %v", e, tt.want, tt.hasRetry)
			}
			if got.Status != 422 || got.Code != "dead" || got.Header.Get("X-Reason") != "expired" ||
				got.Body.Reveal() != `{"error":"dead","detail":"refresh-1"}` {
				t.Errorf("the hook got %+v, body %s; want the answer", got, got.Body.Reveal())
			}
		})
	}
}

func TestClassifyForClientCredentials(t *testing.T) {
	url := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) })
	r := oauth2refresh.NewClientCredentials(clientConfig(url)).With(oauth2refresh.Options{Classify: speaks})
	_, err := r.Refresh(t.Context(), credential(""))
	if e := fails(t, err); e.Class != dead {
		t.Errorf("got %s; want what the hook says", e.Class)
	}
}

func TestRetryAfter(t *testing.T) {
	const (
		date    = "Tue, 15 Nov 1994 08:12:31 GMT" // a server whose clock is decades behind
		century = 100 * 365 * 24 * time.Hour      // the longest time that is believed
	)
	tests := []struct {
		name, value, date string
		want              time.Duration
	}{
		{"seconds", "120", date, 2 * time.Minute},
		{"zero", "0", date, 0},
		{"more than a day", "86401", date, 24*time.Hour + time.Second},
		{"more than 64 bits", "99999999999999999999999", date, century},
		{"more than a number can be", strings.Repeat("9", 400), date, century},
		{"negative", "-5", date, 0},
		{"words", "soon", date, 0},
		{"fraction", "1.5", date, 0},
		{"date", "Tue, 15 Nov 1994 08:14:31 GMT", date, 2 * time.Minute},
		{"date, RFC 850", "Tuesday, 15-Nov-94 08:14:31 GMT", date, 2 * time.Minute},
		{"date, asctime", "Tue Nov 15 08:14:31 1994", date, 2 * time.Minute},
		{"date in the past", "Tue, 15 Nov 1994 08:12:00 GMT", date, 0},
		{"date after more than a day", "Fri, 18 Nov 1994 08:12:31 GMT", date, 3 * 24 * time.Hour},
		{"past date, no clock to hold it against", "Tue, 15 Nov 1994 08:14:31 GMT", "", 0},
		{"future date, no clock to hold it against", "Tue, 15 Nov 2994 08:14:31 GMT", "", century},
		{"date against nonsense", "Tue, 15 Nov 2994 08:14:31 GMT", "yesterday", century},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Date"] = nil // none of the server's own
				if tt.date != "" {
					w.Header().Set("Date", tt.date)
				}
				w.Header().Set("Retry-After", tt.value)
				w.WriteHeader(429)
			})
			before := time.Now()
			_, err := refresh(t, url, "refresh-1")
			between(t, fails(t, err).RetryAt, before, tt.want)
		})
	}
}
