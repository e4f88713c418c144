package integration_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/migrations"
)

// TestCheckFindsReadOnly: Check finds a session whose transactions are read-only, as each of a
// read-only server is. (Such a server would disturb the other tests: TestCheckFindsReadOnlyServer.)
func TestCheckFindsReadOnly(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		variable := "transaction_read_only"
		if s.mariadb {
			variable = "tx_read_only"
		}
		store := newStore(t, s.open(t, s.migrated(t), variable+"=1"))
		if err := store.Check(bounded(t)); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("Check: got error %v, want one that names %s", err, variable)
		}
	})
}

// TestCheckFindsReadOnlyServer: Check finds a read-only server for root too, who could write there
// on MariaDB.
func TestCheckFindsReadOnlyServer(t *testing.T) {
	onPrivateServers(t, func(t *testing.T, s *private) {
		database := s.migrated(t)
		store := newStore(t, s.open(t, database, ""))
		if err := store.Check(bounded(t)); err != nil {
			t.Fatalf("Check: %v", err)
		}
		execute(t, s.admin, "SET GLOBAL read_only = 1")
		err := store.Check(bounded(t))
		if !errors.Is(err, credentials.ErrUnavailable) ||
			!strings.Contains(err.Error(), "read_only = ON") {
			t.Errorf("Check: got error %v, want ErrUnavailable that names read_only", err)
		}
		execute(t, s.admin, "SET GLOBAL read_only = 0")
	})
}

// TestCheckFindsMissingPrivileges: Check finds an account with less than SELECT, UPDATE and the
// privileges that it is asked for, and writes nothing to find out.
func TestCheckFindsMissingPrivileges(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "")
		seed(t, newStore(t, db), alice)
		before := get(t, newStore(t, db), alice)
		all := []latchkey.Privilege{latchkey.Insert, latchkey.Delete}
		for _, test := range []struct {
			grant, want string
			asked       []latchkey.Privilege
		}{
			{"SELECT", "may not UPDATE, INSERT, DELETE in table", all},
			{"SELECT, UPDATE, INSERT", "may not DELETE in table", all},
			{"SELECT, UPDATE", "may not INSERT, DELETE in table", all},
			{"SELECT, UPDATE", "may not INSERT in table", all[:1]},
			{"SELECT", "may not UPDATE in table", nil},
			{"INSERT, UPDATE, DELETE", "privilege", nil},
			{"SELECT, UPDATE", "there is no privilege", []latchkey.Privilege{"insert"}},
			{"SELECT, UPDATE", "", nil},
			{"SELECT, INSERT, UPDATE, DELETE", "", all},
		} {
			user := "check_" + strings.ToLower(rand.Text()[:10])
			execute(t, s.admin, "CREATE USER '"+user+"'@'%' IDENTIFIED BY 'pw'")
			t.Cleanup(func() { execute(t, s.admin, "DROP USER '"+user+"'@'%'") })
			execute(t, s.admin, "GRANT "+test.grant+" ON `"+database+"`.* TO '"+user+"'@'%'")
			config := s.configFor(t, database, "")
			config.User, config.Passwd = user, "pw"
			pool := open(config)
			t.Cleanup(func() { _ = pool.Close() })
			err := newStore(t, pool).Check(bounded(t), test.asked...)
			if test.want == "" && err != nil || test.want != "" &&
				(err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Check with %s: got error %v, want one with %q",
					test.grant, err, test.want)
			}
		}
		equal(t, "Version", get(t, newStore(t, db), alice).Version, before.Version)
	})
}

// TestServerThatLogsStatements (1665): READ COMMITTED cannot write under binlog_format=STATEMENT.
// Everything that concerns one credential works, whatever the session's own level is; a batch does
// not, and Check says so.
func TestServerThatLogsStatements(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		if query[int](t, s.admin, "SELECT @@log_bin") == 0 {
			t.Fatal("the server logs nothing; this test tests nothing")
		}
		database := s.migrated(t)
		others := newStore(t, s.open(t, database, ""))
		for _, level := range []string{"REPEATABLE-READ", "READ-COMMITTED"} {
			db := s.open(t, database, "binlog_format=STATEMENT&"+s.isolation(level))
			failsWith(t, "Check", newStore(t, db).Check(bounded(t)), "ROW or MIXED")
			for _, change := range changes {
				what := change.name + " of a session whose level is " + level
				err := change.call(bounded(t), newStore(t, db), change.prepare(t, others))
				if change.name == "ClaimDue" {
					failsWith(t, what, err, "1665")
					failsWith(t, what, err, "binlog_format")
					continue
				}
				succeeds(t, what, err)
				c, err := others.Get(bounded(t), alice)
				equal(t, what+" is seen by others", change.seen(c, err), true)
			}
		}
	})
}

