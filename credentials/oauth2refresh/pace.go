package oauth2refresh

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// retryAfter returns how long the answer asks to wait (RFC 9110 section 10.2.3); 0 if it does not
// ask, or not in a form that can be read. A date is compared with the answer's own Date, so that no
// two hosts' clocks are compared; only where there is none, with now. Without Retry-After, the end
// of the window that a rate limit counts in says so, if the status is a rate limit's.
func retryAfter(status int, header http.Header, now time.Time) time.Duration {
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	switch {
	case value == "" && (status == http.StatusTooManyRequests || status == http.StatusForbidden && !remains(header)):
		return windowEnd(header, now)
	case value == "":
		return 0
	case strings.Trim(value, "0123456789") == "":
		seconds, _ := strconv.ParseFloat(value, 64) // infinite where it is out of range
		return duration(seconds)
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(until.Sub(now), 0), maxDuration)
}

// The header fields of rate limits: those of the drafts of draft-ietf-httpapi-ratelimit-headers,
// the usual ones with X, and X's own spelling of them.
var (
	resetFields     = []string{"RateLimit-Reset", "X-RateLimit-Reset", "X-Rate-Limit-Reset"}
	remainingFields = []string{"RateLimit-Remaining", "X-RateLimit-Remaining", "X-Rate-Limit-Remaining"}

	// The field RateLimit: "limit=100, remaining=0, reset=50" or, later, "default";r=0;t=50.
	resetItem     = regexp.MustCompile(`(?:^|[;,\s])(?:reset|t)=([0-9]+)`)
	remainingItem = regexp.MustCompile(`(?:^|[;,\s])(?:remaining|r)=([0-9]+)`)
)

// windowEnd returns the time until the window of a rate limit ends; 0 if no field says so. Fields
// give seconds from now, or a moment.
func windowEnd(header http.Header, now time.Time) time.Duration {
	for _, value := range limits(header, resetFields, resetItem) {
		if left, ok := (parameters{"reset": {value, quoted}}).until("reset", now); ok {
			return left
		}
	}
	return 0
}

// remains reports whether requests remain in the window of a rate limit, so that the status is not
// the limit's. False where no field says so.
func remains(header http.Header) bool {
	for _, value := range limits(header, remainingFields, remainingItem) {
		return strings.Trim(value, "0 ") != ""
	}
	return false
}

// exhausted reports whether a field says that no request remains.
func exhausted(header http.Header) bool {
	return len(limits(header, remainingFields, remainingItem)) > 0 && !remains(header)
}

// limits returns the values of these fields, and those of that item in the field RateLimit.
func limits(header http.Header, fields []string, item *regexp.Regexp) (values []string) {
	for _, name := range fields {
		if value := header.Get(name); value != "" {
			values = append(values, value)
		}
	}
	if found := item.FindStringSubmatch(header.Get("RateLimit")); found != nil {
		values = append(values, found[1])
	}
	return values
}
