package provider

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/internal/testkit"
)

// CodeLifetime is how long an authorization code may be exchanged (RFC 6749 section 4.1.2: at most
// 10 minutes).
const CodeLifetime = time.Minute

// code is an authorization code that was issued.
type code struct {
	account, clientID, redirectURI, challenge string

	expires time.Time
	family  *testkit.Family // what it was exchanged for; nil: it was not used
}

// authorizeCode is the authorization endpoint (RFC 6749 section 4.1.1) with PKCE (RFC 7636, S256).
// The person consents at once; login_hint names the account, "demo" if there is none.
func (p *Provider) authorizeCode(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	redirect, err := url.Parse(query.Get("redirect_uri"))
	if err != nil || redirect.Host == "" || query.Get("client_id") == "" {
		http.Error(w, "client_id and an absolute redirect_uri are needed", http.StatusBadRequest)
		return
	}
	answer := redirect.Query()
	answer.Set("state", query.Get("state"))
	method, challenge := query.Get("code_challenge_method"), query.Get("code_challenge")
	switch {
	case query.Get("response_type") != "code":
		answer.Set("error", "unsupported_response_type")
	case challenge != "" && method != "S256":
		answer.Set("error", "invalid_request")
	default:
		answer.Set("code", p.issueCode(&code{
			account: cmp.Or(query.Get("login_hint"), "demo"), clientID: query.Get("client_id"),
			redirectURI: redirect.String(), challenge: challenge, expires: time.Now().Add(CodeLifetime),
		}))
	}
	redirect.RawQuery = answer.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

func (p *Provider) issueCode(c *code) (text string) {
	text = "code-" + rand.Text()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[text] = c
	return text
}

var errCode = errors.New("the authorization code does not work")

// exchangeCode uses up the authorization code and begins a family. A code that comes back revokes
// the family that it began (RFC 6749 section 4.1.2). The caller holds p.mu.
func (p *Provider) exchangeCode(req request) (*testkit.Family, error) {
	c := p.codes[req.code]
	switch {
	case c == nil:
		return nil, errCode
	case c.family != nil:
		c.family.Revoke()
		return nil, errCode
	}
	sum := sha256.Sum256([]byte(req.verifier))
	verified := c.challenge == "" && req.verifier == "" ||
		c.challenge == base64.RawURLEncoding.EncodeToString(sum[:])
	same := c.clientID == req.clientID && c.redirectURI == req.redirectURI
	if !verified || !same || !time.Now().Before(c.expires) {
		return nil, errCode
	}
	c.family = p.authorize(c.account)
	return c.family, nil
}

// userinfo is an API: the account of the access token in the Authorization header, or 401.
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	account, ok := p.Validate(token)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		writeError(w, http.StatusUnauthorized, "invalid_token", "")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"sub": account})
}