// TestOddTableNames: the store quotes every table name that a server takes.
func TestOddTableNames(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, name := range []string{"acme-tokens.2", "acme tokens", "a`b", "a%b'c\"d"} {
			for _, params := range []string{"", interpolated} {
				db := s.open(t, s.migrated(t), params)
				execute(t, db, "RENAME TABLE credentials TO `"+strings.ReplaceAll(name, "`", "``")+"`")
				store, err := latchkey.NewStore(db, &latchkey.Options{Table: name})
				must(t, err)
				everything(t, store)
			}
		}
	})
}

// TestTableInAnotherDatabase: a store may work on a table of another database than its pool's, and
// of a pool that has none.
func TestTableInAnotherDatabase(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		for _, own := range []string{"", s.database(t)} {
			store := storeWith(t, s.open(t, own, ""), latchkey.Options{Database: database})
			must(t, store.Check(bounded(t)))
			everything(t, store)
		}
		elsewhere := storeWith(t, s.open(t, "", ""), latchkey.Options{Database: s.database(t)})
		failsAs(t, "Check in a database without the table", elsewhere.Check(bounded(t)), credentials.ErrSchema)
	})
}

// TestWrongServer: a mistake in the host's DSN or server gives one clear error, in bounded time and
// without the password.
func TestWrongServer(t *testing.T) {
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	// Its connections are accepted by the kernel and by nobody else.
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })

	onServers(t, func(t *testing.T, s *server) {
		for _, test := range []struct {
			name   string
			change func(c *mysql.Config)
			want   error
			text   string
		}{
			{"a wrong password", func(c *mysql.Config) { c.Passwd = "not-the-password" },
				credentials.ErrUnavailable, "ccess denied"},
			{"an unknown user", func(c *mysql.Config) {
				c.User, c.Passwd = "nobody", "not-the-password"
			}, credentials.ErrUnavailable, "ccess denied"},
			{"no such database", func(c *mysql.Config) { c.DBName = "latchkey_none" }, nil, "atabase"},
			{"nobody listens", func(c *mysql.Config) { c.Addr = closed.Addr().String() },
				credentials.ErrUnavailable, "connection refused"},
			{"nobody answers", func(c *mysql.Config) { c.Addr = silent.Addr().String() },
				credentials.ErrUnavailable, "deadline exceeded"},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				config := s.configFor(t, "", interpolated)
				test.change(config)
				db := openFor(t, config)
				for name, call := range connecting(db, newStore(t, db)) {
					limit := 5 * time.Second
					if test.name == "nobody answers" {
						limit = 300 * time.Millisecond
					}
					ctx, cancel := context.WithTimeout(bounded(t), limit)
					began := time.Now()
					err := call(ctx)
					cancel()
					if took := time.Since(began); took > 8*time.Second {
						t.Errorf("%s: took %v", name, took)
					}
					switch {
					case err == nil:
						t.Errorf("%s: got no error", name)
					case name != "Up" && test.want != nil && !errors.Is(err, test.want):
						t.Errorf("%s: got error %v, want %v", name, err, test.want)
					case !strings.Contains(err.Error(), test.text):
						t.Errorf("%s: got error %v, want one with %q", name, err, test.text)
					case strings.Contains(err.Error(), "not-the-password"):
						t.Errorf("%s: the error has the password in it: %v", name, err)
					}
				}
				idle(t, db)
			})
		}
	})
}

// TestNoDatabase (1046): a DSN without a database is not taken for a table that is missing.
func TestNoDatabase(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, params := range []string{"", interpolated} {
			db := s.open(t, "", params)
			for name, call := range connecting(db, newStore(t, db)) {
				err := call(bounded(t))
				if name == "Up" { // whose server says it
					failsWith(t, name, err, "No database selected")
					continue
				}
				failsWith(t, name, err, "the DSN names no database; add one")
				if errors.Is(err, credentials.ErrSchema) || errors.Is(err, credentials.ErrUnavailable) {
					t.Errorf("%s: got error %v, which says that the table or the server is at fault", name, err)
				}
			}
		}
	})
}

// connecting are calls that need the server.
func connecting(db *sql.DB, store *latchkey.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Check": checking(store),
		"Get":   func(ctx context.Context) error { return errOf(store.Get(ctx, alice)) },
		"Claim": func(ctx context.Context) error {
			return errOf(store.Claim(ctx, alice, claimOf("holder")))
		},
		"Up": func(ctx context.Context) error { return errOf(migrations.Up(ctx, db, nil)) },
	}
}

// TestPoolOfOne: a process with a single connection can do everything, also for many callers at
// once.
func TestPoolOfOne(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, "")
		db.SetMaxOpenConns(1)
		errs := make(chan error)
		const n = 8
		for i := range n {
			go func() {
				key := keyOf(string(rune('a' + i)))
				errs <- func() error {
					if err := store.Put(bounded(t), key, refreshToken("seed")); err != nil {
						return err
					}
					c, err := store.Claim(bounded(t), key, claimOf("holder"))
					if err != nil {
						return err
					}
					return store.Save(bounded(t), c.Fence(), renewal("new"))
				}()
			}()
		}
		for range n {
			if err := receive(t, "a caller", errs); err != nil {
				t.Error(err)
			}
		}
		everything(t, store)
		idle(t, db)
	})
}
