package oauth2refresh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// maxBody is how much of an answer is read, in bytes; x/oauth2 has the same limit.
const maxBody = 1 << 20

// unshared returns base in a form that keeps no connections, so that no request goes out on one that the server is
// just closing.
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

// The states of a transport's request body.
const (
	unsent int32 = iota
	sent         // it was given to the network: the provider may have seen it
	never        // it was not, and will not be
)

// transport sends one request, once, and keeps the answer. It is used for one exchange.
type transport struct {
	base   http.RoundTripper
	used   atomic.Bool
	state  atomic.Int32
	answer *answer // nil: there was none
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	broken error // why the body is not complete; nil if it is
}

// RoundTrip implements [http.RoundTripper].
//
// http.Transport repeats requests of its own accord. Over HTTP/1.1 it does so for a POST only if not one byte of it was
// written on a connection that had been used before (persistConn.shouldRetryRequest; with the header Idempotency-Key also
// otherwise). Over HTTP/2 it does so after REFUSED_STREAM and GOAWAY, which promise that the request was not processed
// (RFC 9113 sections 6.8 and 8.7), but after PROTOCOL_ERROR too, which promises nothing. Both can only do it with GetBody,
// or with a body that nobody has begun to read. So the request gets a body that is read once, and no GetBody.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	_ = request.Body.Close()
	if err != nil {
		return nil, err
	}
	if t.used.Swap(true) {
		return nil, errors.New("a second request in one exchange")
	}
	request = request.Clone(request.Context())
	request.Body = &onceBody{ctx: request.Context(), state: &t.state, rest: bytes.NewReader(body)}
	request.GetBody = nil
	request.ContentLength = int64(len(body))
	request.Header.Set("Accept", "application/json") // GitHub answers with a form otherwise

	response, err := t.base.RoundTrip(request)
	if err != nil {
		return nil, err
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

// close forbids to send the body from now on, and reports whether it was given to the network before. A transport's
// writer may outlive RoundTrip, so this is what decides.
func (t *transport) close() (wasSent bool) {
	return !t.state.CompareAndSwap(unsent, never) && t.state.Load() == sent
}

// onceBody is a request's body. It is given out only while ctx is not over.
type onceBody struct {
	ctx   context.Context
	state *atomic.Int32
	rest  *bytes.Reader
}

// Read implements [io.Reader]. The first call decides whether the request is sent. It comes after the connection was
// made, which may have taken long, and it goes by the clock and not by ctx.Err alone: in a process that was stopped and
// has just been resumed, the deadline's timer may not have fired yet.
func (b *onceBody) Read(p []byte) (int, error) {
	if b.state.Load() == unsent {
		if err := over(b.ctx); err != nil {
			b.state.CompareAndSwap(unsent, never)
			return 0, err
		}
		b.state.CompareAndSwap(unsent, sent)
	}
	if b.state.Load() == never {
		return 0, context.Canceled
	}
	return b.rest.Read(p)
}

// Close implements [io.Closer].
func (b *onceBody) Close() error { return nil }

// over returns why ctx is over, nil if it is not.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
