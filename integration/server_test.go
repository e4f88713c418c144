package integration_test

import (
	"cmp"
	"crypto/rand"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/migrations"
)

// interpolated is the DSN parameter under which every statement is one packet with its values in
// it.
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

// isolation is the DSN parameter of a session's isolation level.
func (s *server) isolation(level string) string {
	if s.mariadb {
		return "tx_isolation=%27" + level + "%27"
	}
	return "transaction_isolation=%27" + level + "%27"
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
	return openFor(t, s.configFor(t, database, params))
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

// store makes a database with the credentials table and returns a store on a pool with those
// parameters.
func (s *server) store(t testing.TB, params string) (*latchkey.Store, *sql.DB) {
	t.Helper()
	db := s.open(t, s.migrated(t), params)
	return newStore(t, db), db
}

func newStore(t testing.TB, db *sql.DB) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(db, nil)
	must(t, err)
	return store
}

func storeWith(t testing.TB, db *sql.DB, opts latchkey.Options) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(db, &opts)
	must(t, err)
	return store
}

func migrate(t testing.TB, db *sql.DB, opts *migrations.Options) {
	t.Helper()
	if _, err := migrations.Up(bounded(t), db, opts); err != nil {
		t.Fatalf("migrate: %v", err)
	}
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

// row is a row that a statement found, by column. NULL is nil.
type row map[string]*string

// text is the column's value, or nothing for NULL.
func (r row) text(column string) string {
	if r[column] == nil {
		return ""
	}
	return *r[column]
}

func (r row) String() string {
	var columns []string
	for _, column := range slices.Sorted(maps.Keys(r)) {
		columns = append(columns, column+": "+r.text(column))
	}
	return strings.Join(columns, ", ")
}

// rowsOf returns the rows that the statement finds.
func rowsOf(t testing.TB, db *sql.DB, statement string, args ...any) (found []row) {
	t.Helper()
	rows, err := db.QueryContext(bounded(t), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	must(t, err)
	for rows.Next() {
		values, targets := make([]*string, len(names)), make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		must(t, rows.Scan(targets...))
		r := make(row)
		for i, name := range names {
			r[name] = values[i]
		}
		found = append(found, r)
	}
	must(t, rows.Err())
	return found
}

// createUser makes an account, which GRANT gives those privileges.
func (s *server) createUser(t testing.TB, user, password, privileges string) {
	t.Helper()
	name := "'" + user + "'@'%'"
	execute(t, s.admin, "CREATE USER "+name+" IDENTIFIED BY '"+password+"'")
	execute(t, s.admin, "GRANT "+privileges+" TO "+name)
}

// openAs returns a pool of that account.
func (s *server) openAs(t testing.TB, database, user, password string) *sql.DB {
	t.Helper()
	config := s.configFor(t, database, interpolated)
	config.User, config.Passwd = user, password
	return openFor(t, config)
}

// openFor returns a pool, which is closed when the test has ended.
func openFor(t testing.TB, config *mysql.Config) *sql.DB {
	db := open(config)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// newRow is a row to be inserted. Its due time is SQL; empty: never.
type newRow struct{ service, account, refreshToken, due string }

// insertRows inserts n rows without access token.
func insertRows(t testing.TB, db *sql.DB, n int, make func(i int) newRow) {
	t.Helper()
	for first := 0; first < n; first += 1000 {
		var values []string
		for i := first; i < min(n, first+1000); i++ {
			r := make(i)
			values = append(values,
				fmt.Sprintf("('%s', '%s', '%s', %s, '', '{}', UTC_TIMESTAMP(6))",
					r.service, r.account, r.refreshToken, cmp.Or(r.due, "NULL")))
		}
		execute(t, db,
			"INSERT INTO credentials (service_name, account_name, refresh_token, due_at, "+
				"access_token, extra, created_at) VALUES "+strings.Join(values, ", "))
	}
	execute(t, db, "ANALYZE TABLE credentials")
}

// questions is the number of statements that the server has got, this one included, from all or
// from this session alone.
func questions(t testing.TB, db *sql.DB, scope string) int {
	t.Helper()
	n, err := strconv.Atoi(rowsOf(t, db, "SHOW "+scope+" STATUS LIKE 'Questions'")[0].text("Value"))
	must(t, err)
	return n
}
