package oauth2refresh

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter returns how long the answer asks to wait (RFC 9110 section 10.2.3); 0 if it does not
// ask, or not in a form that can be read. A date is compared with the answer's own Date, so that no
// two hosts' clocks are compared; only where there is none, with now.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseFloat(value, 64) // infinite where it is out of range
		return duration(seconds)
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), maxDuration)
}
