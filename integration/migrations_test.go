package integration_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/latchkey-go/latchkey/migrations"
)

// shapeOf is the table as the server describes it.
func shapeOf(t *testing.T, db *sql.DB, table string) string {
	t.Helper()
	shape := rowsOf(t, db, "SHOW CREATE TABLE `"+table+"`")[0].text("Create Table")
	return regexp.MustCompile(` AUTO_INCREMENT=\d+`).ReplaceAllString(shape, "")
}

func tables(t *testing.T, db *sql.DB) string {
	t.Helper()
	return query[string](t, db, `SELECT COALESCE(GROUP_CONCAT(table_name ORDER BY table_name SEPARATOR ' '), '')
		FROM information_schema.tables WHERE table_schema = DATABASE()`)
}

// applied fails the test unless Status lists every migration as applied, or none.
func applied(t *testing.T, db *sql.DB, opts *migrations.Options, want bool) {
	t.Helper()
	status, err := migrations.Status(bounded(t), db, opts)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	if len(status) == 0 {
		t.Fatal("Status lists no migration")
	}
	for i, m := range status {
		equal(t, "Version of "+m.Name, m.Version, int64(i+1))
		equal(t, m.Name+" is applied", m.Applied, want)
	}
}

func downAll(t *testing.T, db *sql.DB, opts *migrations.Options) {
	t.Helper()
	for {
		_, err := migrations.Down(bounded(t), db, opts)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return
		}
		if err != nil {
			t.Fatalf("Down: %v", err)
		}
	}
}

func TestMigrateUpDownUp(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, params := range []string{"", interpolated, "parseTime=true", "multiStatements=true&sql_mode=%27%27", "charset=latin1"} {
			db := s.open(t, s.database(t), params)
			applied(t, db, nil, false)
			migrate(t, db, nil)
			applied(t, db, nil, true)
			first := shapeOf(t, db, "credentials")
			seed(t, newStore(t, db), alice)
			migrate(t, db, nil) // which finds nothing to do
			get(t, newStore(t, db), alice)

			downAll(t, db, nil)
			applied(t, db, nil, false)
			equal(t, "tables after Down with "+params, tables(t, db), "credentials_migrations")
			migrate(t, db, nil)
			applied(t, db, nil, true)
			equal(t, "the schema after up, down, up with "+params, shapeOf(t, db, "credentials"),
				first)
			succeeds(t, "Check", newStore(t, db).Check(bounded(t)))
		}
	})
}

// TestMigrateConcurrently: of programs that migrate at once, one applies. They meet twice, the
// second time when the version table is there: goose has its losers sleep for a second after they
// met over its creation, which hides a race.
func TestMigrateConcurrently(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.database(t)
		db := s.open(t, database, "")
		upConcurrently(t, s, database)
		applied(t, db, nil, true)
		downAll(t, db, nil)
		upConcurrently(t, s, database)
		applied(t, db, nil, true)
		equal(t, "rows of applied migrations", query[int](t, db,
			"SELECT COUNT(*) FROM credentials_migrations WHERE version_id = 1"), 1)
	})
}

func upConcurrently(t *testing.T, s *server, database string) {
	t.Helper()
	const n = 16
	results, errs := make([][]*goose.MigrationResult, n), make([]error, n)
	var migrating sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		db := s.open(t, database, "")
		execute(t, db, "DO 1") // so that all are connected when they start
		migrating.Go(func() {
			<-start
			results[i], errs[i] = migrations.Up(bounded(t), db, nil)
		})
	}
	close(start)
	migrating.Wait()
	appliers := 0
	for i := range n {
		if errs[i] != nil {
			t.Errorf("Up: %v", errs[i])
		}
		if len(results[i]) > 0 {
			appliers++
		}
	}
	equal(t, "how many of them applied something", appliers, 1)
}

func TestMigrateInProcesses(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.database(t)
		db := s.open(t, database, "")
		inProcesses(t, 4, "migrator", work{DSN: s.dsn(database, "")})
		applied(t, db, nil, true)
		equal(t, "rows of applied migrations", query[int](t, db,
			"SELECT COUNT(*) FROM credentials_migrations WHERE version_id = 1"), 1)
	})
}

