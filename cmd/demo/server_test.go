package main

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/localmysql"
)

// While a container starts, docker's proxy accepts connections and hangs up.
func TestWaitsForTheComposeServer(t *testing.T) {
	useServer(t, "latchkey")
	db, err := connect(t.Context(), private.server.DSN("latchkey"), "")
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	for _, statement := range []string{
		"CREATE USER IF NOT EXISTS latchkey@localhost IDENTIFIED BY 'latchkey'",
		"CREATE USER IF NOT EXISTS latchkey@'127.0.0.1' IDENTIFIED BY 'latchkey'",
		"GRANT ALL ON latchkey.* TO latchkey@localhost",
		"GRANT ALL ON latchkey.* TO latchkey@'127.0.0.1'",
	} {
		_, err := db.db.ExecContext(t.Context(), statement)
		must(t, err)
	}
	cfg, err := mysql.ParseDSN(private.server.DSN(""))
	must(t, err)

	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	const refusals = 4 // the probe's, and some attempts
	var accepted atomic.Int32
	go func() {
		for {
			client, err := proxy.Accept()
			if err != nil {
				return
			}
			if accepted.Add(1) <= refusals {
				_ = client.Close()
				continue
			}
			go forward(client, cfg.Addr)
		}
	}()
	_, port, err := net.SplitHostPort(proxy.Addr().String())
	must(t, err)
	useNoServer(t, port)

	r := demo(t, "", "migrate", "up")
	r.ends(0).says("waiting for the server at 127.0.0.1:"+port, "(docker)")
	if got := accepted.Load(); got <= refusals {
		t.Errorf("%d connections were tried, want more than %d", got, refusals)
	}
}

// A foreign server is not the one to wait for, and no credentials are put into it.
func TestForeignServerOnTheComposePort(t *testing.T) {
	foreign, err := localmysql.Start(t.Context(), nil) // knows no user latchkey
	must(t, err)
	t.Cleanup(func() { _ = foreign.Stop() })
	cfg, err := mysql.ParseDSN(foreign.DSN(""))
	must(t, err)
	_, port, err := net.SplitHostPort(cfg.Addr)
	must(t, err)
	useNoServer(t, port)
	demo(t, "", "list").ends(exitFailed).says("is not the server of docker-compose.yml")
}

func TestStormStartsAPrivateServer(t *testing.T) {
	useNoServer(t, "1")
	got := ok(t, "", "storm", "--latency", "20ms", "--processes", "2")
	if server := got["server"].(string); got["ok"] != true || !strings.HasSuffix(server, "(private)") {
		t.Errorf("storm on %s: %v", server, got)
	}
}

func forward(client net.Conn, addr string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	_, _ = io.Copy(client, server)
}
