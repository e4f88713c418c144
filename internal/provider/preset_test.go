package provider_test

import (
	"maps"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// A token that has been used comes back: the answer is in the provider's own words.
func TestPresetsWordsForDead(t *testing.T) {
	for _, test := range []struct {
		preset providers.Provider
		status int
		body   string
	}{
		{providers.GitHub, 200, `{"error":"bad_refresh_token",` +
			`"error_description":"The refresh token passed is incorrect or expired."}`},
		{providers.Slack, 200, `{"ok":false,"error":"invalid_refresh_token"}`},
		{providers.ExactOnline, 401, `{"error":"unauthorized_client","error_description":"Old refresh token used."}`},
		{providers.Xero, 400, `{"error":"invalid_grant"}`},
		{providers.Box, 400, `{"error":"invalid_grant","error_description":"Refresh token has expired"}`},
	} {
		t.Run(test.preset.Name, func(t *testing.T) {
			p := provider.New(provider.As(test.preset, 0))
			token := p.Register("alice")
			p.Revoke("alice")
			a := direct(p, token)
			if a.status != test.status || a.raw != test.body {
				t.Errorf("got %d %s; want %d %s", a.status, a.raw, test.status, test.body)
			}
			if got := p.Presentations()[0].Outcome; got != provider.Revoked {
				t.Errorf("the outcome is %q; want %q", got, provider.Revoked)
			}
		})
	}
}

// A preset without words of its own has those of RFC 6749.
func TestPresetWithoutWords(t *testing.T) {
	a := direct(provider.New(provider.As(providers.Asana, 0)), "never issued")
	if a.status != http.StatusBadRequest || a.text("error") != "invalid_grant" {
		t.Errorf("got %d %s; want 400 invalid_grant", a.status, a.raw)
	}
}

func TestPresetsReuse(t *testing.T) {
	for _, test := range []struct {
		preset providers.Provider
		after  time.Duration
		works  bool
	}{
		{providers.Zoom, 0, false},
		{providers.Xero, 29 * time.Minute, true},
		{providers.Xero, 30 * time.Minute, false},
		{providers.Microsoft, 30 * 24 * time.Hour, true},
		{providers.Dropbox, 30 * 24 * time.Hour, true},
	} {
		t.Run(test.preset.Name+" after "+test.after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := provider.New(provider.As(test.preset, 0))
				token := p.Register("alice")
				direct(p, token)
				time.Sleep(test.after)
				a := direct(p, token)
				if works := a.text("access_token") != ""; works != test.works {
					t.Errorf("got %d %s; want a token: %v", a.status, a.raw, test.works)
				}
			})
		})
	}
}

// Exact Online refuses a renewal until half a minute before the token's end; Strava answers with
// the token that it has given already.
func TestPresetsTooEarly(t *testing.T) {
	for _, test := range []struct {
		preset   providers.Provider
		opens    time.Duration // after the token was issued
		status   int           // before that
		outcome  provider.Outcome
		lifetime time.Duration // As's argument
	}{
		{preset: providers.ExactOnline, opens: 570 * time.Second, status: 400, outcome: provider.Early},
		{
			preset: providers.ExactOnline, lifetime: 40 * time.Second, opens: 20 * time.Second,
			status: 400, outcome: provider.Early,
		},
		{preset: providers.Strava, opens: 5 * time.Hour, status: 200, outcome: provider.Issued},
	} {
		t.Run(test.preset.Name+" "+test.lifetime.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := provider.New(provider.As(test.preset, test.lifetime))
				first := direct(p, p.Register("alice"))
				token := first.text("refresh_token")
				time.Sleep(test.opens - time.Second)
				early := direct(p, token)
				if early.status != test.status || p.Presentations()[1].Outcome != test.outcome {
					t.Errorf("too early: got %d %s; want %d, %s", early.status, early.raw, test.status, test.outcome)
				}
				if got := early.text("access_token"); got != "" && got != first.text("access_token") {
					t.Errorf("too early: got another access token; want the present one")
				}
				if !p.Current("alice", token) {
					t.Fatal("a presentation that was too early used the refresh token up")
				}
				time.Sleep(time.Second)
				next := direct(p, token)
				if got := next.text("access_token"); got == "" || got == first.text("access_token") {
					t.Errorf("at the end: got %d %s; want a new token", next.status, next.raw)
				}
			})
		})
	}
}

func TestPresetsSuccesses(t *testing.T) {
	for _, test := range []struct {
		preset   providers.Provider
		lifetime time.Duration
		want     map[string]any
	}{
		{providers.Xero, 0, map[string]any{"expires_in": 1800.0}},
		{providers.ExactOnline, 0, map[string]any{"expires_in": "600"}},
		{providers.ExactOnline, 40 * time.Second, map[string]any{"expires_in": "40"}},
		{providers.Zoho, 0, map[string]any{"expires_in": 3600000.0, "expires_in_sec": 3600.0}},
		{providers.Zoho, time.Minute, map[string]any{"expires_in": 60000.0, "expires_in_sec": 60.0}},
		{providers.GitHub, time.Hour, map[string]any{"expires_in": 3600.0, "refresh_token_expires_in": 15897600.0}},
		{providers.Slack, 0, map[string]any{"expires_in": 43200.0, "ok": true}},
		{providers.Google, 0, map[string]any{"expires_in": 3600.0}},
	} {
		t.Run(test.preset.Name+" "+test.lifetime.String(), func(t *testing.T) {
			p := provider.New(provider.As(test.preset, test.lifetime))
			got := direct(p, p.Register("alice")).body
			for _, name := range []string{"access_token", "refresh_token", "token_type"} {
				delete(got, name)
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("got %v; want %v", got, test.want)
			}
		})
	}
}
