package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// admin sends a request to the server and returns status and body.
func (e endpoint) admin(method, path, body string) (int, string) {
	e.t.Helper()
	request, err := http.NewRequestWithContext(e.t.Context(), method, e.URL+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func TestAdministration(t *testing.T) {
	e := start(t, provider.Options{})
	if status, body := e.admin("GET", "/healthz", ""); status != 200 || body != "ok\n" {
		t.Errorf("healthz: got %d %q; want 200 ok", status, body)
	}
	if _, body := e.admin("GET", "/admin/presentations", ""); body != "[]\n" {
		t.Errorf("presentations before any: got %q; want an empty array", body)
	}
	var account struct {
		RefreshToken string `json:"refresh_token"`
	}
	status, body := e.admin("POST", "/admin/accounts/team%2Falice", "")
	if err := json.Unmarshal([]byte(body), &account); err != nil || status != 200 || !e.Current("team/alice", account.RefreshToken) {
		t.Fatalf("register: got %d %q, %v; want a current refresh token", status, body, err)
	}

	if status, body = e.admin("POST", "/admin/accounts/team%2Falice/faults", `[{"kind":"rate_limited","retry_after_ns":3000000000}]`); status != 204 {
		t.Errorf("enqueue: got %d %q; want 204", status, body)
	}
	if a := e.refresh(account.RefreshToken); a.status != 429 || a.header.Get("Retry-After") != "3" {
		t.Errorf("got %d, Retry-After %q; want 429, 3", a.status, a.header.Get("Retry-After"))
	}
	if status, body = e.admin("PUT", "/admin/rates", `[{"fault":{"kind":"empty_bad_request"},"p":1}]`); status != 204 {
		t.Errorf("rates: got %d %q; want 204", status, body)
	}
	if a := e.refresh(account.RefreshToken); a.status != 400 {
		t.Errorf("got %d; want 400", a.status)
	}
	if status, body = e.admin("PUT", "/admin/rates", `[]`); status != 204 {
		t.Errorf("rates: got %d %q; want 204", status, body)
	}
	e.issued(e.refresh(account.RefreshToken))

	token, _ := json.Marshal(account)
	if _, body = e.admin("POST", "/admin/accounts/team%2Falice/current", string(token)); strings.TrimSpace(body) != `{"current":false}` {
		t.Errorf("current: got %s; want false", body)
	}
	var presentations []provider.Presentation
	_, body = e.admin("GET", "/admin/presentations", "")
	if err := json.Unmarshal([]byte(body), &presentations); err != nil || len(presentations) != 3 {
		t.Fatalf("presentations: got %s, %v; want 3", body, err)
	}
	if strings.Contains(body, account.RefreshToken) {
		t.Error("the presentations show the refresh token")
	}
	if got, want := provider.Summarize(presentations).Counts, e.Stats().Counts; got != want || got.Calls != 3 {
		t.Errorf("got %+v from the JSON; want %+v", got, want)
	}
	var stats provider.Stats
	_, body = e.admin("GET", "/admin/stats", "")
	if err := json.Unmarshal([]byte(body), &stats); err != nil || stats.Replays != 2 || stats.Accounts["team/alice"].Calls != 3 {
		t.Errorf("stats: got %s, %v; want 2 replays in 3 calls", body, err)
	}
}

func TestAdministrationRefuses(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"unknown fault", "POST", "/admin/faults", `[{"kind":"sulk"}]`, 400, `unknown fault "sulk"; there are [rate_limited`},
		{"unknown field", "POST", "/admin/faults", `[{"kid":"hang"}]`, 400, "unknown field"},
		{"no JSON", "PUT", "/admin/rates", "", 400, "not the JSON"},
		{"token by GET", "GET", "/token", "", 405, ""},
		{"elsewhere", "POST", "/tokens", "", 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, provider.Options{})
			if status, body := e.admin(tt.method, tt.path, tt.body); status != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("got %d %q; want %d, %q in it", status, body, tt.status, tt.says)
			}
		})
	}
}

func TestServer(t *testing.T) {
	p := provider.New(provider.Options{})
	s, err := provider.Start("", p)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.URL, "http://127.0.0.1:") || s.TokenURL() != s.URL+"/token" {
		t.Errorf("got %q, %q; want a loopback address", s.URL, s.TokenURL())
	}
	if _, err := provider.Start(strings.TrimPrefix(s.URL, "http://"), p); err == nil || !strings.Contains(err.Error(), "another address") {
		t.Errorf("a second server on the port: got %v; want the remedy", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := http.Get(s.URL + "/healthz"); err == nil {
		t.Error("it still serves")
	}
}

func TestServerCloseEndsLatency(t *testing.T) {
	arrived := make(chan struct{})
	e := start(t, provider.Options{Latency: time.Hour, OnPresentation: func(provider.Presentation) { close(arrived) }})
	token := e.Register("alice")
	done := make(chan answer)
	go func() { done <- e.refresh(token) }()
	<-arrived
	if err := e.Server.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if a := <-done; a.err == nil {
		t.Errorf("got %s; want a closed connection", a.raw)
	}
	if got := e.ended(); got.Outcome != provider.Aborted {
		t.Errorf("got %+v; want aborted", got)
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	e := start(t, provider.Options{})
	token := e.Register("alice")
	e.Enqueue("alice", provider.Fault{Kind: provider.Hang})
	done := make(chan answer)
	go func() { done <- e.refresh(token) }()
	eventually(t, "it is presented", func() bool { return len(e.Presentations()) > 0 })
	e.Provider.Close()
	if a := <-done; a.err == nil {
		t.Errorf("got %s; want a closed connection", a.raw)
	}
}

func TestClientThatLeavesLosesItsTokens(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	e := start(t, provider.Options{OnPresentation: func(provider.Presentation) { close(arrived); <-leave }})
	token := e.Register("alice")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	a := e.post(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	if !errors.Is(a.err, context.Canceled) {
		t.Fatalf("got %+v; want it cancelled", a)
	}
	close(leave)
	if got := e.ended(); got.Outcome != provider.Issued || e.Current("alice", token) {
		t.Errorf("got %+v; want the rotation to take effect all the same", got)
	}
}
