package integration_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// fate is what becomes of a packet.
type fate int

const (
	deliver   fate = iota
	lose           // the connection breaks before the server gets it
	loseReply      // the server carries it out, and the connection breaks before the reply arrives
)

// wire is the network between a pool and its server. It shows every statement that is sent, and
// lets a test hold it, change it or lose it. The server must not be reached through TLS, and
// parameters must be interpolated, so that a statement is one packet of text.
type wire struct {
	// statement is called with each statement before it is sent, by several goroutines. It may
	// change the text in place, and holds the statement until it returns.
	statement func(text []byte) fate

	mu   sync.Mutex // guards what follows
	sent []string   // all statements so far, as they were sent
	cuts int        // connections that broke
}

// openWire returns a pool whose network is w.
func (s *server) openWire(t testing.TB, database, params string, w *wire) *sql.DB {
	t.Helper()
	config := s.configFor(t, database, strings.TrimSuffix(interpolated+"&"+params, "&"))
	config.TLS, config.TLSConfig = nil, ""
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wireConn{Conn: conn, wire: w}, nil
	}
	db := openFor(t, config)
	return db
}

// count returns how many statements that begin with prefix were sent.
func (w *wire) count(prefix string) int {
	n := 0
	for _, text := range w.statements() {
		if strings.HasPrefix(text, prefix) {
			n++
		}
	}
	return n
}

func (w *wire) statements() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.sent...)
}

// broken returns how many connections broke.
func (w *wire) broken() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts
}

type wireConn struct {
	net.Conn

	wire *wire
	cut  bool // break at the next reply; the driver uses a connection from one goroutine at a time
}

// Write sees whole packets: the driver writes each in one call, after a header of four bytes and
// the command.
func (c *wireConn) Write(packet []byte) (int, error) {
	const query = 3 // COM_QUERY
	if len(packet) <= 5 || packet[4] != query {
		return c.Conn.Write(packet)
	}
	packet = bytes.Clone(packet)
	text := packet[5:]
	what := deliver
	if c.wire.statement != nil {
		what = c.wire.statement(text)
	}
	c.wire.mu.Lock()
	c.wire.sent = append(c.wire.sent, string(text))
	c.wire.mu.Unlock()
	switch what {
	case lose:
		return 0, c.breakDown()
	case loseReply:
		c.cut = true
	}
	return c.Conn.Write(packet)
}

// Read waits for a reply that is to be lost, so that the server has carried out what it replies to.
func (c *wireConn) Read(p []byte) (int, error) {
	if !c.cut {
		return c.Conn.Read(p)
	}
	if _, err := c.Conn.Read(p); err != nil {
		return 0, err
	}
	return 0, c.breakDown()
}

func (c *wireConn) breakDown() error {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.wire.cuts++
	_ = c.Close()
	return io.ErrUnexpectedEOF
}

// The beginnings of the store's statements.
const (
	beginsSelect   = "SELECT `id`"
	beginsVersions = "SELECT id, version"
	beginsClaim    = "UPDATE `credentials` FORCE INDEX (PRIMARY)\nSET interrupted_by"
	beginsSave     = "UPDATE `credentials` FORCE INDEX (PRIMARY)\nSET access_token "
	beginsFail     = "UPDATE `credentials` FORCE INDEX (PRIMARY)\nSET failures"
	beginsRelease  = "UPDATE `credentials` FORCE INDEX (PRIMARY)\nSET due_at"
)

// once returns a wire's statement function that gives the first statement with that prefix that
// fate.
func once(prefix string, what fate) func(text []byte) fate {
	var first sync.Once
	return func(text []byte) fate {
		result := deliver
		if strings.HasPrefix(string(text), prefix) {
			first.Do(func() { result = what })
		}
		return result
	}
}

// gate holds statements until it is opened.
type gate struct {
	arrived chan struct{} // receives once for each that arrives
	open    chan struct{}
}

func newGate() *gate {
	return &gate{arrived: make(chan struct{}, 1000), open: make(chan struct{})}
}

// hold returns when the gate is open, or the test has failed by then.
func (g *gate) hold(ctx context.Context) {
	g.arrived <- struct{}{}
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

// holding returns a wire's statement function that holds statements with that prefix at the gate.
func (g *gate) holding(ctx context.Context, prefix string) func(text []byte) fate {
	return func(text []byte) fate {
		if strings.HasPrefix(string(text), prefix) {
			g.hold(ctx)
		}
		return deliver
	}
}
