package forward_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/forward"
)

// echo answers each line with its name and the line. ended receives when a connection has ended.
func echo(t *testing.T, name string) (addr string, ended <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	ends := make(chan struct{}, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { ends <- struct{}{} }()
				defer func() { _ = conn.Close() }()
				for lines := bufio.NewReader(conn); ; {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, name+" "+line)
				}
			}()
		}
	}()
	return listener.Addr().String(), ends
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, target string) *forward.Forwarder {
	t.Helper()
	f, err := forward.Start(target)
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, f *forward.Forwarder) *client {
	t.Helper()
	conn, err := net.Dial("tcp4", f.Addr())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) says(line string) {
	c.t.Helper()
	_, err := io.WriteString(c.Conn, line+"\n")
	must(c.t, err)
}

func (c *client) hears(want string) {
	c.t.Helper()
	if got, err := c.in.ReadString('\n'); err != nil || got != want+"\n" {
		c.t.Errorf("heard %q, %v; want %q", got, err, want)
	}
}

// hearsNothing waits for a moment: nothing says that nothing comes.
func (c *client) hearsNothing() {
	c.t.Helper()
	must(c.t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if got, err := c.in.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("heard %q, %v; want nothing", got, err)
	}
	must(c.t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
}

func TestOpenConnectionsStayWhereTheyAre(t *testing.T) {
	a, _ := echo(t, "a")
	b, _ := echo(t, "b")
	f := start(t, a)
	before := dial(t, f)
	before.says("1")
	before.hears("a 1")
	f.To(b)
	after := dial(t, f)
	after.says("2")
	after.hears("b 2")
	before.says("3")
	before.hears("a 3")
	if f.Dials() != 2 {
		t.Errorf("%d dials, want 2", f.Dials())
	}
}

func TestCut(t *testing.T) {
	a, ended := echo(t, "a")
	f := start(t, a)
	idle, used, closed := dial(t, f), dial(t, f), dial(t, f)
	for _, c := range []*client{idle, used, closed} {
		c.says("1")
		c.hears("a 1")
	}
	f.Cut()
	used.says("2")
	used.hearsNothing()
	_ = closed.Close()
	left := dial(t, f)
	_ = left.Close()
	during := dial(t, f)
	during.says("3")
	during.hearsNothing()
	select {
	case <-ended:
		t.Error("the server learned during the cut that a client had closed its connection")
	case <-time.After(50 * time.Millisecond):
	}
	f.Heal()
	<-ended // that of the client which closed it
	during.hears("a 3")
	idle.says("4")
	idle.hears("a 4")
	used.says("5")
	used.hearsNothing()
	_ = used.Close()
	<-ended
	if n := len(ended); n > 0 { // the one that left during the cut never got through
		t.Errorf("the server saw the end of %d more connections, want 0", n)
	}
}

func TestRefuse(t *testing.T) {
	a, ended := echo(t, "a")
	f := start(t, a)
	before := dial(t, f)
	before.says("1")
	before.hears("a 1")
	f.Refuse()
	<-ended
	if _, err := before.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection that was open: %v, want ECONNRESET", err)
	}
	wantReset(t, f)
	f.Heal()
	after := dial(t, f)
	after.says("2")
	after.hears("a 2")
	if f.Dials() != 3 {
		t.Errorf("%d dials, want 3", f.Dials())
	}
}

func TestNoServer(t *testing.T) {
	wantReset(t, start(t, "127.0.0.1:1"))
}

// wantReset opens a connection, which is reset at once or when it is read from.
func wantReset(t *testing.T, f *forward.Forwarder) {
	t.Helper()
	conn, err := net.Dial("tcp4", f.Addr())
	if err == nil {
		defer func() { _ = conn.Close() }()
		must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a new connection: %v, want ECONNRESET", err)
	}
}
