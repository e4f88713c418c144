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
	rejected  = credentials.Rejected
	transient = credentials.Transient
	unknown   = credentials.Unknown
)

// speaks is how some providers say that a grant is dead.
func speaks(r oauth2refresh.Response) (credentials.Class, bool) {
	switch {
	case r.Status == http.StatusBadRequest && r.Body.IsZero(): // Glewlwyd
		return rejected, true
	case r.Code == "bad_refresh_token": // GitHub, with status 200
		return rejected, true
	}
	return "", false
}

// Every way in which the provider misbehaves, over real HTTP. used says whether the refresh token was used up for real:
// where it was, nothing but unknown or rejected is right.
func TestProviderFaults(t *testing.T) {
	tests := []struct {
		name     string
		fault    provider.Fault
		classify func(oauth2refresh.Response) (credentials.Class, bool)
		class    credentials.Class
		code     string
		says     string
		retry    time.Duration
	}{
		{"429", provider.Fault{Kind: provider.RateLimited}, nil, transient, "", "429 Too Many Requests", 0},
		{"429 with seconds", provider.Fault{Kind: provider.RateLimited, RetryAfter: time.Minute}, nil, transient, "", "429", time.Minute},
		{"429 with a date", provider.Fault{Kind: provider.RateLimited, RetryAfter: time.Minute, AsDate: true}, nil, transient, "", "429", time.Minute},
		{"503", provider.Fault{Kind: provider.ServerError}, nil, transient, "", "503 Service Unavailable", 0},
		{"503 with seconds", provider.Fault{Kind: provider.ServerError, RetryAfter: time.Hour}, nil, transient, "", "503", time.Hour},
		{"500", provider.Fault{Kind: provider.ServerError, Status: 500}, nil, unknown, "", "500", 0},
		{"500, used up", provider.Fault{Kind: provider.ServerError, Status: 500, Rotated: true}, nil, unknown, "", "500", 0},
		{"502", provider.Fault{Kind: provider.ServerError, Status: 502, RetryAfter: time.Minute}, nil, unknown, "", "502", time.Minute},
		{"504", provider.Fault{Kind: provider.ServerError, Status: 504}, nil, unknown, "", "504", 0},
		{"dropped", provider.Fault{Kind: provider.Drop}, nil, unknown, "", "lost after the request had been sent", 0},
		{"dropped, used up", provider.Fault{Kind: provider.Drop, Rotated: true}, nil, unknown, "", "lost after", 0},
		{"cut off", provider.Fault{Kind: provider.CutAnswer}, nil, unknown, "", "broke off", 0},
		{"cut off, used up", provider.Fault{Kind: provider.CutAnswer, Rotated: true}, nil, unknown, "", "broke off", 0},
		{"broken JSON", provider.Fault{Kind: provider.BrokenJSON, Rotated: true}, nil, unknown, "", "cannot be read", 0},
		{"no access token", provider.Fault{Kind: provider.NoAccessToken, Rotated: true}, nil, unknown, "", "has no access_token", 0},
		{"bad_refresh_token", provider.Fault{Kind: provider.BadRefreshToken}, nil, unknown, "bad_refresh_token", "200 OK", 0},
		{"bad_refresh_token, hook", provider.Fault{Kind: provider.BadRefreshToken}, speaks, rejected, "bad_refresh_token", "200 OK", 0},
		{"400 without body", provider.Fault{Kind: provider.EmptyBadRequest}, nil, unknown, "", "400 Bad Request", 0},
		{"400 without body, hook", provider.Fault{Kind: provider.EmptyBadRequest}, speaks, rejected, "", "400 Bad Request", 0},
		{"invalid_client", provider.Fault{Kind: provider.InvalidClient}, nil, transient, "invalid_client", "check ClientID", 0},
		{"invalid_client, hook that leaves it", provider.Fault{Kind: provider.InvalidClient}, speaks, transient, "invalid_client", "check ClientID", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, provider.Options{})
			token := s.Provider.Register("alice")
			s.Provider.Enqueue("alice", tt.fault)
			r := oauth2refresh.New(config(s.TokenURL())).With(oauth2refresh.Options{Classify: tt.classify})
			before := time.Now()
			_, err := r.Refresh(t.Context(), credential(token))
			e := fails(t, err, token)
			if e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s (%s) %q; want %s (%s), %q in it", e.Class, e.Code, e.Reason, tt.class, tt.code, tt.says)
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

// between fails the test unless at is delay after a moment between before and now; delay 0: unless it is zero.
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
	tests := map[provider.Kind]time.Duration{provider.NoExpiresIn: 0, provider.ZeroExpiresIn: time.Second}
	for kind, want := range tests {
		s := serve(t, provider.Options{})
		s.Provider.Enqueue("", provider.Fault{Kind: kind})
		grant, err := oauth2refresh.New(config(s.TokenURL())).Refresh(t.Context(), credential(s.Provider.Register("alice")))
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
	for _, dead := range []string{token, "never issued"} {
		_, err := r.Refresh(t.Context(), credential(dead))
		e := fails(t, err, dead)
		if e.Class != rejected || e.Code != "invalid_grant" || !errors.Is(err, credentials.ErrReauthRequired) {
			t.Errorf("got %v; want rejected (invalid_grant)", e)
		}
	}
}

// Answers that the provider does not give. The class for client credentials is transient in all of them.
func TestAnswersThatAreNoSuccess(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		class  credentials.Class
		code   string
		says   string
	}{
		{"invalid_grant", 400, `{"error":"invalid_grant"}`, rejected, "invalid_grant", "invalid, expired, revoked"},
		{"invalid_grant with 401", 401, `{"error":"invalid_grant"}`, rejected, "invalid_grant", "invalid, expired, revoked"},
		{"invalid_grant with 200", 200, `{"error":"invalid_grant"}`, rejected, "invalid_grant", "invalid, expired, revoked"},
		{"invalid_grant with 500", 500, `{"error":"invalid_grant"}`, unknown, "invalid_grant", "Classify"},
		{"invalid_grant with 429", 429, `{"error":"invalid_grant"}`, transient, "invalid_grant", "too many requests"},
		{"invalid_request", 400, `{"error":"invalid_request"}`, unknown, "invalid_request", "overlapped"},
		{"unauthorized_client", 400, `{"error":"unauthorized_client"}`, transient, "unauthorized_client", "settings"},
		{"unsupported_grant_type", 400, `{"error":"unsupported_grant_type"}`, transient, "unsupported_grant_type", "TokenURL"},
		{"invalid_scope", 400, `{"error":"invalid_scope"}`, transient, "invalid_scope", "Scopes"},
		{"temporarily_unavailable", 400, `{"error":"temporarily_unavailable"}`, transient, "temporarily_unavailable", "for now"},
		{"temporarily_unavailable with 500", 500, `{"error":"temporarily_unavailable"}`, transient, "temporarily_unavailable", "for now"},
		{"server_error", 400, `{"error":"server_error"}`, unknown, "server_error", "how far"},
		{"unheard-of code", 400, `{"error":"computer_says_no"}`, unknown, "computer_says_no", "400"},
		{"Spring's error", 401, `{"status":401,"error":"Unauthorized"}`, transient, "Unauthorized", "check ClientID"},
		{"sentence for a code", 400, `{"error":"the token letters-only is bad"}`, unknown, "", "400"},
		{"object for a code", 400, `{"error":{"code":190}}`, unknown, "", "400"},
		{"presented token for a code", 400, `{"error":"letters-only"}`, unknown, "", "400"},
		{"part of it for a code", 400, `{"error":"letters-on"}`, unknown, "", "400"},
		{"around it for a code", 400, `{"error":"bad.letters-only"}`, unknown, "", "400"},
		{"answer's own token for a code", 400, `{"error":"abcdefghij","access_token":"abcdefghij"}`, unknown, "", "400"},
		{"digits for a code", 400, `{"error":"qw1er2ty"}`, unknown, "", "400"},
		{"changing case for a code", 400, `{"error":"qwErTy"}`, unknown, "", "400"},
		{"capitals", 400, `{"error":"INVALID_TOKEN"}`, unknown, "INVALID_TOKEN", "400"},
		{"long code", 400, `{"error":"` + strings.Repeat("e", 65) + `"}`, unknown, "", "400"},
		{"HTML", 403, `<html>letters-only</html>`, transient, "", "403"},
		{"not found", 404, ``, transient, "", "check TokenURL"},
		{"teapot", 418, ``, unknown, "", "418"},
		{"status that does not exist", 599, `letters-only`, unknown, "", "answered 599"},
		{"HTML with 200", 200, `<html>letters-only</html>`, unknown, "", "cannot be read"},
		{"no content", 204, ``, unknown, "", "cannot be read"},
		{"null", 200, `null`, unknown, "", "cannot be read"},
		{"array", 200, `["access_token"]`, unknown, "", "cannot be read"},
		{"empty token", 200, `{"access_token":""}`, unknown, "", "has no access_token"},
		{"token that is no string", 200, `{"access_token":7}`, unknown, "", "has no access_token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			_, err := oauth2refresh.New(config(url)).Refresh(t.Context(), credential("letters-only"))
			e := fails(t, err, "letters-only", "abcdefghij")
			if e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s (%s) %q; want %s (%s), %q in it", e.Class, e.Code, e.Reason, tt.class, tt.code, tt.says)
			}
			_, err = oauth2refresh.NewClientCredentials(clientConfig(url)).Refresh(t.Context(), credential(""))
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
		{"rejected", rejected, true, rejected, true, false},
		{"transient", transient, true, transient, false, true},
		{"unknown", unknown, true, unknown, false, true},
		{"not for it", rejected, false, unknown, false, true},
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
			if e.Class != tt.want || errors.Is(err, credentials.ErrReauthRequired) != tt.reauth || e.RetryAt.IsZero() == tt.hasRetry {
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
	if e := fails(t, err); e.Class != rejected {
		t.Errorf("got %s; want what the hook says", e.Class)
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Tue, 15 Nov 1994 08:12:31 GMT" // a server whose clock is decades behind
	tests := []struct {
		name, value, date string
		want              time.Duration
	}{
		{"seconds", "120", date, 2 * time.Minute},
		{"zero", "0", date, 0},
		{"more than a day", "86401", date, 24 * time.Hour},
		{"more than 64 bits", "99999999999999999999999", date, 24 * time.Hour},
		{"negative", "-5", date, 0},
		{"words", "soon", date, 0},
		{"fraction", "1.5", date, 0},
		{"date", "Tue, 15 Nov 1994 08:14:31 GMT", date, 2 * time.Minute},
		{"date, RFC 850", "Tuesday, 15-Nov-94 08:14:31 GMT", date, 2 * time.Minute},
		{"date, asctime", "Tue Nov 15 08:14:31 1994", date, 2 * time.Minute},
		{"date in the past", "Tue, 15 Nov 1994 08:12:00 GMT", date, 0},
		{"date after more than a day", "Fri, 18 Nov 1994 08:12:00 GMT", date, 24 * time.Hour},
		{"past date, no clock to hold it against", "Tue, 15 Nov 1994 08:14:31 GMT", "", 0},
		{"future date, no clock to hold it against", "Tue, 15 Nov 2094 08:14:31 GMT", "", 24 * time.Hour},
		{"date against nonsense", "Tue, 15 Nov 2094 08:14:31 GMT", "yesterday", 24 * time.Hour},
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
			_, err := oauth2refresh.New(config(url)).Refresh(t.Context(), credential("refresh-1"))
			between(t, fails(t, err).RetryAt, before, tt.want)
		})
	}
}
