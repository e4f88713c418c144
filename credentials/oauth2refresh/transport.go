package oauth2refresh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// maxBody is how much of an answer is read, in bytes; x/oauth2 has the same limit.
const maxBody = 1 << 20

// unshared returns base in a form that keeps no connections, so that no request goes out on one
// that the server is just closing.
func unshared(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	t, ok := base.(*http.Transport)
	if !ok {
		return base
	}
	t = t.Clone()
	t.DisableKeepAlives = true
	return t
}

// transport sends the one request of an exchange, once, and keeps the answer.
type transport struct {
	base   http.RoundTripper
	add    *addition
	used   atomic.Bool
	gate   *gate   // nil: no request was made
	answer *answer // nil: no answer was received
}

// answer is the provider's.
type answer struct {
	status int
	header http.Header
	body   []byte
	broken error // why the body is incomplete; nil: it is complete
}

// page reports whether the body is a page for people, as a firewall or a proxy sends.
func (a *answer) page() bool {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return kind == "text/html" || bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("<"))
}

// RoundTrip implements [http.RoundTripper].
//
// http.Transport repeats requests of its own accord. Over HTTP/1.1 it does so for a POST only if
// not one byte of it was written on a connection that had been used before
// (persistConn.shouldRetryRequest; with the header Idempotency-Key also otherwise). Over HTTP/2 it
// does so after REFUSED_STREAM and GOAWAY, which promise that the request was not processed (RFC
// 9113 sections 6.8 and 8.7), but after PROTOCOL_ERROR too, which promises nothing. Either needs
// GetBody, or a body that nobody has begun to read. So the request gets a body that is read once,
// and no GetBody.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	_ = request.Body.Close()
	if err != nil {
		return nil, err
	}
	if t.used.Swap(true) {
		return nil, errors.New("a second request in one exchange")
	}
	ctx, cancel := context.WithCancelCause(request.Context())
	defer cancel(nil)
	t.gate = &gate{ctx: request.Context(), cancel: cancel}
	request = request.Clone(httptrace.WithClientTrace(ctx, t.gate.trace()))
	request.Header.Set("Accept", "application/json") // GitHub answers with a form otherwise
	if body, err = t.add.apply(request, body); err != nil {
		return nil, err
	}
	request.Body = &onceBody{gate: t.gate, rest: bytes.NewReader(body)}
	request.GetBody = nil
	request.ContentLength = int64(len(body))
	response, err := t.base.RoundTrip(request)
	if err != nil {
		return nil, cmp.Or(t.gate.refused(), err)
	}
	a := &answer{status: response.StatusCode, header: response.Header}
	a.body, a.broken = io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	_ = response.Body.Close()
	if len(a.body) > maxBody {
		a.body, a.broken = a.body[:maxBody], errors.New("the answer is too long")
	}
	t.answer = a
	response.Body = io.NopCloser(bytes.NewReader(a.body))
	return response, nil
}

// close forbids to send the body from now on, and reports whether it may have been sent, in a
// request that ended with err.
func (t *transport) close(err error) (sent bool) { return t.gate != nil && t.gate.close(err) }
