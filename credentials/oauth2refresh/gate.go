package oauth2refresh

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// gate lets a request's body go out while the exchange has time, and knows afterwards whether the
// body may have been sent.
//
// The body has the refresh token, so the question is whether the body was written to a connection.
// An http.Transport reads the body when the headers have been written. A RoundTripper around the
// transport may read the body before there is a connection, to add a parameter, and send another
// body in its place. The hooks of net/http/httptrace, which travel in the request's context, see
// that body too.
type gate struct {
	ctx    context.Context // the exchange's
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	shut    error    // why nothing may be sent from now on; nil: the gate is open
	read    bool     // the body was given out
	asked   bool     // a transport that reports to the hooks asked for a connection
	conn    net.Conn // the connection that was given last; nil: none was
	streams bool     // the connection is HTTP/2's, and may carry requests of others
	written bool     // headers were written while the gate was open, so that a body followed
}

// trace returns the hooks.
func (g *gate) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.asked = true
		},
		GotConn: func(info httptrace.GotConnInfo) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.conn, g.streams = info.Conn, false
		},
		WroteHeaderField: func(name string, _ []string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			// RFC 9113 section 8.3: a pseudo-header field.
			g.streams = g.streams || strings.HasPrefix(name, ":")
		},
		WroteHeaders: g.wroteHeaders,
	}
}

// wroteHeaders is called by the goroutine that is about to write the body. A hook cannot return an
// error, so a body that must not go out is stopped in two ways: the context ends, which HTTP/2
// looks at before it writes the body, and an HTTP/1 connection, whose writer looks at nothing,
// takes no more bytes. A connection of HTTP/2 may carry the requests of others and is left alone.
func (g *gate) wroteHeaders() {
	g.mu.Lock()
	refused := g.refuse()
	g.written = g.written || refused == nil
	conn := g.conn
	if g.streams {
		conn = nil
	}
	g.mu.Unlock()
	if refused == nil {
		return
	}
	g.cancel(refused)
	if conn != nil {
		_ = conn.SetWriteDeadline(time.Unix(1, 0)) // fails on a closed connection, which will do
	}
}

// refuse returns why the gate is shut, and shuts it if the exchange's time is over. The caller
// holds g.mu.
func (g *gate) refuse() error {
	if g.shut == nil {
		g.shut = over(g.ctx)
	}
	return g.shut
}

// refused returns why the gate was shut; nil if the gate is open.
func (g *gate) refused() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

// close shuts the gate and reports whether the body may have been sent before, in a request that
// ended with err. The writer of a RoundTripper may outlive its RoundTrip, so this moment decides.
func (g *gate) close(err error) (sent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	refused := g.shut != nil
	if !refused {
		g.shut = context.Canceled
	}
	switch {
	case !g.read:
		return false
	case g.written:
		return true
	case g.asked:
		return g.conn != nil && !refused
	default: // nobody reported to the hooks
		return !undialed(err)
	}
}

// undialed reports whether the error says that no connection was made.
func undialed(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "dial"
}

// onceBody is a request's body that can be read once, and only while the gate is open.
type onceBody struct {
	gate *gate
	rest *bytes.Reader
}

// Read implements [io.Reader]. The first call comes after the connection was made, which may have
// taken long, unless somebody in between wants the body earlier.
func (b *onceBody) Read(p []byte) (int, error) {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	if b.gate.shut != nil {
		return 0, b.gate.shut
	}
	if !b.gate.read {
		if err := b.gate.refuse(); err != nil {
			return 0, err
		}
		b.gate.read = true
	}
	return b.rest.Read(p)
}

// Close implements [io.Closer].
func (b *onceBody) Close() error { return nil }

// over returns why ctx is over, nil if it is not. The clocks decide, and not ctx.Err alone: in a
// process that was stopped and has just been resumed, the deadline's timer may not have fired yet.
// On a host that slept, the monotonic clock may have stood still and the wall clock has not, so the
// deadline has passed when either says so.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if now := time.Now(); ok && (!now.Before(deadline) || !now.Round(0).Before(deadline.Round(0))) {
		return context.DeadlineExceeded
	}
	return nil
}
