package oauth2refresh_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// in returns the moment that is so far ahead.
func in(d time.Duration) time.Time { return time.Now().Add(d) }

func TestGrantFrom(t *testing.T) {
	for _, test := range []struct {
		name     string
		token    func() *oauth2.Token
		access   string
		lifetime time.Duration
	}{
		{"Expiry", func() *oauth2.Token { return &oauth2.Token{AccessToken: "a", Expiry: in(time.Minute)} }, "a", time.Minute},
		{"ExpiresIn alone", func() *oauth2.Token { return &oauth2.Token{AccessToken: "a", ExpiresIn: 60} }, "a", time.Minute},
		{"both, some time after the answer", func() *oauth2.Token {
			return &oauth2.Token{AccessToken: "a", Expiry: in(20 * time.Second), ExpiresIn: 60}
		}, "a", 20 * time.Second},
		{"neither", func() *oauth2.Token { return &oauth2.Token{AccessToken: "a"} }, "a", 0},
		{"expired", func() *oauth2.Token { return &oauth2.Token{AccessToken: "a", Expiry: in(-time.Minute)} }, "", 0},
		{"expired, with ExpiresIn", func() *oauth2.Token {
			return &oauth2.Token{AccessToken: "a", Expiry: in(-time.Minute), ExpiresIn: 60}
		}, "", 0},
		{"expires now", func() *oauth2.Token { return &oauth2.Token{AccessToken: "a", Expiry: in(0)} }, "", 0},
		{"expires now, with ExpiresIn", func() *oauth2.Token {
			return &oauth2.Token{AccessToken: "a", Expiry: in(0), ExpiresIn: 60}
		}, "", 0},
		{"no access token", func() *oauth2.Token { return &oauth2.Token{Expiry: in(time.Minute)} }, "", 0},
		{"end of time", func() *oauth2.Token {
			return &oauth2.Token{AccessToken: "a", Expiry: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}
		}, "a", 100 * 365 * 24 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				token := test.token()
				token.RefreshToken = "r"
				grant := oauth2refresh.GrantFrom(token)
				if grant.AccessToken.Reveal() != test.access || grant.Lifetime != test.lifetime || grant.RefreshToken.Reveal() != "r" {
					t.Errorf("got %q for %v, refresh token %q; want %q for %v, r",
						grant.AccessToken.Reveal(), grant.Lifetime, grant.RefreshToken.Reveal(), test.access, test.lifetime)
				}
				putGrant(t, memstore.New(), grant)
			})
		})
	}
}

// A grant of an expired token is refreshed by the first caller.
func TestGrantFromExpiredIsRefreshed(t *testing.T) {
	store := memstore.New()
	putGrant(t, store, oauth2refresh.GrantFrom(&oauth2.Token{AccessToken: "old", RefreshToken: "r", Expiry: in(-time.Hour)}))
	token, err := startProcess(t, store).source.Token(t.Context())
	if err != nil || token.Value.Reveal() != "exchanged" {
		t.Errorf("got %q, %v; want exchanged", token.Value.Reveal(), err)
	}
}

// The entries of an answer that x/oauth2 has read, as JSON and as a form.
func TestGrantFromAnswer(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json": `{"access_token":"a","token_type":"bearer","refresh_token":"r","expires_in":60,
			"scope":"read","id_token":"h.p.s","refresh_token_expires_in":3600,"instance_url":"https://eu1.example"}`,
		"application/x-www-form-urlencoded": "access_token=a&token_type=bearer&refresh_token=r&expires_in=60" +
			"&scope=read&id_token=h.p.s&refresh_token_expires_in=3600&instance_url=x",
	} {
		t.Run(contentType, func(t *testing.T) {
			tokenURL := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				_, _ = w.Write([]byte(body))
			})
			c := config(tokenURL)
			began := time.Now()
			token, err := c.Exchange(t.Context(), "code")
			if err != nil {
				t.Fatal(err)
			}
			grant := oauth2refresh.GrantFrom(token)
			most := time.Since(began)
			for name, got := range map[string]time.Duration{
				"Lifetime": time.Minute - grant.Lifetime, "RefreshLifetime": time.Hour - grant.RefreshLifetime,
			} {
				if got < 0 || got > most {
					t.Errorf("%s is shorter by %v; want between 0 and %v", name, got, most)
				}
			}
			want := map[string]string{"scope": "read", "token_type": "bearer", "id_token": "h.p.s"}
			if got := revealed(grant.Extra); !maps.Equal(got, want) {
				t.Errorf("got entries %v; want %v", got, want)
			}
		})
	}
}

// A lifetime of the refresh token counts from the answer too, and a put refuses one that is over.
func TestGrantFromRefreshLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := map[string]any{"refresh_expires_in": 600.0}
		token := (&oauth2.Token{AccessToken: "a", Expiry: in(time.Minute), ExpiresIn: 60}).WithExtra(answer)
		time.Sleep(4 * time.Minute)
		if grant := oauth2refresh.GrantFrom(token); grant.RefreshLifetime != 6*time.Minute {
			t.Errorf("got %v; want 6m", grant.RefreshLifetime)
		}
		time.Sleep(6 * time.Minute)
		if err := oauth2refresh.GrantFrom(token).Validate(); err == nil {
			t.Error("a refresh token that has expired can be put")
		}
	})
}

// A token that a program has kept as JSON.
func TestGrantFromJSON(t *testing.T) {
	kept, err := json.Marshal(&oauth2.Token{AccessToken: "a", TokenType: "bearer", RefreshToken: "r", Expiry: in(time.Hour), ExpiresIn: 7200})
	if err != nil {
		t.Fatal(err)
	}
	var token oauth2.Token
	if err = json.Unmarshal(kept, &token); err != nil {
		t.Fatal(err)
	}
	grant := oauth2refresh.GrantFrom(&token)
	if grant.AccessToken.Reveal() != "a" || grant.RefreshToken.Reveal() != "r" ||
		grant.Lifetime <= 59*time.Minute || grant.Lifetime > time.Hour {
		t.Errorf("got %q, %q for %v; want a, r, an hour", grant.AccessToken.Reveal(), grant.RefreshToken.Reveal(), grant.Lifetime)
	}
	var none map[string]credentials.Secret
	if !maps.Equal(revealed(grant.Extra), revealed(none)) {
		t.Errorf("got entries %v; want none", revealed(grant.Extra))
	}
}
