package provider_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// direct presents the token without a network.
func direct(p *provider.Provider, token string) answer {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	r := httptest.NewRequest("POST", "/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	_ = json.Unmarshal(w.Body.Bytes(), &a.body)
	return a
}

// faults are those of the provider, each with the answer to a request that meets it.
var faults = []struct {
	fault  provider.Fault
	status int // 0: no answer
	code   string
	cut    bool
}{
	{fault: provider.Fault{Kind: provider.RateLimited, RetryAfter: time.Minute}, status: 429},
	{fault: provider.Fault{Kind: provider.ServerError}, status: 503},
	{fault: provider.Fault{Kind: provider.ServerError, Status: 500}, status: 500},
	{fault: provider.Fault{Kind: provider.Hang}},
	{fault: provider.Fault{Kind: provider.Drop}},
	{fault: provider.Fault{Kind: provider.CutAnswer}, status: 200, cut: true},
	{fault: provider.Fault{Kind: provider.BrokenJSON}, status: 200},
	{fault: provider.Fault{Kind: provider.NoAccessToken}, status: 200},
	{fault: provider.Fault{Kind: provider.BadRefreshToken}, status: 200, code: "bad_refresh_token"},
	{fault: provider.Fault{Kind: provider.EmptyBadRequest}, status: 400},
	{fault: provider.Fault{Kind: provider.Firewall}, status: 403},
	{fault: provider.Fault{Kind: provider.Firewall, Status: 406}, status: 406},
	{
		fault:  provider.Fault{Kind: provider.OwnWords, Body: `{"error":"Access_Denied"}`},
		status: 400, code: "Access_Denied",
	},
	{
		fault:  provider.Fault{Kind: provider.OwnWords, Status: 200, Body: `{"ok":false,"error":"ratelimited"}`},
		status: 200, code: "ratelimited",
	},
	{fault: provider.Fault{Kind: provider.InvalidClient}, status: 401, code: "invalid_client"},
}

func TestFaults(t *testing.T) {
	for _, tt := range faults {
		for _, rotated := range []bool{false, true} {
			tt.fault.Rotated = rotated
			name := string(tt.fault.Kind)
			if rotated {
				name += ", rotated"
			}
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var options provider.Options
				if tt.fault.Kind == provider.Hang {
					options.OnPresentation = func(provider.Presentation) { cancel() }
				}
				e := start(t, options)
				token := e.Register("alice")
				e.Enqueue("alice", tt.fault)
				a := e.post(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
				if a.status != tt.status || a.text("error") != tt.code || a.text("access_token") != "" {
					t.Errorf("got status %d, body %s; want %d, %q", a.status, a.raw, tt.status, tt.code)
				}
				if wantErr := tt.status == 0 || tt.cut; (a.err != nil) != wantErr {
					t.Errorf("got error %v; want one: %v", a.err, wantErr)
				}
				got := e.ended()
				if e.Current("alice", token) == rotated {
					t.Errorf("the token is used up: %v; want %v", !e.Current("alice", token), rotated)
				}
				if got.Outcome != provider.Faulted || got.Fault != tt.fault.Kind || (got.Next != 0) != rotated {
					t.Errorf("got %+v; want faulted by %s, rotated: %v", got, tt.fault.Kind, rotated)
				}
				if got := e.Stats().Faults[tt.fault.Kind]; got != 1 {
					t.Errorf("got %d such faults in Stats; want 1", got)
				}
				if !rotated { // the queue is empty again, and the token as good as before
					e.issued(e.refresh(token))
					if got := e.Stats(); got.Replays != 1 || got.Duplicates != 0 {
						t.Errorf("got %+v; want a replay", got.Counts)
					}
				}
			})
		}
	}
}

