package oauth2refresh

import (
	"net/http"
	"strings"
	"time"
)

// maxRetryAfter is the longest wait that a provider can ask for.
const maxRetryAfter = 24 * time.Hour

// retryAfter returns how long the answer asks to wait (RFC 9110 section 10.2.3), at most maxRetryAfter; 0 if it does not
// ask, or not for what can be read. A date is held against the answer's own Date, so that no two hosts' clocks are
// compared; only where there is none, against now.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds := 0
		for _, digit := range []byte(value) {
			seconds = min(seconds*10+int(digit-'0'), int(maxRetryAfter/time.Second))
		}
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}
