package oauth2refresh_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// TestDetails: the reason has the provider's own words, as far as they can be shown.
func TestDetails(t *testing.T) {
	tests := []struct {
		name, body string
		want       string // in the reason; "": nothing of the provider's
	}{
		{"Salesforce", `{"error":"invalid_grant","error_description":"inactive organization"}`, `and says "inactive organization"`},
		{"Google", `{"error":"invalid_grant","error_description":"reauth related error (invalid_rapt)","error_subtype":"invalid_rapt"}`,
			`and says "reauth related error (invalid_rapt)" (invalid_rapt)`},
		{"Microsoft", `{"error":"invalid_grant","error_description":"AADSTS50076: Due to a configuration change, you must use ` +
			`multi-factor authentication.\r\nTrace ID: 4c2f6d0b-5a0e-4f2c","error_codes":[50076],"suberror":"basic_action"}`,
			`and says "AADSTS50076: Due to a configuration change, you must use multi-factor" (basic_action, 50076)`},
		{"Strava", `{"message":"Bad Request","errors":[{"field":"refresh_token","code":"invalid","message":"no such token"}]}`, `"no such token"`},
		{"OpenAI", `{"error":{"code":"refresh_token_expired","message":"Please sign in again."}}`, `"Please sign in again."`},
		{"a token in it", `{"error":"invalid_grant","error_description":"no grant for eyJhbGciOi.5e6f7a8b9c0d found"}`,
			`"no grant for [...] found"`},
		{"a mail address", `{"error":"invalid_grant","error_description":"alice@example.com is blocked"}`, `"[...] is blocked"`},
		{"the refresh token", `{"error":"invalid_grant","error_description":"letters-only is dead"}`, `"[...] is dead"`},
		{"a part of it", `{"error":"invalid_grant","error_description":"letters-on is dead"}`, `"[...] is dead"`},
		{"around it", `{"error":"invalid_grant","error_description":"xletters-onlyx is dead"}`, `"[...] is dead"`},
		{"the answer's own token", `{"error":"invalid_grant","refresh_token":"abcdefghij","error_description":"abcdefghij is dead"}`,
			`"[...] is dead"`},
		{"nothing but tokens", `{"error":"invalid_grant","error_description":"5e6f7a8b9c0d eyJhbGciOi"}`, ""},
		{"control characters and other letters", `{"error":"invalid_grant","error_description":"\u0000gräßlich\u202e dead"}`, `"[...] dead"`},
		{"long", `{"error":"invalid_grant","error_description":"` + strings.Repeat("no ", 1000) + `"}`, `no no no"`},
		{"one long word", `{"error":"invalid_grant","error_description":"` + strings.Repeat("no", 1000) + `"}`, ""},
		{"a number for a description", `{"error":"invalid_grant","error_description":7}`, ""},
		{"many numbers", `{"error":"invalid_grant","error_codes":[1,2,3,4,5,6]}`, `(1, 2, 3, 4)`},
		{"long numbers", `{"error":"invalid_grant","error_codes":[12345678901,-1,1.5,1e9,70008]}`, `(70008)`},
		{"words for numbers", `{"error":"invalid_grant","error_codes":["a"],"suberror":"5e6f7a8b9c0d"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := refresh(t, refusing(t, 400, tt.body), "letters-only")
			e := fails(t, err, "letters-on", "abcdefghij", "5e6f7a8b9c0d", "eyJhbGciOi", "alice@", "4c2f6d0b")
			_, own, _ := strings.Cut(e.Reason, "400 Bad Request")
			if !strings.Contains(own, tt.want) || tt.want == "" && !strings.HasPrefix(own, ":") {
				t.Errorf("got reason %q; want %q in it", e.Reason, tt.want)
			}
		})
	}
}

// TestRateLimits: without Retry-After, the fields of a rate limit say when to try again, if the
// status is the limit's.
func TestRateLimits(t *testing.T) {
	date := time.Date(2001, 11, 15, 8, 12, 31, 0, time.UTC)
	at := fmt.Sprint(date.Add(time.Minute).Unix())
	tests := []struct {
		name   string
		status int
		fields map[string]string
		want   time.Duration
		says   string
	}{
		{"seconds", 429, map[string]string{"RateLimit-Reset": "60"}, time.Minute, "too many"},
		{"since 1970", 429, map[string]string{"X-RateLimit-Reset": at}, time.Minute, "too many"},
		{"milliseconds since 1970", 429, map[string]string{"X-RateLimit-Reset": at + "000"}, time.Minute, "too many"},
		{"X's spelling", 429, map[string]string{"X-Rate-Limit-Reset": at}, time.Minute, "too many"},
		{"a date", 429, map[string]string{"X-RateLimit-Reset": "Thu, 15 Nov 2001 08:13:31 GMT"}, time.Minute, "too many"},
		{"one field", 429, map[string]string{"RateLimit": "limit=100, remaining=0, reset=60"}, time.Minute, "too many"},
		{"one field, as a structured one", 429, map[string]string{"RateLimit": `"default";r=0;t=60`}, time.Minute, "too many"},
		{"Retry-After comes first", 429, map[string]string{"Retry-After": "30", "RateLimit-Reset": "60"}, 30 * time.Second, "too many"},
		{"past", 429, map[string]string{"X-RateLimit-Reset": fmt.Sprint(date.Add(-time.Hour).Unix())}, 0, "too many"},
		{"words", 429, map[string]string{"X-RateLimit-Reset": "soon"}, 0, "too many"},
		{"403, exhausted", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": at}, time.Minute, "too many"},
		{"403, remaining is not said", 403, map[string]string{"RateLimit-Reset": "60"}, time.Minute, "let this client in"},
		{"403 of another reason", 403, map[string]string{"X-RateLimit-Remaining": "57", "X-RateLimit-Reset": at}, 0, "let this client in"},
		{"400", 400, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": at}, 0, "without a reason"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := oauth2refresh.New(config(answering(t, func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				w.Header().Set("Date", date.Format(http.TimeFormat))
				for name, value := range tt.fields {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tt.status)
			})))
			before := time.Now()
			_, err := r.Refresh(t.Context(), credential("refresh-1"))
			e := fails(t, err)
			between(t, e.RetryAt, before, tt.want)
			if e.Class != transient || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s %q; want transient, %q in it", e.Class, e.Reason, tt.says)
			}
		})
	}
}
