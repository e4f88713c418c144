package providers

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// Options returns those of the provider, for a refresher of one's own. Error codes that the
// refresher knows are left to it, as it knows when to doubt them. There is no RevocationURL where
// [Provider.Endpoint] reports a mistake.
func (p Provider) Options() oauth2refresh.Options {
	var options oauth2refresh.Options
	if len(p.Refusals) > 0 {
		options.Classify = p.classify
	}
	if _, err := p.Endpoint(); err == nil {
		options.RevocationURL = p.placed(p.RevocationURL.Value)
	}
	if p.SendsRedirectURI.Value {
		options.Params = redirectURI
	}
	return options
}

// redirectURI returns the parameter from the credential's entry of that name.
func redirectURI(_ context.Context, in credentials.RefreshInput) (url.Values, error) {
	uri, ok := in.Extra["redirect_uri"]
	if !ok {
		return nil, nil
	}
	return url.Values{"redirect_uri": {uri.Reveal()}}, nil
}

// classify returns the class of the first refusal that fits the answer, or false.
func (p Provider) classify(answer oauth2refresh.Response) (credentials.Class, bool) {
	body := strings.ToLower(answer.Body.Reveal())
	for _, refusal := range p.Refusals {
		if refusal.Value.fits(answer.Status, body) {
			return refusal.Value.Class, true
		}
	}
	return "", false
}

// fits reports whether an answer with that status, and that body in small letters, is the refusal.
// A server's own fault (5xx) is none, nor is an answer for which nobody looked at the grant (429).
func (r Refusal) fits(status int, body string) bool {
	switch {
	case r.Says == "", r.Status != 0 && r.Status != status:
		return false
	case status >= 500, status == http.StatusTooManyRequests:
		return false
	}
	return strings.Contains(body, strings.ToLower(r.Says))
}
