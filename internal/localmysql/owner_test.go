//go:build unix

package localmysql_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/localmysql"
)

// helperVariable makes this test binary a program that owns a server; its value says how the
// program ends.
const helperVariable = "LATCHKEY_LOCALMYSQL_HELPER"

func TestMain(m *testing.M) {
	if end := os.Getenv(helperVariable); end != "" {
		ownServer(end)
	}
	os.Exit(m.Run())
}

// ownServer starts a server, reports where it is, and then ends without having stopped it.
func ownServer(end string) {
	server, err := localmysql.Start(context.Background(), nil)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(server.DSN(""))
	if end == "exit" {
		os.Exit(3)
	}
	select {}
}

func TestOwnerEnds(t *testing.T) {
	requireServer(t)
	for _, test := range []struct {
		name, end string
		signal    syscall.Signal
	}{
		{name: "exit without Stop", end: "exit"},
		{name: "interrupted", end: "wait", signal: syscall.SIGINT},
		{name: "terminated", end: "wait", signal: syscall.SIGTERM},
		{name: "killed", end: "wait", signal: syscall.SIGKILL},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.signal == syscall.SIGINT && signal.Ignored(test.signal) {
				test.signal = syscall.SIGTERM // in a script's background, the owner ignores the other
			}
			parent := t.TempDir()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			owner := exec.CommandContext(t.Context(), self)
			owner.Env = append(os.Environ(), helperVariable+"="+test.end, "TMPDIR="+parent)
			owner.Stderr = os.Stderr
			out, err := owner.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := owner.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := mysql.ParseDSN(strings.TrimSpace(line))
			if err != nil {
				t.Fatalf("the owner says %q: %v", line, err)
			}
			if test.signal != 0 {
				if err := openDSN(t, cfg.FormatDSN()).Ping(); err != nil {
					t.Fatalf("the server does not answer while its owner lives: %v", err)
				}
				if err := owner.Process.Signal(test.signal); err != nil {
					t.Fatal(err)
				}
			}
			if err := owner.Wait(); err == nil {
				t.Fatal("the owner ended as if nothing had happened")
			}

			eventually(t, "the server's folder is gone", func() bool { return len(entries(t, parent)) == 0 })
			eventually(t, "the server is gone", func() bool {
				conn, err := net.Dial(cfg.Net, cfg.Addr)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
		})
	}
}
