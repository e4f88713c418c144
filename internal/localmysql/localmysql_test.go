//go:build unix

package localmysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/localmysql"
)

func TestServer(t *testing.T) {
	server := start(t, nil)
	db := open(t, server)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, server *localmysql.Server, db *sql.DB)
	}{
		{"settings", testSettings},
		{"DSN", testDSN},
		{"no account without the password", testNoOtherAccount},
		{"another server beside it", testAnotherServer},
		{"process group of its own", testProcessGroup},
		{"Restart keeps what was committed", testRestart},
		{"Kill, then Restart", testKill},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, server, db) })
	}
}

func testSettings(t *testing.T, _ *localmysql.Server, db *sql.DB) {
	for _, test := range []struct{ variable, want string }{
		{"innodb_flush_log_at_trx_commit", "1"},
		{"sync_binlog", "1"},
		{"log_bin", "1"},
		{"innodb_doublewrite", "on"},
		{"bind_address", "127.0.0.1"},
	} {
		got := strings.ToLower(queryString(t, db, "SELECT @@"+test.variable))
		if test.want == "on" && got == "1" { // MariaDB's word for it
			got = "on"
		}
		if got != test.want {
			t.Errorf("%s = %q, want %q", test.variable, got, test.want)
		}
	}
}

func testDSN(t *testing.T, server *localmysql.Server, db *sql.DB) {
	exec1(t, db, "CREATE DATABASE chosen")
	cfg, err := mysql.ParseDSN(server.DSN("chosen"))
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.InterpolateParams {
		t.Error("InterpolateParams is off")
	}
	if got, want := queryString(t, openDSN(t, server.DSN("chosen")), "SELECT DATABASE()"), "chosen"; got != want {
		t.Errorf("DATABASE() = %q, want %q", got, want)
	}
}

func testNoOtherAccount(t *testing.T, server *localmysql.Server, _ *sql.DB) {
	for _, user := range []string{"root", "", "mariadb.sys", "mysql.sys"} {
		cfg, err := mysql.ParseDSN(server.DSN(""))
		if err != nil {
			t.Fatal(err)
		}
		cfg.User, cfg.Passwd = user, ""
		err = openDSN(t, cfg.FormatDSN()).Ping()
		var refused *mysql.MySQLError
		if !errors.As(err, &refused) {
			t.Errorf("user %q: %v, want the server's refusal", user, err)
		}
	}
}

func testAnotherServer(t *testing.T, _ *localmysql.Server, db *sql.DB) {
	other := start(t, nil)
	if got, not := dataDir(t, open(t, other)), dataDir(t, db); got == not {
		t.Errorf("both servers have their data in %s", got)
	}
}

func testProcessGroup(t *testing.T, server *localmysql.Server, db *sql.DB) {
	text, err := os.ReadFile(queryString(t, db, "SELECT @@pid_file"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	group, err := syscall.Getpgid(pid)
	if err != nil {
		t.Fatal(err)
	}
	if own := syscall.Getpgrp(); group == own {
		t.Errorf("the server is in the test's own process group %d", own)
	}
}

func testRestart(t *testing.T, server *localmysql.Server, db *sql.DB) {
	exec1(t, db, "CREATE TABLE chosen.kept (word VARCHAR(20))")
	exec1(t, db, "INSERT INTO chosen.kept VALUES ('still here')")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO chosen.kept VALUES ('uncommitted')"); err != nil {
		t.Fatal(err)
	}
	before, dsn := queryString(t, db, "SELECT @@pid_file"), server.DSN("")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err == nil {
		t.Error("a connection survived the restart")
	}
	if got := server.DSN(""); got != dsn {
		t.Errorf("DSN changed from %s to %s", dsn, got)
	}
	if got := queryString(t, db, "SELECT @@pid_file"); got != before {
		t.Errorf("another server answers: %s, want %s", got, before)
	}
	if got, want := queryString(t, db, "SELECT GROUP_CONCAT(word) FROM chosen.kept"), "still here"; got != want {
		t.Errorf("rows after the restart: %q, want %q", got, want)
	}
}

func testKill(t *testing.T, server *localmysql.Server, db *sql.DB) {
	server.Kill()
	server.Kill()
	if err := db.Ping(); err == nil {
		t.Error("the server answers after Kill")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(); err != nil {
		t.Error(err)
	}
}

func TestFreeze(t *testing.T) {
	server := start(t, nil)
	db := open(t, server)
	id := queryString(t, db, "SELECT CONNECTION_ID()")
	for range 2 {
		if err := server.Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	answered := make(chan error, 1)
	var now string
	go func() { answered <- db.QueryRow("SELECT CONNECTION_ID()").Scan(&now) }()
	select {
	case err := <-answered:
		t.Fatalf("a frozen server answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil || now != id {
		t.Errorf("connection %q, %v after the thaw; want the one from before, %q", now, err, id)
	}

	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	queryString(t, db, "SELECT 1")
	server.Kill()
	if err := errors.Join(server.Freeze(), server.Thaw()); err != nil {
		t.Errorf("Freeze and Thaw of a server that is not running: %v", err)
	}
}

func TestStop(t *testing.T) {
	parent := t.TempDir()
	server := start(t, &localmysql.Options{Dir: parent})
	db := open(t, server)
	if got := dataDir(t, db); !strings.HasPrefix(got, resolved(t, parent)) {
		t.Fatalf("data in %s, want it below %s", got, parent)
	}
	for range 2 {
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Ping(); err == nil {
		t.Error("the server answers after Stop")
	}
	wantEmpty(t, parent)
	if err := server.Restart(t.Context()); !errors.Is(err, localmysql.ErrStopped) {
		t.Errorf("Restart after Stop: %v, want ErrStopped", err)
	}
}

func TestStartFails(t *testing.T) {
	requireServer(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		opts localmysql.Options
		want string // in the message
		is   error
	}{
		{name: "the log's tail is in the error", ctx: t.Context(),
			opts: localmysql.Options{Args: []string{"--no-such-option"}}, want: "no-such-option"},
		{name: "cancelled", ctx: cancelled, is: context.Canceled},
		{name: "not a program", ctx: t.Context(),
			opts: localmysql.Options{Program: "/nowhere/mysqld"}, want: "/nowhere/mysqld", is: os.ErrNotExist},
		{name: "not a server", ctx: t.Context(),
			opts: localmysql.Options{Program: "/bin/true"}, want: "/bin/true did not start"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opts.Dir = t.TempDir()
			server, err := localmysql.Start(test.ctx, &test.opts)
			if err == nil {
				_ = server.Stop()
				t.Fatal("Start succeeded")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q in it", err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %q, want one that is %q", err, test.is)
			}
			wantEmpty(t, test.opts.Dir)
		})
	}
}

func TestPortTaken(t *testing.T) {
	requireServer(t)
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	var choose func() (int, error)
	attempts := 0
	choose, restore := localmysql.SetFreePort(func() (int, error) {
		if attempts++; attempts == 1 {
			return taken.Addr().(*net.TCPAddr).Port, nil
		}
		return choose()
	})
	t.Cleanup(restore)

	server := start(t, nil)
	if attempts != 2 {
		t.Errorf("%d ports were tried, want 2", attempts)
	}

	server.Kill()
	cfg, err := mysql.ParseDSN(server.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp4", cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	err = server.Restart(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Bind on TCP/IP port") {
		t.Errorf("Restart on a port that is taken: %v, want the server's words", err)
	}
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Errorf("Restart on the same port when it is free again: %v", err)
	}
}
