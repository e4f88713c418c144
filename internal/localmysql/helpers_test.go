//go:build unix

package localmysql_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/localmysql"
)

func requireServer(t *testing.T) {
	t.Helper()
	if _, err := localmysql.Find(); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, opts *localmysql.Options) *localmysql.Server {
	t.Helper()
	requireServer(t)
	server, err := localmysql.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func open(t *testing.T, server *localmysql.Server) *sql.DB {
	t.Helper()
	return openDSN(t, server.DSN(""))
}

func openDSN(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = &mysql.NopLogger{} // connections are cut on purpose
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func queryString(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var value string
	if err := db.QueryRow(query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func exec1(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func dataDir(t *testing.T, db *sql.DB) string {
	t.Helper()
	return queryString(t, db, "SELECT @@datadir")
}

func resolved(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if list := entries(t, dir); len(list) != 0 {
		t.Errorf("left behind in %s: %v", dir, list)
	}
}

// eventually waits for what another process does after the test has lost sight of it.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 20 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
