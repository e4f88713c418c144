package oauth2refresh

import (
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest time that is believed of a provider.
const maxDuration = 100 * 365 * 24 * time.Hour

// refreshLifetimes are the parameters that name a refresh token's lifetime in seconds: Keycloak;
// GitHub, Xero and others; Intuit.
var refreshLifetimes = []string{"refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in"}

// lifetimes are the parameters that name the access token's lifetime in seconds. Zoho has
// expires_in in milliseconds where it has expires_in_sec beside it.
var lifetimes = []string{"expires_in_sec", "expires_in"}

// ends are the parameters that name the access token's end: Strava and others; Microsoft's older
// endpoints; Facebook's older ones; ASP.NET.
var ends = []string{"expires_at", "expires_on", "expires", ".expires"}

// lifetime returns the access token's: 0 if the provider names none. A provider that rounds down
// (Ory Hydra) names 0 itself, and gets the shortest lifetime there is; a manager makes that a
// second. An end counts from date, which is the answer's own, so that no two hosts' clocks are
// compared. Where the answer says nothing, the token may: RFC 9068 section 2.2.
func (p parameters) lifetime(date time.Time) time.Duration {
	for _, name := range lifetimes {
		if seconds, ok := p.seconds(name); ok {
			return max(duration(seconds), 1)
		}
	}
	for _, name := range ends {
		if left, ok := p.until(name, date); ok {
			return max(left, 1)
		}
	}
	return lifetimeOfJWT(p.str("access_token"), date)
}

// refreshLifetime returns the refresh token's, 0 if the provider names none. Keycloak says 0 for
// one without end.
func (p parameters) refreshLifetime() time.Duration {
	for _, name := range refreshLifetimes {
		if seconds, ok := p.seconds(name); ok && seconds > 0 {
			return max(duration(seconds), 1)
		}
	}
	return 0
}

// seconds returns the number of seconds that the parameter gives, as a number or as a string.
func (p parameters) seconds(name string) (seconds float64, ok bool) {
	text := strings.TrimSpace(p[name].text)
	if strings.Trim(text, "0123456789+-.eE") != "" { // keeps out NaN, Inf and hexadecimals
		return 0, false
	}
	seconds, err := strconv.ParseFloat(text, 64)
	return seconds, err == nil || errors.Is(err, strconv.ErrRange)
}

// Numbers tell by their size what they are: below the first a count of seconds, below the second
// seconds since 1970 (from 2001 on), else milliseconds.
const (
	minEpoch       = 1e9
	minEpochMillis = 1e11
)

// until returns the time from date to the moment that the parameter names: seconds or milliseconds
// since 1970, a date of RFC 3339 or one of HTTP. A smaller number is a lifetime.
func (p parameters) until(name string, date time.Time) (left time.Duration, ok bool) {
	if n, ok := p.seconds(name); ok {
		switch {
		case n <= 0:
			return 0, false
		case n < minEpoch:
			return duration(n), true
		case n >= minEpochMillis:
			n /= 1000
		}
		return duration(n - epoch(date)), true
	}
	text := strings.TrimSpace(p.str(name))
	for _, parse := range []func(string) (time.Time, error){
		func(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) }, http.ParseTime,
	} {
		if end, err := parse(text); err == nil {
			return min(max(end.Sub(date), 0), maxDuration), true
		}
	}
	return 0, false
}

// epoch returns the seconds since 1970.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// lifetimeOfJWT returns the lifetime that a token names which is a signed JWT (RFC 7519 section
// 4.1); 0 if it is none, or names none. Nobody vouches for the claims, but a token that lies about
// its end harms its own provider alone.
func lifetimeOfJWT(token string, date time.Time) time.Duration {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0
	}
	claims, err := object(text)
	if err != nil {
		return 0
	}
	end, ok := claims.seconds("exp")
	if !ok || end < minEpoch {
		return 0
	}
	left := end - epoch(date)
	if issued, ok := claims.seconds("iat"); ok && issued >= minEpoch && issued < end {
		left = min(left, end-issued)
	}
	return max(duration(left), 1)
}

// duration converts seconds, between 0 and maxDuration.
func duration(seconds float64) time.Duration {
	seconds = math.Max(0, math.Min(seconds, maxDuration.Seconds()))
	return time.Duration(seconds * float64(time.Second))
}
