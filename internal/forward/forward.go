// Package forward is a TCP forwarder for tests: it stands between clients and a server, and takes
// the server away from them in the ways in which networks do.
package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Forwarder passes on what comes to its address, which stays the same whatever becomes of the
// server.
type Forwarder struct {
	listener net.Listener
	served   sync.WaitGroup

	mu          sync.Mutex // guards what follows
	target      string
	refusing    bool
	closed      bool
	whole       chan struct{} // closed while bytes pass; open while they are dropped
	connections map[*connection]bool
	dials       int
}

// connection is one client's.
type connection struct {
	client net.Conn
	server net.Conn // nil until it is dialled; guarded by Forwarder.mu
	lost   bool     // guarded by Forwarder.mu: bytes of it were dropped, so that none may follow
}

// Start forwards a free port of 127.0.0.1 to target ("host:port").
func Start(target string) (*Forwarder, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	f := &Forwarder{listener: listener, target: target, whole: make(chan struct{}),
		connections: make(map[*connection]bool)}
	close(f.whole)
	f.served.Go(f.serve)
	return f, nil
}

// Addr is the forwarder's address.
func (f *Forwarder) Addr() string { return f.listener.Addr().String() }

// Dials is how many connections clients have opened, refused ones included.
func (f *Forwarder) Dials() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials
}

// To has new connections go to that target. Those that are open stay where they are.
func (f *Forwarder) To(target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
}

// Cut drops every byte from now on, in both directions, and the news that a side has closed its
// connection. New connections are opened and hang.
func (f *Forwarder) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusing = false
	if f.passes() {
		f.whole = make(chan struct{})
	}
}

// Refuse resets every connection, and new ones as soon as they are opened.
func (f *Forwarder) Refuse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heal()
	f.refusing = true
	for c := range f.connections {
		c.reset()
	}
}

// Heal ends what Cut or Refuse began. A connection of which bytes were dropped stays silent until
// its client closes it, and only then the server learns of that. One that was opened meanwhile gets
// through, if its client still waits.
func (f *Forwarder) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heal()
}

func (f *Forwarder) heal() {
	f.refusing = false
	if !f.passes() {
		close(f.whole)
	}
}

// passes reports whether bytes pass. The caller holds f.mu.
func (f *Forwarder) passes() bool {
	select {
	case <-f.whole:
		return true
	default:
		return false
	}
}

// Close ends the forwarder and its connections.
func (f *Forwarder) Close() {
	f.mu.Lock()
	f.closed = true
	f.heal()
	for c := range f.connections {
		c.reset()
	}
	f.mu.Unlock()
	_ = f.listener.Close()
	f.served.Wait()
}

func (f *Forwarder) serve() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		c := &connection{client: client}
		f.mu.Lock()
		f.dials++
		f.connections[c] = true
		if f.refusing || f.closed {
			c.reset()
		}
		f.mu.Unlock()
		f.served.Go(func() { f.pass(c) })
	}
}

// pass is one connection's whole life.
func (f *Forwarder) pass(c *connection) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.connections, c)
		c.close()
	}()
	<-f.wholeNow()
	first, gone := firstWords(c.client)
	f.mu.Lock()
	target, ended := f.target, f.refusing || f.closed
	f.mu.Unlock()
	if gone || ended {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.reset()
		return
	}
	f.mu.Lock()
	c.server = server
	ended = f.refusing || f.closed
	f.mu.Unlock()
	if ended {
		return
	}
	_, _ = server.Write(first)
	f.served.Go(func() { f.pump(c, c.client, server) })
	f.pump(c, server, c.client)
}

// firstWords returns what the client has said so far, or that it is gone: a server would take a
// client that leaves before it has logged in for an error, and the packets of one that left during
// a cut never arrive.
func firstWords(client net.Conn) (words []byte, gone bool) {
	buffer := make([]byte, 32<<10)
	_ = client.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err := client.Read(buffer)
	_ = client.SetReadDeadline(time.Time{})
	return buffer[:n], n == 0 && !errors.Is(err, os.ErrDeadlineExceeded)
}

// pump passes on what comes from one side to the other, and its end.
func (f *Forwarder) pump(c *connection, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		f.mu.Lock()
		c.lost = c.lost || n > 0 && !f.passes()
		lost := c.lost
		f.mu.Unlock()
		if n > 0 && !lost {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			<-f.wholeNow()
			f.mu.Lock()
			defer f.mu.Unlock()
			c.close()
			return
		}
	}
}

// wholeNow returns what is closed when bytes pass.
func (f *Forwarder) wholeNow() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.whole
}

// reset closes the client's side so that the client gets an RST, and the server's. The caller holds
// Forwarder.mu.
func (c *connection) reset() {
	if tcp, ok := c.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.close()
}

// close closes both sides; it may be called again. The caller holds Forwarder.mu.
func (c *connection) close() {
	_ = c.client.Close()
	if c.server != nil {
		_ = c.server.Close()
	}
}