// TestMigrateGoesOnAfterADeadlock: a node of a Galera cluster ends a statement by the error of a
// deadlock where another node changes the schema. A statement that always meets one ends the call.
func TestMigrateGoesOnAfterADeadlock(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.database(t)
		var statement string
		var left int // how many times the statement meets a deadlock
		db := s.openWire(t, database, "", &wire{statement: func(text []byte) fate {
			if left > 0 && strings.Contains(string(text), statement) {
				left--
				deadlock := "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"
				copy(text, deadlock+strings.Repeat(" ", len(text)-len(deadlock)))
			}
			return deliver
		}})
		for _, statement = range []string{
			"FROM information_schema.tables", "CREATE TABLE IF NOT EXISTS `credentials_migrations`",
			"CREATE TABLE IF NOT EXISTS `credentials` ", "INSERT INTO `credentials_migrations`",
			"FROM credentials_migrations",
		} {
			left = 2
			migrate(t, db, nil)
			equal(t, "left of "+statement, left, 0)
			applied(t, db, nil, true)
			downAll(t, db, nil)
			execute(t, db, "DROP TABLE credentials_migrations")
		}
		migrate(t, db, nil)
		left = 2
		downAll(t, db, nil)
		equal(t, "left after Down", left, 0)
		left = 2
		applied(t, db, nil, false)
		equal(t, "left after Status", left, 0)
		left = 1000
		_, err := migrations.Status(bounded(t), db, nil)
		failsWith(t, "Status that always meets a deadlock", err, "1213")
	})
}

// TestMigrateAfterAVersionTableWithoutRows: a program was killed after it had made the version
// table and before it wrote the first row.
func TestMigrateAfterAVersionTableWithoutRows(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.database(t), "")
		execute(t, db, `CREATE TABLE credentials_migrations (id SERIAL, version_id BIGINT NOT NULL, is_applied BOOLEAN NOT NULL,
			tstamp TIMESTAMP NULL DEFAULT NOW())`)
		applied(t, db, nil, false)
		migrate(t, db, nil)
		applied(t, db, nil, true)
		equal(t, "versions", query[string](t, db, "SELECT GROUP_CONCAT(version_id ORDER BY version_id) FROM credentials_migrations"), "0,1")
	})
}

// TestMigrateFindsWhatIsGone: the version table says that all is applied, and the table, or a
// column, is gone. Nobody is told that all is well, and Down and Up mend it.
func TestMigrateFindsWhatIsGone(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.database(t), "")
		for _, gone := range []struct{ statement, names string }{
			{"ALTER TABLE credentials DROP COLUMN survived_by", `column "survived_by" of table "credentials"`},
			{"DROP TABLE credentials", `table "credentials"`},
		} {
			migrate(t, db, nil)
			execute(t, db, gone.statement)
			for what, err := range map[string]error{
				"Up":     errOf(migrations.Up(bounded(t), db, nil)),
				"Status": errOf(migrations.Status(bounded(t), db, nil)),
			} {
				failsAs(t, what, err, migrations.ErrIncomplete)
				failsWith(t, what, err, gone.names)
			}
			downAll(t, db, nil)
			migrate(t, db, nil)
			applied(t, db, nil, true)
		}
	})
}

// TestMigrateOwnTables: Up and Down touch the two tables of their name alone, neither another set
// of ours nor the host's own goose.
func TestMigrateOwnTables(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.database(t), "")
		execute(t, db, `CREATE TABLE goose_db_version (id SERIAL, version_id BIGINT NOT NULL, is_applied BOOLEAN NOT NULL,
			tstamp TIMESTAMP NULL DEFAULT NOW())`)
		execute(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (42, TRUE)")
		acme := &migrations.Options{Table: "Acme_tokens"}
		migrate(t, db, acme)
		applied(t, db, acme, true)
		equal(t, "tables", tables(t, db), "Acme_tokens Acme_tokens_migrations goose_db_version")
		migrate(t, db, nil)
		equal(t, "the schema under another name",
			strings.Replace(shapeOf(t, db, "Acme_tokens"), "Acme_tokens", "credentials", 1),
			strings.ReplaceAll(shapeOf(t, db, "credentials"), "credentials_chk", "Acme_tokens_chk"))
		downAll(t, db, nil)
		applied(t, db, acme, true)
		equal(t, "tables", tables(t, db),
			"Acme_tokens Acme_tokens_migrations credentials_migrations goose_db_version")
		equal(t, "rows of the host's goose",
			query[string](t, db, "SELECT GROUP_CONCAT(version_id) FROM goose_db_version"), "42")
	})
}

// TestSchemaIsWhatUpMakes: a host may apply the SQL with another tool.
func TestSchemaIsWhatUpMakes(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		migrated, other := s.open(t, s.migrated(t), ""), s.open(t, s.database(t), "")
		schema, err := migrations.Schema(nil)
		must(t, err)
		for statement := range strings.SplitSeq(schema, ";\n") {
			if strings.TrimSpace(statement) != "" {
				execute(t, other, statement)
			}
		}
		equal(t, "the table that Schema makes", shapeOf(t, other, "credentials"),
			shapeOf(t, migrated, "credentials"))
		migrate(t, other, nil) // and a later Up finds it there
	})
}

