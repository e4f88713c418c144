package integration_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/forward"
	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/testkit/docker"
)

// private is a server that a test has for itself: it may kill it and change its settings.
type private struct {
	*server

	reach     string // the address at which others of its kind reach it
	container string // its id; empty: the server runs in none

	kill, restart   func(t *testing.T) // restart returns when the server answers again
	silence, resume func(t *testing.T) // a silent server answers nothing, and its connections stay
}

// privateKinds are the ways to have a server of one's own on this machine.
var privateKinds = sync.OnceValue(func() (kinds []string) {
	if _, err := exec.LookPath("docker"); err == nil && os.Getenv("TEST_MYSQL_DSN") == "" {
		if _, err := docker.Command("image", "inspect", image()); err == nil {
			kinds = append(kinds, "docker")
		}
	}
	if _, err := localmysql.Find(); err == nil {
		kinds = append(kinds, "private")
	}
	return kinds
})

// requirePrivate returns those ways, of which there must be one.
func requirePrivate(t *testing.T) []string {
	t.Helper()
	kinds := privateKinds()
	if len(kinds) == 0 {
		t.Fatal("there is no Docker with an image, and neither mysqld nor mariadbd is installed " +
			"(Debian, Ubuntu: apt-get install mariadb-server-core)")
	}
	return kinds
}

// onPrivateServers runs the test on a container of its own, and on a private server from a program
// of this machine.
func onPrivateServers(t *testing.T, test func(t *testing.T, s *private)) {
	t.Parallel()
	for _, kind := range requirePrivate(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, startPrivate(t, kind))
		})
	}
}

func startPrivate(t *testing.T, kind string) (p *private) {
	t.Helper()
	if kind == "docker" {
		p = inContainer(t)
	} else {
		p = onThisMachine(t, nil)
	}
	neverBlockHosts(t, p.server)
	return p
}

// neverBlockHosts has the server not count connections whose client left before it was let in, as
// many do in an outage: after a hundred in a row it lets nobody in from that host (1129), until an
// operator has it forget them.
func neverBlockHosts(t *testing.T, s *server) {
	t.Helper()
	execute(t, s.admin, "SET GLOBAL max_connect_errors = 1000000000")
}

// setReadOnly has the server refuse writes, or take them. MariaDB goes on taking an
// administrator's.
func setReadOnly(t *testing.T, s *server, on bool) {
	t.Helper()
	statement := "SET GLOBAL read_only = 0"
	switch {
	case on && s.mariadb:
		statement = "SET GLOBAL read_only = 1"
	case on:
		statement = "SET GLOBAL super_read_only = 1"
	}
	execute(t, s.admin, statement)
}

func onThisMachine(t *testing.T, opts *localmysql.Options) *private {
	t.Helper()
	s, err := localmysql.Start(context.Background(), opts)
	must(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	do := func(what func() error) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			must(t, what())
		}
	}
	p := &private{server: connect(t, s.DSN(""))}
	p.reach = p.config.Addr
	p.kill = func(*testing.T) { s.Kill() }
	p.restart = do(func() error { return s.Restart(context.Background()) })
	p.silence, p.resume = do(s.Freeze), do(s.Thaw)
	return p
}

var starting sync.Mutex

// startAlone starts one container after the other: several at once have a slow disk's machine take
// minutes.
func startAlone() (*container, error) {
	starting.Lock()
	defer starting.Unlock()
	return startContainer()
}

// inContainer starts a container behind a forwarder, whose port stays: the container gets another
// one when it is started again.
func inContainer(t *testing.T) *private {
	t.Helper()
	c, err := startAlone()
	must(t, err)
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := docker.Command(args...)
		must(t, err)
		return out
	}
	config := connect(t, c.dsn).config.Clone()
	host, _, err := net.SplitHostPort(config.Addr)
	must(t, err)
	f := forwardTo(t, config.Addr)
	config.Addr = f.Addr()
	p := &private{server: connect(t, config.FormatDSN()), container: c.id}
	const address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
	p.reach = net.JoinHostPort(run(t, "inspect", "--format", address, c.id), "3306")
	p.kill = func(t *testing.T) { run(t, "kill", c.id) }
	p.restart = func(t *testing.T) {
		run(t, "start", c.id)
		published, _, _ := strings.Cut(run(t, "port", c.id, "3306/tcp"), "\n")
		_, port, err := net.SplitHostPort(published)
		must(t, err)
		f.To(net.JoinHostPort(host, port))
		eventually(t, "the server to answer again", func() bool { return p.answers(time.Second) })
	}
	// Signals, since a pause of the container takes its time under load.
	p.silence = func(t *testing.T) { run(t, "kill", "--signal", "STOP", c.id) }
	p.resume = func(t *testing.T) { run(t, "kill", "--signal", "CONT", c.id) }
	return p
}

// answers reports whether the server answers within that time.
func (p *private) answers(within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := p.admin.ExecContext(ctx, "DO 1")
	return err == nil
}

// forwardTo starts a forwarder to that address.
func forwardTo(t *testing.T, target string) *forward.Forwarder {
	t.Helper()
	f, err := forward.Start(target)
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

func connect(t *testing.T, dsn string) *server {
	t.Helper()
	s, err := newServer(dsn)
	must(t, err)
	t.Cleanup(func() { _ = s.admin.Close() })
	return s
}
