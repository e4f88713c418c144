package oauth2refresh_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// FuzzAnswer: no answer of a provider makes a panic. Each gives a grant that makes sense, or an
// error that does, with nothing in the error's text that looks like a token.
func FuzzAnswer(f *testing.F) {
	const marker = "eyJhbGciOi.5e6f7a8b9c0d1e2f"
	add := func(status int, contentType, before, after string) { f.Add(status, contentType, "", before, after) }
	add(200, "application/json", `{"access_token":"`, `","expires_in":3600,"scope":["a"],"ok":true}`)
	add(200, "application/json", `{"access_token":"`, `","expires_in":"-1e999","refresh_expires_in":1e999}`)
	add(200, "application/json", `{"access_token":"`, `","refre`)
	add(200, "application/x-www-form-urlencoded", "access_token=", "&expires_in=%31%ff;")
	add(200, "text/plain", ` {"error":"`, `"}`)
	add(200, "text/html", "<html>", "</html>")
	add(400, "application/json", `{"error":"`, `","error_description":"x"}`)
	add(400, "application/json", `{"error":"invalid_grant","error_description":"`, `"}`)
	add(400, "application/json; charset", `{"error":{"message":"`, `"}}`)
	add(400, "", ``, ``)
	add(200, "application/json", `{"data":{"access_token":"`, `","expires_in":{"a":1},"scope":[["x"]]},"authed_user":{"access_token":"b"}}`)
	add(200, "application/json", `{"access_token":"a.`, `.c","expires_at":"2030-01-01T00:00:00Z","expires":[1e99]}`)
	add(401, "application/json", `{"error":{"code":"refresh_token_reused","message":"`, `","error":{"error":[]}}}`)
	add(400, "application/json", `{"errors":[{"errorType":"invalid_grant","message":"`, `"},[],7,null,{"field":"refresh_token"}]}`)
	add(400, "application/json", `{"status":"BAD_REFRESH_TOKEN","error_codes":[1,"`, `"],"suberror":{}}`)
	add(400, "application/json", `{"error":"invalid_request","error_description":"refresh_token is invalid: `, `"}`)
	f.Add(302, "text/html", marker, "", "")
	f.Add(307, "text/html", "://"+marker, "", "")
	f.Add(429, "", marker, "", "")
	f.Add(503, "", "9999999999999999999999", "", "")
	f.Fuzz(func(t *testing.T, status int, contentType, header, before, after string) {
		if status < 200 || status > 999 {
			return
		}
		body := before + marker + after
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, r.Body)
			return &http.Response{
				StatusCode: status, Status: marker, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
				Header: http.Header{
					"Content-Type": {contentType}, "Location": {header}, "Retry-After": {header}, "Date": {header},
				},
				Body: io.NopCloser(strings.NewReader(body)),
			}, nil
		})
		r := over(transport, "https://login.example/token")
		grant, err := r.Refresh(t.Context(), credential("presented-refresh-token"))
		if err != nil {
			e := fails(t, err, marker, "presented-refresh-token")
			if wait := time.Until(e.RetryAt); wait > 101*365*24*time.Hour {
				t.Errorf("got RetryAt in %v; want at most a century", wait)
			}
			if errors.Is(err, credentials.ErrGrantDead) && (e.Code == "" || e.Unclassified || status >= 500) {
				t.Errorf("got %v; want a dead grant to have a code, and no server's fault", e)
			}
			return
		}
		if grant.AccessToken.IsZero() || status >= 300 {
			t.Errorf("got a grant, token %q, from status %d", grant.AccessToken.Reveal(), status)
		}
		if grant.Lifetime < 0 || grant.RefreshLifetime < 0 ||
			max(grant.Lifetime, grant.RefreshLifetime) > 101*365*24*time.Hour {
			t.Errorf("got lifetimes %v, %v", grant.Lifetime, grant.RefreshLifetime)
		}
		if text := fmt.Sprintf("%v %+v %#v", grant, grant, grant); strings.Contains(text, marker) {
			t.Errorf("the grant prints its token: %s", text)
		}
	})
}
