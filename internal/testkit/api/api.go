// Package api is an external API, and the provider beside it, for tests of clients: the API takes
// one token at a time, and revokes it now and then.
package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// FirstToken is the token that the API takes before the first exchange.
const FirstToken = "access-0"

// API is the API, an [http.Handler], and its provider, a [credentials.Refresher].
type API struct {
	revocations int // that are to come in all
	callers     int

	mu      sync.Mutex   // guards what follows
	token   int          // the number of the newest one, which alone the API takes
	ended   bool         // that token is revoked
	revoked int          // how many were
	served  map[int]bool // callers that the API has served with the newest token
}

// New returns an API that revokes so many tokens, and is called by so many callers. Each token is
// revoked at random once every caller was served with it, so that a client which sends a request
// twice at most can serve its callers.
func New(revocations, callers int) *API {
	return &API{revocations: revocations, callers: callers, served: make(map[int]bool)}
}

// Refresh implements [credentials.Refresher].
func (a *API) Refresh(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token++
	a.ended = false
	return credentials.Grant{AccessToken: credentials.NewSecret(a.name()), Lifetime: time.Hour}, nil
}

// name is the text of the present token.
func (a *API) name() string { return fmt.Sprint("access-", a.token) }

// Exchanges returns how many tokens the provider has issued.
func (a *API) Exchanges() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token
}

// Revocations returns how many tokens were revoked.
func (a *API) Revocations() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revoked
}

// TokenPath is where the API's server has the provider's token endpoint (RFC 6749 section 3.2).
const TokenPath = "/token"

// doneHeader is in the answer to a caller that has nothing more to ask.
const doneHeader = "Done"

// ServeHTTP implements [http.Handler]: the API answers with the body of the request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == TokenPath {
		grant, _ := a.Refresh(r.Context(), credentials.RefreshInput{})
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"token_type": "Bearer", "expires_in": 3600, "access_token": %q}`, grant.AccessToken.Reveal())
		return
	}
	body, err := io.ReadAll(r.Body)
	var caller int
	_, err2 := fmt.Sscan(r.URL.Query().Get("caller"), &caller)
	if err := errors.Join(err, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !a.takes(r.Header.Get("Authorization"), caller) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="api", error="invalid_token"`)
		http.Error(w, "the token was revoked", http.StatusUnauthorized)
		return
	}
	if a.done(caller) {
		w.Header().Set(doneHeader, "true")
	}
	_, _ = w.Write(body)
}

// takes reports whether the API serves that caller.
func (a *API) takes(authorization string, caller int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if authorization != "Bearer "+a.name() || a.ended {
		return false
	}
	if a.revoked < a.revocations && len(a.served) == a.callers && rand.N(8) == 0 {
		a.revoked++
		a.ended = true
		clear(a.served)
		return false
	}
	a.served[caller] = true
	return true
}

// done reports whether all revocations have come, and the caller was served after the last.
func (a *API) done(caller int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revoked == a.revocations && a.served[caller]
}

// Storm has the callers, in equal shares by each of the clients, send requests to the API at that
// URL until it has revoked its tokens. The error tells of the first answer that is no 200, or has
// not the request's body.
func (a *API) Storm(ctx context.Context, url string, clients ...*http.Client) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var callers sync.WaitGroup
	for caller := range a.callers {
		callers.Go(func() {
			if err := Use(ctx, clients[caller%len(clients)], url, caller); err != nil {
				end(err)
			}
		})
	}
	callers.Wait()
	return context.Cause(ctx)
}

// Use has one caller send requests to the API at that URL, until it has revoked its tokens or ctx
// ends. The error tells of the first answer that is no 200, or has not the request's body. Each
// caller has a number of its own, in whatever process.
func Use(ctx context.Context, client *http.Client, url string, caller int) error {
	for n := 0; ctx.Err() == nil; n++ {
		if done, err := call(ctx, client, url, caller, n); done || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// call sends one request, every other one with a body, and reports whether it is the last.
func call(ctx context.Context, client *http.Client, url string, caller, n int) (done bool, err error) {
	var body string
	method := http.MethodGet
	if n%2 == 1 {
		body, method = fmt.Sprint("request ", n, " of caller ", caller), http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprint(url, "?caller=", caller), strings.NewReader(body))
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	got, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if resp.StatusCode != http.StatusOK || string(got) != body {
		err = errors.Join(err, fmt.Errorf("request %d of caller %d: status %d, body %q", n, caller, resp.StatusCode, got))
	}
	return resp.Header.Get(doneHeader) != "", err
}
