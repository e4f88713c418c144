package provider_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// endpoint is a provider that is served over HTTP for the length of a test.
type endpoint struct {
	t *testing.T
	*provider.Provider
	*provider.Server
}

func start(t *testing.T, options provider.Options) endpoint {
	t.Helper()
	p := provider.New(options)
	s, err := provider.Start("", p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return endpoint{t, p, s}
}

// answer is what a token request came to.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
	err    error // of the request, or of reading the body
}

func (a answer) text(name string) string {
	text, _ := a.body[name].(string)
	return text
}

func (e endpoint) post(ctx context.Context, form url.Values, change ...func(*http.Request)) answer {
	e.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "POST", e.TokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		e.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(request)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, header: response.Header, raw: string(raw), err: err}
	_ = json.Unmarshal(raw, &a.body)
	return a
}

func (e endpoint) refresh(token string) answer {
	e.t.Helper()
	return e.post(e.t.Context(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// issued fails the test unless the answer has tokens, and returns them.
func (e endpoint) issued(a answer) (access, refresh string) {
	e.t.Helper()
	if a.err != nil || a.status != http.StatusOK || a.text("access_token") == "" {
		e.t.Fatalf("got status %d, body %s, error %v; want tokens", a.status, a.raw, a.err)
	}
	return a.text("access_token"), a.text("refresh_token")
}

func (e endpoint) refused(a answer, status int, code string) {
	e.t.Helper()
	if a.err != nil || a.status != status || a.text("error") != code {
		e.t.Fatalf("got status %d, body %s, error %v; want %d %s", a.status, a.raw, a.err, status, code)
	}
}

func (e endpoint) last() provider.Presentation {
	e.t.Helper()
	all := e.Presentations()
	if len(all) == 0 {
		e.t.Fatal("nothing was recorded")
	}
	return all[len(all)-1]
}

// ended waits for the last presentation to end, and returns it: the server may notice later than
// the client.
func (e endpoint) ended() provider.Presentation {
	e.t.Helper()
	eventually(e.t, "the presentation ends", func() bool { return !e.last().End.IsZero() })
	return e.last()
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 10 s: %s", what)
		}
	}
}

func TestRotation(t *testing.T) {
	e := start(t, provider.Options{})
	first := e.Register("alice")
	access, second := e.issued(e.refresh(first))
	if account, ok := e.Validate(access); account != "alice" || !ok {
		t.Errorf("Validate: got %q, %v; want alice, true", account, ok)
	}
	if second == "" || second == first {
		t.Fatalf("got refresh token %q after %q; want another", second, first)
	}
	if e.Current("alice", first) || !e.Current("alice", second) || e.Current("bob", second) {
		t.Errorf("Current: got %v for the used, %v for the new, %v for the wrong account; want false, true, false",
			e.Current("alice", first), e.Current("alice", second), e.Current("bob", second))
	}
	got := e.last()
	if got.Account != "alice" || got.Outcome != provider.Issued || got.Serial != e.Serial(first) || got.Next != e.Serial(second) {
		t.Errorf("got %+v; want alice's, issued, serial %d, next %d", got, e.Serial(first), e.Serial(second))
	}
	if got.End.Before(got.Start) || got.ClientGone {
		t.Errorf("got %+v; want an end after the start, and a client", got)
	}
}

func TestReuseRevokesTheFamily(t *testing.T) {
	e := start(t, provider.Options{})
	other := e.Register("alice")
	first := e.Register("alice")
	access, second := e.issued(e.refresh(first))

	e.refused(e.refresh(first), http.StatusBadRequest, "invalid_grant")
	if got := e.last(); got.Outcome != provider.Reused {
		t.Errorf("got outcome %s; want reused", got.Outcome)
	}
	e.refused(e.refresh(second), http.StatusBadRequest, "invalid_grant")
	if got := e.last(); got.Outcome != provider.Revoked {
		t.Errorf("got outcome %s; want revoked", got.Outcome)
	}
	if _, ok := e.Validate(access); ok || e.Current("alice", second) {
		t.Error("the family's tokens are still good")
	}
	e.refused(e.refresh("never issued"), http.StatusBadRequest, "invalid_grant")
	if got := e.last(); got.Outcome != provider.NeverWas || got.Account != "" || got.Serial != 0 {
		t.Errorf("got %+v; want nobody's, unissued", got)
	}
	if got := e.Stats().ReuseDetected; got != 1 {
		t.Errorf("got %d reuses detected; want 1", got)
	}
	e.issued(e.refresh(other)) // another authorization of the same account is another family
}

func TestGraceWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider.New(provider.Options{Grace: 10 * time.Second})
		first := p.Register("alice")
		call := func(token string) answer { return direct(p, token) }
		if a := call(first); a.status != http.StatusOK {
			t.Fatalf("first presentation: %s", a.raw)
		}
		time.Sleep(10*time.Second - time.Nanosecond)
		again := call(first)
		if again.status != http.StatusOK || !p.Current("alice", again.text("refresh_token")) {
			t.Fatalf("within the window: got %s; want new tokens", again.raw)
		}
		if got := p.Stats(); got.ReuseDetected != 0 || got.Duplicates != 1 {
			t.Errorf("got %+v; want a duplicate and no reuse", got.Counts)
		}
		time.Sleep(time.Nanosecond)
		if a := call(first); a.text("error") != "invalid_grant" {
			t.Errorf("after the window: got %s; want invalid_grant", a.raw)
		}
	})
}

