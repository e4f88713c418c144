package bearer

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
)

// redirectedAway reports whether the request is a hop of a redirect that has left the origin of the
// first request. A redirect that comes back has left it too: the way back is of the other host's
// choice.
func redirectedAway(req *http.Request) bool {
	for hop := req; hop.Response != nil; hop = hop.Response.Request {
		before := hop.Response.Request
		if before == nil || !sameOrigin(before.URL, hop.URL) {
			return true
		}
	}
	return false
}

// sameOrigin reports whether a redirect from one URL to the other may carry the token. Hosts that
// are spelled in two ways count as two.
func sameOrigin(from, to *url.URL) bool {
	if !strings.EqualFold(from.Hostname(), to.Hostname()) {
		return false
	}
	if from.Scheme == to.Scheme {
		return port(from) == port(to)
	}
	return from.Scheme == "http" && port(from) == "80" && to.Scheme == "https" && port(to) == "443"
}

// port returns the port to which a request for the URL goes.
func port(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}
