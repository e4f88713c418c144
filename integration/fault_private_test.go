//go:build unix

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/localmysql"
)

// private is a server that a test has for itself: it may kill it and change its settings.
type private struct {
	*server

	kill, restart   func(t *testing.T) // restart returns when the server answers again
	silence, resume func(t *testing.T) // a silent server answers nothing, and its connections stay
}

// answers reports whether the server answers within that time.
func (p *private) answers(within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := p.admin.ExecContext(ctx, "DO 1")
	return err == nil
}

// onPrivateServers runs the test on a container of its own, and on a private server from a program of this machine.
func onPrivateServers(t *testing.T, test func(t *testing.T, s *private)) {
	t.Parallel()
	started := 0
	if _, err := exec.LookPath("docker"); err == nil && os.Getenv("TEST_MYSQL_DSN") == "" {
		container, err := startContainer()
		var absent *dockerAbsent
		if err == nil {
			t.Cleanup(func() {
				if err := container.stop(); err != nil {
					t.Error(err)
				}
			})
			id, err := findContainer(t, container)
			if err != nil {
				t.Logf("without Docker, whose command does not reach the container: %v", err)
			} else {
				started++
				t.Run("docker", func(t *testing.T) {
					t.Parallel()
					test(t, inContainer(t, container, id))
				})
			}
		} else if !errors.As(err, &absent) {
			t.Fatal(err)
		}
	}
	if _, err := localmysql.Find(); err == nil {
		started++
		t.Run("private", func(t *testing.T) {
			t.Parallel()
			test(t, onThisMachine(t))
		})
	}
	if started == 0 {
		t.Fatal("there is no Docker, and neither mysqld nor mariadbd is installed (Debian, Ubuntu: apt-get install mariadb-server-core)")
	}
}

func onThisMachine(t *testing.T) *private {
	t.Helper()
	s, err := localmysql.Start(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	p := &private{server: connect(t, s.DSN(""))}
	pid := 0
	p.kill = func(*testing.T) { s.Kill() }
	p.restart = func(t *testing.T) {
		if err := s.Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	signal := func(t *testing.T, signal syscall.Signal) {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatalf("%v to the server: %v", signal, err)
		}
	}
	p.silence = func(t *testing.T) {
		text, err := os.ReadFile(query[string](t, p.admin, "SELECT @@pid_file"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(text), &pid); err != nil {
			t.Fatal(err)
		}
		signal(t, syscall.SIGSTOP)
		// One of its threads gets the signal, and stops the others when it runs.
		eventually(t, "the server to be silent", func() bool { return !p.answers(time.Second) })
	}
	p.resume = func(t *testing.T) { signal(t, syscall.SIGCONT) }
	return p
}

// findContainer returns the id of the container that has the DSN's port.
func findContainer(t *testing.T, c *container) (id string, err error) {
	t.Helper()
	config, err := mysql.ParseDSN(c.dsn)
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(config.Addr)
	if err != nil {
		return "", err
	}
	id, err = docker("ps", "--quiet", "--no-trunc", "--filter", "publish="+port)
	if err == nil && len(strings.Fields(id)) != 1 {
		err = fmt.Errorf("docker ps finds %q", id)
	}
	return id, err
}

// inContainer puts a relay, whose port stays, before the container, which gets another port when it is started again.
func inContainer(t *testing.T, c *container, id string) *private {
	t.Helper()
	config := connect(t, c.dsn).config.Clone()
	host, _, err := net.SplitHostPort(config.Addr)
	if err != nil {
		t.Fatal(err)
	}
	must := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := docker(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	relay := startRelay(t, config.Addr)
	config.Addr = relay.listener.Addr().String()
	p := &private{server: connect(t, config.FormatDSN())}
	p.kill = func(t *testing.T) { must(t, "kill", id) }
	p.restart = func(t *testing.T) {
		must(t, "start", id)
		published, _, _ := strings.Cut(must(t, "port", id, "3306/tcp"), "\n")
		_, port, err := net.SplitHostPort(published)
		if err != nil {
			t.Fatal(err)
		}
		relay.to(net.JoinHostPort(host, port))
		eventually(t, "the server to answer again", func() bool { return p.answers(time.Second) })
	}
	p.silence = func(t *testing.T) { must(t, "pause", id) }
	p.resume = func(t *testing.T) { must(t, "unpause", id) }
	return p
}

// docker returns what the command says.
func docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func connect(t *testing.T, dsn string) *server {
	t.Helper()
	s, err := newServer(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.admin.Close() })
	return s
}

// relay passes on what comes to its port.
type relay struct {
	listener net.Listener
	target   atomic.Value // string
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	r := &relay{listener: listener}
	r.to(target)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.pass(conn)
		}
	}()
	return r
}

func (r *relay) to(target string) { r.target.Store(target) }

func (r *relay) pass(from net.Conn) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("tcp", r.target.Load().(string))
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
}
