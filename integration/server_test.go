package integration_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/migrations"
)

// patience bounds everything that is waited for.
const patience = 30 * time.Second

// interpolated is the DSN parameter under which every statement is one packet with its values in it.
const interpolated = "interpolateParams=true"

// server is a server on which tests make databases.
type server struct {
	version string // such as "MySQL 9.7.4"
	mariadb bool
	config  *mysql.Config // names no database
	admin   *sql.DB
}

func (s *server) product() string {
	product, _, _ := strings.Cut(s.version, " ")
	return product
}

// onServers runs the test on every server, at the same time.
func onServers(t *testing.T, test func(t *testing.T, s *server)) {
	t.Parallel()
	for _, s := range servers {
		t.Run(s.product(), func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// open returns a pool that may keep as many idle connections as the tests have goroutines.
func open(config *mysql.Config) *sql.DB {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		panic(err) // a configuration that a DSN gave is valid
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(64)
	return db
}

// dsn is the server's DSN for that database, with more parameters.
func (s *server) dsn(database, params string) string {
	config := s.config.Clone()
	config.DBName = database
	dsn := config.FormatDSN()
	switch {
	case params == "":
		return dsn
	case strings.Contains(dsn, "?"):
		return dsn + "&" + params
	}
	return dsn + "?" + params
}

// configFor is what a host makes of that DSN.
func (s *server) configFor(t testing.TB, database, params string) *mysql.Config {
	t.Helper()
	config, err := mysql.ParseDSN(s.dsn(database, params))
	if err != nil {
		t.Fatalf("DSN with %q: %v", params, err)
	}
	config.Logger = &mysql.NopLogger{} // connections are cut on purpose
	return config
}

// open returns a pool of its own for the test, on that database.
func (s *server) open(t testing.TB, database, params string) *sql.DB {
	t.Helper()
	db := open(s.configFor(t, database, params))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// database makes an empty database for the test.
func (s *server) database(t testing.TB) string {
	t.Helper()
	name := "latchkey_test_" + strings.ToLower(rand.Text()[:10])
	execute(t, s.admin, "CREATE DATABASE `"+name+"`")
	t.Cleanup(func() { execute(t, s.admin, "DROP DATABASE `"+name+"`") })
	return name
}

// migrated makes a database with the credentials table in it.
func (s *server) migrated(t testing.TB) string {
	t.Helper()
	database := s.database(t)
	migrate(t, s.open(t, database, ""), nil)
	return database
}

// store makes a database with the credentials table and returns a store on a pool with those parameters.
func (s *server) store(t testing.TB, params string) (*latchkey.Store, *sql.DB) {
	t.Helper()
	db := s.open(t, s.migrated(t), params)
	return newStore(t, db), db
}

func newStore(t testing.TB, db *sql.DB) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func migrate(t testing.TB, db *sql.DB, opts *migrations.Options) {
	t.Helper()
	if _, err := migrations.Up(bounded(t), db, opts); err != nil {
		t.Fatalf("migrate: %v", err)
	}
}

// bounded is a context in which whatever the test does has to end. It is not the test's own, which has ended when
// cleanups run.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func execute(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(bounded(t), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// query scans the one row that the statement finds.
func query[T any](t testing.TB, db *sql.DB, statement string, args ...any) (value T) {
	t.Helper()
	if err := db.QueryRowContext(bounded(t), statement, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
	return value
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// alice is the credential that tests use which need but one.
var alice = credentials.Key{Service: "github", Account: "alice"}

// seed puts a refresh token without access token, which is due at once.
func seed(t testing.TB, store *latchkey.Store, key credentials.Key) {
	t.Helper()
	put(t, store, key, credentials.Grant{RefreshToken: credentials.NewSecret("seed")})
}

func put(t testing.TB, store *latchkey.Store, key credentials.Key, grant credentials.Grant) {
	t.Helper()
	if err := store.Put(bounded(t), key, grant); err != nil {
		t.Fatalf("Put(%v): %v", key, err)
	}
}

func get(t testing.TB, store *latchkey.Store, key credentials.Key) credentials.Credential {
	t.Helper()
	c, err := store.Get(bounded(t), key)
	if err != nil {
		t.Fatalf("Get(%v): %v", key, err)
	}
	return c
}

// claimOf is a claim with a name of its own.
func claimOf(holder string) credentials.Claim {
	return credentials.Claim{ID: rand.Text(), Holder: holder, Lease: time.Minute}
}

// claim makes a claim that must succeed.
func claim(t testing.TB, store *latchkey.Store, key credentials.Key) credentials.Credential {
	t.Helper()
	asked := claimOf("holder")
	c, err := store.Claim(bounded(t), key, asked)
	if err != nil {
		t.Fatalf("Claim(%v): %v", key, err)
	}
	if c.Lease.ID != asked.ID {
		t.Fatalf("Claim(%v): not made; the lease is %+v", key, c.Lease)
	}
	return c
}

// renewal is a provider's answer with that access token.
func renewal(token string) credentials.Renewal {
	return credentials.Renewal{
		Grant: credentials.Grant{
			Token:           credentials.NewSecret(token),
			RefreshToken:    credentials.NewSecret(token + "'s refresh token"),
			Lifetime:        time.Hour,
			RefreshLifetime: credentials.Never,
		},
		By:    "holder",
		DueIn: 50 * time.Minute,
		Took:  10 * time.Millisecond,
	}
}

// failure is a provider's refusal.
func failure() credentials.Failure {
	return credentials.Failure{Class: credentials.Transient, Code: "temporarily_unavailable", RetryIn: time.Minute}
}

// idle fails the test unless all of the pool's connections are given back soon.
func idle(t testing.TB, db *sql.DB) {
	t.Helper()
	eventually(t, "all connections to be back in the pool", func() bool { return db.Stats().InUse == 0 })
}
