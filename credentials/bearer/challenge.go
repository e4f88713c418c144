package bearer

import (
	"iter"
	"net/http"
	"strings"
)

// turnsDown reports whether the answer says that the token does not work, and the next one may.
func turnsDown(resp *http.Response) bool {
	if resp.StatusCode != http.StatusUnauthorized {
		return false
	}
	switch challengeError(resp.Header.Values("WWW-Authenticate")) {
	case "invalid_request", "insufficient_scope", // RFC 6750 section 3.1
		"insufficient_user_authentication": // RFC 9470 section 3: a person has to log in anew
		return false
	}
	return true
}

// challengeError returns the error that a Bearer challenge names (RFC 6750 section 3), "" if none
// does. The fields are lists of challenges, of any scheme, and of their parameters (RFC 9110
// section 11.6.1).
func challengeError(fields []string) string {
	scheme := ""
	for _, field := range fields {
		for element := range elements(field) {
			name, rest := cutName(element)
			if !strings.HasPrefix(rest, "=") { // the element begins a challenge
				scheme = name
				name, rest = cutName(rest)
			}
			if strings.EqualFold(scheme, "Bearer") && strings.EqualFold(name, "error") {
				return strings.Trim(rest, "=\" \t") // no code has such a character in it
			}
		}
	}
	return ""
}

// elements returns the elements of a list that are not empty. A comma in a quoted string is no end.
func elements(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i <= len(list); i++ {
			switch {
			case i == len(list), list[i] == ',' && !quoted:
				element := strings.Trim(list[start:i], " \t")
				if element != "" && !yield(element) {
					return
				}
				start = i + 1
			case list[i] == '"':
				quoted = !quoted
			case list[i] == '\\' && quoted:
				i = min(i+1, len(list)-1)
			}
		}
	}
}

// cutName cuts the name of a scheme or of a parameter off, with the space after it.
func cutName(s string) (name, rest string) {
	i := strings.IndexAny(s, " \t=")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}