func TestLifetimes(t *testing.T) {
	tests := []struct {
		name     string
		lifetime time.Duration
		want     float64
		lasts    time.Duration
	}{
		{"default", 0, 3600, time.Hour},
		{"rounded down", 1900 * time.Millisecond, 1, 1900 * time.Millisecond},
		{"rounded down to nothing", 900 * time.Millisecond, 0, 900 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := provider.New(provider.Options{Lifetime: tt.lifetime})
				a := direct(p, p.Register("alice"))
				if got := a.body["expires_in"]; got != tt.want {
					t.Errorf("got expires_in %v; want %v", got, tt.want)
				}
				time.Sleep(tt.lasts - time.Nanosecond)
				if _, ok := p.Validate(a.text("access_token")); !ok {
					t.Error("the token ended early")
				}
				time.Sleep(time.Nanosecond)
				if _, ok := p.Validate(a.text("access_token")); ok {
					t.Error("the token outlives its lifetime")
				}
			})
		})
	}
}

func TestOldAccessToken(t *testing.T) {
	for _, end := range []bool{false, true} {
		e := start(t, provider.Options{EndOldAccessToken: end})
		access, refresh := e.issued(e.refresh(e.Register("alice")))
		e.issued(e.refresh(refresh))
		if _, ok := e.Validate(access); ok == end {
			t.Errorf("EndOldAccessToken %v: the old access token is good: %v", end, ok)
		}
	}
}

func TestKeptRefreshToken(t *testing.T) {
	e := start(t, provider.Options{KeepRefreshToken: true})
	first := e.Register("alice")
	for range 3 {
		if _, refresh := e.issued(e.refresh(first)); refresh != "" {
			t.Fatalf("got refresh token %q; want none", refresh)
		}
	}
	if got := e.Stats(); got.Duplicates != 0 || got.Replays != 0 || got.Issued != 3 {
		t.Errorf("got %+v; want 3 issued, no repetition", got.Counts)
	}
}

func TestRevoke(t *testing.T) {
	e := start(t, provider.Options{})
	access, refresh := e.issued(e.refresh(e.Register("alice")))
	_, bobs := e.issued(e.refresh(e.Register("bob")))
	e.Revoke("alice")
	if _, ok := e.Validate(access); ok {
		t.Error("the access token outlives the authorization")
	}
	e.refused(e.refresh(refresh), http.StatusBadRequest, "invalid_grant")
	e.issued(e.refresh(bobs))
}