func TestMigrateRefusesNewerDatabase(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		shape := shapeOf(t, db, "credentials")
		execute(t, db,
			"INSERT INTO credentials_migrations (version_id, is_applied) VALUES (999, TRUE)")
		for name, call := range map[string]func(context.Context) error{
			"Up": func(ctx context.Context) error {
				return errOf(migrations.Up(ctx, db, nil))
			},
			"Down": func(ctx context.Context) error {
				return errOf(migrations.Down(ctx, db, nil))
			},
			"Status": func(ctx context.Context) error {
				return errOf(migrations.Status(ctx, db, nil))
			},
		} {
			if err := call(bounded(t)); !errors.Is(err, migrations.ErrNewer) ||
				!strings.Contains(err.Error(), "999") {
				t.Errorf("%s of a newer database: got error %v, want ErrNewer with its version",
					name, err)
			}
		}
		equal(t, "the schema", shapeOf(t, db, "credentials"), shape)
	})
}

// TestMigrateLeavesAForeignTableAlone: a host has a table of that common name already. It is
// neither taken for ours nor, by Down, dropped.
func TestMigrateLeavesAForeignTableAlone(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.database(t), "")
		execute(t, db, "CREATE TABLE credentials (login VARCHAR(20), password VARCHAR(20)) COMMENT 'of the intranet'")
		shape := shapeOf(t, db, "credentials")
		for name, call := range map[string]func(context.Context) error{
			"Up": func(ctx context.Context) error {
				return errOf(migrations.Up(ctx, db, nil))
			},
			"Down": func(ctx context.Context) error {
				return errOf(migrations.Down(ctx, db, nil))
			},
		} {
			if err := call(bounded(t)); !errors.Is(err, migrations.ErrForeign) ||
				!strings.Contains(err.Error(), "of the intranet") {
				t.Errorf("%s: got error %v, want ErrForeign with the table's comment", name, err)
			}
		}
		equal(t, "the other program's table", shapeOf(t, db, "credentials"), shape)
		equal(t, "tables", query[int](t, db,
			"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"), 1)
		succeeds(t, "Up with another name",
			errOf(migrations.Up(bounded(t), db, &migrations.Options{Table: "tokens"})))
	})
}

// TestMigrateBadInput: Up refuses a context that has ended, and names that are none.
func TestMigrateBadInput(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		ctx, cancel := context.WithCancel(bounded(t))
		cancel()
		failsAs(t, "Up under a context that has ended", errOf(migrations.Up(ctx, db, nil)),
			context.Canceled)
		for _, table := range []string{"a b", "a`b", "x;y", "ü", strings.Repeat("x", 51)} {
			if _, err := migrations.Up(bounded(t), db, &migrations.Options{Table: table}); err == nil {
				t.Errorf("Up with the table name %q: got no error", table)
			}
		}
		idle(t, db)
	})
}

// TestMigrateWithoutLock: servers that refuse GET_LOCK, as Percona XtraDB Cluster does in its strict
// mode, or do not know it, as some proxies. The error has the server's number and says what to do,
// the table is not made, and the option that the error names works.
// https://docs.percona.com/percona-xtradb-cluster/8.0/strict-mode.html
func TestMigrateWithoutLock(t *testing.T) {
	const strict = "Percona-XtraDB-Cluster prohibits use of GET_LOCK with pxc_strict_mode = ENFORCING"
	onServers(t, func(t *testing.T, s *server) {
		for _, test := range []struct{ name, function, want string }{
			{"refused", "CREATE FUNCTION PXC_LOCK(name CHAR(64), seconds INT) RETURNS INT DETERMINISTIC NO SQL " +
				"BEGIN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1105, MESSAGE_TEXT = '" + strict + "'; RETURN 0; END",
				"Error 1105 (HY000): " + strict},
			{"unknown", "", "Error 1305 (42000)"},
		} {
			database := s.database(t)
			if test.function != "" {
				execute(t, s.open(t, database, ""), test.function)
			}
			db := s.openWire(t, database, "", &wire{statement: func(text []byte) fate {
				if bytes.HasPrefix(text, []byte("SELECT GET_LOCK(")) {
					copy(text, "SELECT PXC_LOCK(")
				}
				return deliver
			}})
			_, err := migrations.Up(bounded(t), db, nil)
			for _, want := range []string{test.want, "OnlyCaller", "demo migrate up --only-caller", "demo schema"} {
				failsWith(t, "Up where GET_LOCK is "+test.name, err, want)
			}
			equal(t, "tables where GET_LOCK is "+test.name, tables(t, db), "credentials_migrations")
			only := &migrations.Options{OnlyCaller: true}
			migrate(t, db, only)
			downAll(t, db, only)
		}
	})
}
