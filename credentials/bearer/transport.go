package bearer

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/latchkey-go/latchkey/credentials"
)

// Transport is an [http.RoundTripper] that has each request carry the token of a credential, in a
// copy of the request whose header field Authorization is replaced, as golang.org/x/oauth2 does.
// Its fields must not change once it is in use; its methods may be called at the same time.
//
// # A token that is turned down
//
// An answer with status 401 says that the API turned the token down (RFC 6750 section 3.1), unless
// its Bearer challenge names another error: invalid_request, insufficient_scope, or
// insufficient_user_authentication (RFC 9470 section 3). The transport reports the token with
// [credentials.Source.Invalidate] and sends the request once more, with the next token. The second
// answer is the result, whatever its status. The first answer is the result, its body unread, where
// there is no next token, such as when the token is too young to be exchanged
// ([credentials.Service].MinTokenAge).
//
// A request whose body cannot be had again, since it has no GetBody, is not sent a second time.
// The transport reports the token with [credentials.Source.Report], which does not wait, and the
// answer with status 401 is the result.
//
// # Redirects
//
// An [http.Client] sends each hop of a redirect through its transport. The transport sends the
// token only as long as every hop of the redirect has the host and the port of the first request,
// and never by http after https; by https after http on the default ports. Other hops are sent as
// the client made them. This is stricter than the client's own rule for headers, by which
// subdomains, and other ports, get the header.
//
// # Errors
//
// An error of the credential is wrapped, with the errors of [credentials.Manager.Token] in it, and
// nothing was sent. Errors of Base are returned as they are. No error of the transport's own has a
// token in it, nor has the response: its Request is the one that the transport was given.
type Transport struct {
	// Source is the credential whose token requests carry. It must be set, unless SourceFor is.
	Source *credentials.Source

	// SourceFor, if set, gives the credential of each request in place of Source, for a client that
	// acts for many accounts: from a value in the request's context, say. It must not change the
	// request. Its errors are wrapped and returned.
	SourceFor func(*http.Request) (*credentials.Source, error)

	// Base sends the requests. Nil: http.DefaultTransport.
	Base http.RoundTripper
}

// Client returns an HTTP client whose requests carry the token of that credential, over
// [http.DefaultTransport]. The client has no time limit: bound each request by its context. For
// another base, make a [Transport].
func Client(source *credentials.Source) *http.Client {
	return &http.Client{Transport: &Transport{Source: source}}
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if redirectedAway(req) {
		return t.base().RoundTrip(req)
	}
	source, err := t.source(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	token, err := source.Token(req.Context())
	if err != nil {
		closeBody(req)
		return nil, fmt.Errorf("bearer: no token for the request: %w", err)
	}
	resp, err := t.send(req, req.Body, token)
	if err != nil || !turnsDown(resp) {
		return resp, err
	}
	return t.sendAgain(req, resp, source, token)
}

var errNoSource = errors.New(
	"bearer: no credential for the request; set Source, or return one from SourceFor")

// source returns the credential of the request.
func (t *Transport) source(req *http.Request) (*credentials.Source, error) {
	source := t.Source
	if t.SourceFor != nil {
		var err error
		if source, err = t.SourceFor(req); err != nil {
			return nil, fmt.Errorf("bearer: no credential for the request: %w", err)
		}
	}
	if source == nil {
		return nil, errNoSource
	}
	return source, nil
}

// send sends the request with that body and that token.
func (t *Transport) send(
	req *http.Request, body io.ReadCloser, token credentials.Token,
) (*http.Response, error) {
	// A shallow copy: programs may set the values of Trailer while the body is read.
	authorized := req.WithContext(req.Context())
	authorized.Body = body
	if authorized.Header = req.Header.Clone(); authorized.Header == nil {
		authorized.Header = make(http.Header)
	}
	token.SetAuthHeader(authorized.Header)
	resp, err := t.base().RoundTrip(authorized)
	if resp != nil {
		resp.Request = req // programs print it, and later hops of a redirect are known by it
	}
	return resp, err
}

// sendAgain follows an answer that turned the token down.
func (t *Transport) sendAgain(
	req *http.Request, first *http.Response, source *credentials.Source, turnedDown credentials.Token,
) (*http.Response, error) {
	if hasBody(req) && req.GetBody == nil {
		source.Report(req.Context(), turnedDown)
		return first, nil
	}
	token, err := source.Invalidate(req.Context(), turnedDown)
	if err != nil {
		return first, nil
	}
	body := req.Body
	if hasBody(req) {
		if body, err = req.GetBody(); err != nil {
			return first, nil
		}
	}
	discard(first)
	return t.send(req, body, token)
}

// maxDrained bounds how much of an answer's body is read so that its connection is used again.
const maxDrained = 16 << 10

// discard gives the connection of an answer that nobody reads back to Base.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
	_ = resp.Body.Close()
}

// hasBody reports whether the request has a body that is used up once it was sent.
func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// closeBody does for a request that is not sent what a RoundTripper must do for each.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// CloseIdleConnections has Base close its idle connections, if it can, for
// [http.Client.CloseIdleConnections].
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}