func TestClientCredentialsAndExtra(t *testing.T) {
	e := start(t, provider.Options{Extra: map[string]any{"scope": "read write", "instance_url": "https://eu1.example"}})
	a := e.post(t.Context(), url.Values{"grant_type": {"client_credentials"}, "client_id": {"robot"}})
	access, refresh := e.issued(a)
	if account, ok := e.Validate(access); account != "robot" || !ok || refresh != "" {
		t.Errorf("got account %q, %v, refresh token %q; want robot, true, none", account, ok, refresh)
	}
	if a.text("scope") != "read write" || a.text("instance_url") != "https://eu1.example" {
		t.Errorf("got %s; want the extras in it", a.raw)
	}
	if got := e.last(); got.Account != "robot" || got.Grant != "client_credentials" || got.Serial != 0 {
		t.Errorf("got %+v; want the robot's client_credentials", got)
	}
}

func TestClientAuthentication(t *testing.T) {
	basic := func(id, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
	}
	tests := []struct {
		name   string
		form   url.Values
		change func(*http.Request)
		status int
		code   string
	}{
		{"header", nil, basic("app:1", "s3cret %"), 200, ""},
		{"body", url.Values{"client_id": {"app:1"}, "client_secret": {"s3cret %"}}, nil, 200, ""},
		{"none", nil, nil, 401, "invalid_client"},
		{"wrong secret in the header", nil, basic("app:1", "wrong"), 401, "invalid_client"},
		{"wrong secret in the body", url.Values{"client_id": {"app:1"}, "client_secret": {"x"}}, nil, 401, "invalid_client"},
		{"wrong id", nil, basic("app", "s3cret %"), 401, "invalid_client"},
		{"both ways", url.Values{"client_secret": {"s3cret %"}}, basic("app:1", "s3cret %"), 400, "invalid_request"},
		{"repeated parameter", url.Values{"x": {"1", "2"}}, basic("app:1", "s3cret %"), 400, "invalid_request"},
		{"no grant type", url.Values{"grant_type": nil}, basic("app:1", "s3cret %"), 400, "invalid_request"},
		{"other grant type", url.Values{"grant_type": {"password"}}, basic("app:1", "s3cret %"), 400, "unsupported_grant_type"},
		{"no refresh token", url.Values{"refresh_token": nil}, basic("app:1", "s3cret %"), 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, provider.Options{ClientID: "app:1", ClientSecret: "s3cret %"})
			token := e.Register("alice")
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
			for name, values := range tt.form {
				form[name] = values
			}
			change := tt.change
			if change == nil {
				change = func(*http.Request) {}
			}
			a := e.post(t.Context(), form, change)
			if tt.code == "" {
				e.issued(a)
				return
			}
			e.refused(a, tt.status, tt.code)
			if got := e.last(); got.Outcome != provider.Refused || got.End.IsZero() {
				t.Errorf("got %+v; want refused, ended", got)
			}
			if !e.Current("alice", token) {
				t.Error("a refused request used the refresh token up")
			}
		})
	}
}

func TestLatencyHoldsNobodyElse(t *testing.T) {
	e := start(t, provider.Options{})
	e.SetLatency("slow", time.Hour)
	slow, quick := e.Register("slow"), e.Register("quick")
	done := make(chan answer)
	go func() { done <- e.refresh(slow) }()
	eventually(t, "the slow one is presented", func() bool { return len(e.Presentations()) > 0 })
	e.issued(e.refresh(quick))
	if got := e.Presentations()[0]; got.Outcome != provider.Pending || !got.End.IsZero() {
		t.Errorf("got %+v; want it pending", got)
	}
	if got := e.Stats(); got.MaxParallelAccounts != 2 || got.MaxParallelPerAccount != 1 {
		t.Errorf("got %+v; want 2 accounts at once, 1 call per account", got)
	}
	e.Provider.Close()
	if a := <-done; a.err == nil {
		t.Errorf("got %s; want a closed connection", a.raw)
	}
	if got := e.Presentations()[0]; got.Outcome != provider.Aborted || !e.Current("slow", slow) {
		t.Errorf("got %+v; want aborted and the token untouched", got)
	}
}
