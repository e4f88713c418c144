package oauth2refresh_test

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// told returns the grant or the error that the Refresher makes of an answer with status 200.
func told(t *testing.T, contentType, body string) (credentials.Grant, error) {
	t.Helper()
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept"); got != "application/json" {
			t.Errorf("got Accept %q; want application/json", got)
		}
		_ = r.ParseForm() // as an endpoint does: a server that answers before it read all may cut off
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
	return refresh(t, url, "refresh-1")
}

func TestLifetimes(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name, members     string
		lifetime, refresh time.Duration
	}{
		{"absent", `"x":1`, 0, 0},
		{"null", `"expires_in":null`, 0, 0},
		{"number", `"expires_in":3600`, time.Hour, 0},
		{"with a fraction", `"expires_in":3600.5`, time.Hour + time.Second/2, 0},
		{"with an exponent", `"expires_in":3.6e3`, time.Hour, 0},
		{"string", `"expires_in":"3600"`, time.Hour, 0},
		{"string with space", `"expires_in":" 3600 "`, time.Hour, 0},
		{"empty string", `"expires_in":""`, 0, 0},
		{"words", `"expires_in":"in an hour"`, 0, 0},
		{"not a number", `"expires_in":"NaN"`, 0, 0},
		{"infinite", `"expires_in":"Inf"`, 0, 0},
		{"boolean", `"expires_in":true`, 0, 0},
		{"object", `"expires_in":{"seconds":3}`, 0, 0},
		{"zero", `"expires_in":0`, 1, 0},
		{"less than a second", `"expires_in":0.4`, 2 * time.Second / 5, 0},
		{"negative", `"expires_in":-5`, 1, 0},
		{"very negative", `"expires_in":-1e400`, 1, 0},
		{"more than 32 bits", `"expires_in":3000000000`, 3000000000 * time.Second, 0},
		{"huge", `"expires_in":99999999999999999999`, 36500 * day, 0},
		{"huger", `"expires_in":1e400`, 36500 * day, 0},
		{"Keycloak", `"expires_in":60,"refresh_expires_in":1800`, time.Minute, 30 * time.Minute},
		{"Keycloak, no end", `"expires_in":60,"refresh_expires_in":0`, time.Minute, 0},
		{"GitHub", `"expires_in":28800,"refresh_token_expires_in":15811200`, 8 * time.Hour, 183 * day},
		{"Intuit", `"expires_in":3600,"x_refresh_token_expires_in":"8640000"`, time.Hour, 100 * day},
		{"refresh token's, huge", `"refresh_token_expires_in":1e30`, 0, 36500 * day},
		{"refresh token's, close to zero", `"refresh_token_expires_in":1e-30`, 0, 1},
		{"refresh token's, negative", `"refresh_token_expires_in":-1`, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			grant, err := told(t, "application/json", `{"access_token":"a",`+tt.members+`}`)
			if err != nil || grant.AccessToken.Reveal() != "a" {
				t.Fatalf("got token %q, error %v; want the token", grant.AccessToken.Reveal(), err)
			}
			if grant.Lifetime != tt.lifetime || grant.RefreshLifetime != tt.refresh {
				t.Errorf("got lifetimes %v, %v; want %v, %v", grant.Lifetime, grant.RefreshLifetime, tt.lifetime, tt.refresh)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 2*credentials.MaxExtraSize)
	tests := []struct {
		name, contentType, body string
		refresh                 string
		extra                   map[string]string
	}{
		{"everything", "application/json;charset=UTF-8", `{"access_token":"a","refresh_token":"r","expires_in":1,"refresh_expires_in":2,` +
			`"token_type":"bearer","scope":"x y","id_token":"e.y.J","created_at":1700000000,"ratio":0.50,"ok":true,"none":null,` +
			`"list":["x","y"],"mixed":["x",1],"none of it":[],"nested":{"x":1},"error_description":"none"}`, "r",
			map[string]string{"token_type": "bearer", "scope": "x y", "id_token": "e.y.J", "created_at": "1700000000", "ratio": "0.50", "ok": "true", "list": "x y"}},
		{"nothing but the token", "application/json", `{"access_token":"a"}`, "", nil},
		{"no content type", "", `{"access_token":"a","scope":"x"}`, "", map[string]string{"scope": "x"}},
		{"byte order mark", "application/json", "\ufeff{\"access_token\":\"a\"}", "", nil},
		{"form", "application/x-www-form-urlencoded", "access_token=a&refresh_token=r&scope=x%20y", "r", map[string]string{"scope": "x y"}},
		{"form as text", "text/plain; charset=utf-8", "access_token=a&token_type=bearer", "", map[string]string{"token_type": "bearer"}},
		{"JSON as text", "text/plain", ` {"access_token":"a","scope":"x"}`, "", map[string]string{"scope": "x"}},
		{"a success that says error", "application/json", `{"access_token":"a","error":"","error_description":null}`, "", nil},
		{"refresh token that is none", "application/json", `{"access_token":"a","refresh_token":false}`, "", nil},
		{"more than a row can take", "application/json", `{"access_token":"a","one":"` + long + `","z":"kept"}`, "",
			map[string]string{"one": long, "z": "kept"}}, // the manager leaves out extras that do not fit
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			grant, err := told(t, tt.contentType, tt.body)
			if err != nil || grant.AccessToken.Reveal() != "a" {
				t.Fatalf("got token %q, error %v; want the token", grant.AccessToken.Reveal(), err)
			}
			if got := grant.RefreshToken.Reveal(); got != tt.refresh {
				t.Errorf("got refresh token %q; want %q", got, tt.refresh)
			}
			if got := revealed(grant.Extra); !maps.Equal(got, tt.extra) {
				t.Errorf("got extra %v; want %v", got, tt.extra)
			}
		})
	}
}

// TestBrokenConnectionBehindAWholeAnswer: a success whose last bytes are lost is a success if the
// rest is whole: the refresh token in it is the only good one.
func TestBrokenConnectionBehindAWholeAnswer(t *testing.T) {
	tests := []struct {
		name, contentType, body string
		class                   credentials.Class // "": success
	}{
		{"JSON", "application/json", `{"access_token":"a","refresh_token":"r"}`, ""},
		{"half of a JSON", "application/json", `{"access_token":"a","refresh_to`, credentials.ClassUnknown},
		{"form", "application/x-www-form-urlencoded", `access_token=a&refresh_token=r`, credentials.ClassUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := answering(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // a connection that is closed on unread bytes is reset
				w.Header().Set("Content-Type", tt.contentType)
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, tt.body)
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			grant, err := refresh(t, url, "refresh-1")
			if tt.class == "" {
				if err != nil || grant.RefreshToken.Reveal() != "r" {
					t.Errorf("got refresh token %q, error %v; want r", grant.RefreshToken.Reveal(), err)
				}
				return
			}
			failsAs(t, err, tt.class, "broke off", io.ErrUnexpectedEOF)
		})
	}
}

func TestAnswerThatIsTooLong(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	for contentType, body := range map[string]string{
		"application/json": `{"access_token":"a","x":"` + long + `"}`,
		// The part of a form that is kept would look whole.
		"application/x-www-form-urlencoded": "access_token=a&x=" + long + "&refresh_token=r",
	} {
		_, err := told(t, contentType, body)
		if e := fails(t, err); e.Class != credentials.ClassUnknown {
			t.Errorf("%s: got %s; want unknown", contentType, e.Class)
		}
	}
}
