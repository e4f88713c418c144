package oauth2refresh_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// jwt returns a token of those claims that nobody has signed.
func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// TestEnds: answers that name the token's end, or leave it to the token. The server's clock is
// decades behind, and is the one that counts.
func TestEnds(t *testing.T) {
	const day = 24 * time.Hour
	date := time.Date(2001, 11, 15, 8, 12, 31, 0, time.UTC)
	at := func(d time.Duration) int64 { return date.Add(d).Unix() }
	tests := []struct {
		name, members string
		want          time.Duration
	}{
		{"Zoho, milliseconds beside seconds", `"expires_in":3600000,"expires_in_sec":3600`, time.Hour},
		{"expires_at", fmt.Sprintf(`"expires_at":%d`, at(time.Hour)), time.Hour},
		{"expires_at, a string", fmt.Sprintf(`"expires_at":"%d"`, at(time.Hour)), time.Hour},
		{"expires_at in milliseconds", fmt.Sprintf(`"expires_at":%d`, at(time.Hour)*1000), time.Hour},
		{"expires_at, RFC 3339", `"expires_at":"2001-11-15T10:12:31+01:00"`, time.Hour},
		{"expires_at, RFC 3339 with a fraction", `"expires_at":"2001-11-15T09:12:31.000Z"`, time.Hour},
		{"expires_at in the past", fmt.Sprintf(`"expires_at":%d`, at(-time.Hour)), 1},
		{"expires_at of zero", `"expires_at":0`, 0},
		{"expires_at, null", `"expires_at":null`, 0},
		{"expires_at, words", `"expires_at":"tomorrow"`, 0},
		{"expires_at, huge", `"expires_at":1e300`, 36500 * day},
		{"expires_on", fmt.Sprintf(`"expires_on":"%d","resource":"x"`, at(time.Hour)), time.Hour},
		{"expires, a number of seconds", `"expires":5184000`, 60 * day},
		{"expires, since 1970", fmt.Sprintf(`"expires":%d`, at(time.Hour)), time.Hour},
		{"ASP.NET", `".expires":"Thu, 15 Nov 2001 09:12:31 GMT"`, time.Hour},
		{"expires_in before all", fmt.Sprintf(`"expires_in":60,"expires_at":%d`, at(time.Hour)), time.Minute},
		{"zero before all", fmt.Sprintf(`"expires_in":0,"expires_at":%d`, at(time.Hour)), 1},
		{"JWT", `"access_token":"` + jwt(fmt.Sprintf(`{"exp":%d}`, at(time.Hour))) + `"`, time.Hour},
		{"JWT, handed out again", `"access_token":"` +
			jwt(fmt.Sprintf(`{"iat":%d,"exp":%d}`, at(-time.Hour), at(time.Minute))) + `"`, time.Minute},
		{"JWT of a server that is ahead", `"access_token":"` +
			jwt(fmt.Sprintf(`{"iat":%d,"exp":%d}`, at(day), at(day+time.Hour))) + `"`, time.Hour},
		{"JWT that has ended", `"access_token":"` + jwt(fmt.Sprintf(`{"exp":%d}`, at(-time.Hour))) + `"`, 1},
		{"JWT behind expires_in", `"expires_in":60,"access_token":"` + jwt(fmt.Sprintf(`{"exp":%d}`, at(time.Hour))) + `"`, time.Minute},
		{"JWT without end", `"access_token":"` + jwt(`{"sub":"alice"}`) + `"`, 0},
		{"JWT whose end is a small number", `"access_token":"` + jwt(`{"exp":3600}`) + `"`, 0},
		{"JWT of an array", `"access_token":"` + jwt(`[1]`) + `"`, 0},
		{"three parts that are no JWT", `"access_token":"a.b.c"`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := answering(t, func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				w.Header().Set("Date", date.Format(http.TimeFormat))
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"access_token":"a",`+tt.members+`}`) // the last of two counts
			})
			grant, err := refresh(t, url, "refresh-1")
			if err != nil || grant.Lifetime != tt.want {
				t.Errorf("got lifetime %v, error %v; want %v", grant.Lifetime, err, tt.want)
			}
		})
	}
}