func TestFaultySuccesses(t *testing.T) {
	tests := []struct {
		kind provider.Kind
		want any
	}{
		{provider.NoExpiresIn, nil},
		{provider.ZeroExpiresIn, 0.0},
	}
	for _, tt := range tests {
		e := start(t, provider.Options{})
		e.Enqueue("", provider.Fault{Kind: tt.kind})
		a := e.refresh(e.Register("alice"))
		_, refresh := e.issued(a)
		if got := a.body["expires_in"]; got != tt.want {
			t.Errorf("%s: got expires_in %v; want %v", tt.kind, got, tt.want)
		}
		if got := e.last(); got.Outcome != provider.Issued || got.Fault != tt.kind || !e.Current("alice", refresh) {
			t.Errorf("%s: got %+v; want issued", tt.kind, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, kind := range []provider.Kind{provider.RateLimited, provider.ServerError} {
		e := start(t, provider.Options{})
		token := e.Register("alice")
		e.Enqueue("alice", provider.Fault{Kind: kind}, provider.Fault{Kind: kind, RetryAfter: 90 * time.Second},
			provider.Fault{Kind: kind, RetryAfter: 90 * time.Second, AsDate: true})
		if got, ok := e.refresh(token).header["Retry-After"]; ok {
			t.Errorf("%s: got Retry-After %q; want none", kind, got)
		}
		if got := e.refresh(token).header.Get("Retry-After"); got != "90" {
			t.Errorf("%s: got Retry-After %q; want 90", kind, got)
		}
		header := e.refresh(token).header
		date, err1 := http.ParseTime(header.Get("Date"))
		until, err2 := http.ParseTime(header.Get("Retry-After"))
		if err1 != nil || err2 != nil || until.Sub(date) != 90*time.Second {
			t.Errorf("%s: got Date %q, Retry-After %q; want 90 s between", kind, header.Get("Date"), header.Get("Retry-After"))
		}
	}
}

func TestQueues(t *testing.T) {
	p := provider.New(provider.Options{})
	alice, bob := p.Register("alice"), p.Register("bob")
	p.Enqueue("", provider.Fault{Kind: provider.EmptyBadRequest})
	p.Enqueue("alice", provider.Fault{Kind: provider.RateLimited}, provider.Fault{})
	want := []int{429, 200, 400, 200}
	var got []int
	for _, token := range []*string{&alice, &alice, &bob, &bob} {
		a := direct(p, *token)
		got = append(got, a.status)
		if next := a.text("refresh_token"); next != "" {
			*token = next
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestRates(t *testing.T) {
	run := func(seed uint64) (statuses []int) {
		p := provider.New(provider.Options{Seed: seed, KeepRefreshToken: true, Rates: []provider.Rate{
			{Fault: provider.Fault{Kind: provider.RateLimited}, P: 0.2},
			{Fault: provider.Fault{Kind: provider.EmptyBadRequest}, P: 0.3},
		}})
		token := p.Register("alice")
		for range 1000 {
			statuses = append(statuses, direct(p, token).status)
		}
		return statuses
	}
	first := run(1)
	if !slices.Equal(first, run(1)) {
		t.Error("the same seed drew other faults")
	}
	if slices.Equal(first, run(2)) {
		t.Error("another seed drew the same faults")
	}
	count := make(map[int]int)
	for _, status := range first {
		count[status]++
	}
	for status, want := range map[int]int{429: 200, 400: 300, 200: 500} {
		if got := count[status]; got < want-80 || got > want+80 {
			t.Errorf("got %d answers with status %d of 1000; want about %d", got, status, want)
		}
	}
}

func TestFaultAfterReuseIsStillReuse(t *testing.T) {
	e := start(t, provider.Options{})
	token := e.Register("alice")
	e.issued(e.refresh(token))
	e.Enqueue("alice", provider.Fault{Kind: provider.Drop, Rotated: true})
	if a := e.refresh(token); a.err == nil {
		t.Errorf("got %s; want a dropped connection", a.raw)
	}
	if got := e.last(); got.Outcome != provider.Reused || got.Fault != provider.Drop {
		t.Errorf("got %+v; want reused, dropped", got)
	}
	e.Enqueue("alice", provider.Fault{Kind: provider.ZeroExpiresIn})
	e.refused(e.refresh(token), http.StatusBadRequest, "invalid_grant")
	if got := e.last(); got.Outcome != provider.Revoked || got.Fault != "" {
		t.Errorf("got %+v; want revoked, and no fault shown", got)
	}
}
