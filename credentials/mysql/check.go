package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// schemaVersion stands in the table's comment ("latchkey schema 1"). The version moves on when a
// program of the version before could no longer work with the table.
const schemaVersion = 1

// migrateHint is the remedy for a table that is missing or too old.
const migrateHint = "apply the migrations (\"demo migrate up\", or package migrations)"

// Privilege is one that a store's methods need beside SELECT and UPDATE.
type Privilege string

// The privileges.
const (
	Insert Privilege = "INSERT" // for Put and Ensure, and so for credentials.Service.ClientCredentials
	Delete Privilege = "DELETE" // for Delete
)

// Check reports in one error whether the server, the account and the table are such that the store
// can work; the error names the remedy. Check writes nothing. Call it when the program starts; the
// other methods do not need it.
//
// The account has to have SELECT and UPDATE, with which managers and keepers work, and the
// privileges that are named.
//
// A table that is missing, older or newer gives an error that wraps [credentials.ErrSchema]. A
// server that does not answer, does not let the account in, takes no writes, or is one of several
// primaries whose clocks disagree gives one that wraps [credentials.ErrUnavailable]. An AEAD that
// does not open what it seals gives an error, too. On Vitess, a DSN without interpolateParams=true
// gives a warning in the log.
func (s *Store) Check(ctx context.Context, privileges ...Privilege) error {
	var version string
	var autocommit bool
	var database sql.NullString
	settings := make(map[string]string)
	if err := s.sealer.check(); err != nil {
		return fmt.Errorf("check Options.AEAD: %w", err)
	}
	err := s.read(ctx, "check the server", func(ctx context.Context, conn *sqlx.Conn) error {
		const query = "SELECT VERSION(), @@autocommit, DATABASE()"
		err := scan(ctx, conn, query, nil, []any{&version, &autocommit, &database}, func() {})
		if err != nil {
			return err
		}
		return scanSettings(ctx, conn, showSettings, settings)
	})
	if err != nil {
		return err
	}
	if err := supported(version); err != nil {
		return err
	}
	if isVitess(version) {
		if err := s.checkDriver(ctx); err != nil {
			return err
		}
	}
	if !database.Valid && s.database == "" {
		return errors.New(noDatabase)
	}
	if !autocommit {
		return errors.New("autocommit is off (by the DSN, or the server's autocommit or init_connect), " +
			"so that a connection of the pool goes on reading the rows as they were at its first read; " +
			"switch it on")
	}
	if err := s.checkTable(ctx); err != nil {
		return err
	}
	if err := takesWrites(settings); err != nil {
		return err
	}
	if err := s.checkPrivileges(ctx, privileges); err != nil {
		return err
	}
	if err := s.checkClocks(ctx); err != nil {
		return err
	}
	return logsRows(settings)
}

// scanSettings runs a SHOW and adds its answer to settings, under names in lower case.
func scanSettings(ctx context.Context, conn *sqlx.Conn, show string, settings map[string]string) error {
	var name, value string
	return scan(ctx, conn, show, nil, []any{&name, &value}, func() { settings[strings.ToLower(name)] = value })
}

// checkClocks looks at the first credentials for one that another primary has written, whose clock
// is ahead.
func (s *Store) checkClocks(ctx context.Context) error {
	return s.read(ctx, "check the clocks", func(ctx context.Context, conn *sqlx.Conn) error {
		server, err := s.askPrimary(ctx, conn)
		if err != nil || !server.oneOfSeveral {
			return err
		}
		page, err := all(ctx, conn, s.sql.selectFirst, nil)
		if err != nil {
			return err
		}
		for _, r := range page {
			c, _ := r.credential() // as in statuses
			if err := s.checkClock(ctx, conn, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// showSettings asks for settings, some of which a server does not know.
const showSettings = "SHOW VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', " +
	"'innodb_read_only', 'transaction_read_only', 'tx_read_only', 'log_bin', 'sql_log_bin', 'binlog_format')"

// takesWrites refuses a read-only server although this account may be allowed to write there: such
// a server is a replica, or about to be demoted.
func takesWrites(settings map[string]string) error {
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		if on(settings[name]) {
			return fmt.Errorf("%w: the server is read-only (%s = %s); connect to the one that takes writes",
				credentials.ErrUnavailable, name, settings[name])
		}
	}
	for _, name := range []string{"transaction_read_only", "tx_read_only"} {
		if on(settings[name]) {
			return fmt.Errorf("the session's transactions are read-only (%s = %s, by the DSN, init_connect "+
				"or the server); switch it off", name, settings[name])
		}
	}
	return nil
}

// logsRows refuses a server that logs statements: READ COMMITTED, which a batch needs, cannot write
// there (error 1665).
func logsRows(settings map[string]string) error {
	if on(settings["log_bin"]) && on(settings["sql_log_bin"]) && settings["binlog_format"] == "STATEMENT" {
		return errors.New("binlog_format is STATEMENT, under which no batch can be claimed (error 1665), " +
			"so that the keeper renews nothing; whatever concerns one credential works, a caller's renewal " +
			"too; set binlog_format to ROW or MIXED")
	}
	return nil
}

func on(value string) bool {
	return value != "" && value != "0" && !strings.EqualFold(value, "OFF")
}

// checkPrivileges runs statements that would write, and find nothing to write.
func (s *Store) checkPrivileges(ctx context.Context, privileges []Privilege) error {
	probes := map[Privilege]statement{
		update: s.sql.probeUpdate, Insert: s.sql.probeInsert, Delete: s.sql.probeDelete,
	}
	needed := append([]Privilege{update}, privileges...)
	var lacking []string
	var denied error
	err := s.write(ctx, "check the account's privileges", func(ctx context.Context) error {
		return s.transaction(ctx, newRow, func(conn *sqlx.Conn) error {
			lacking, denied = nil, nil
			for _, privilege := range needed {
				probe, ok := probes[privilege]
				if !ok {
					return fmt.Errorf("there is no privilege %q; name Insert and Delete alone", privilege)
				}
				_, err := exec(ctx, conn, probe, map[string]any{})
				switch {
				case isDenied(err):
					lacking, denied = append(lacking, string(privilege)), err
				case err != nil:
					return err
				}
			}
			return nil
		})
	})
	if err == nil && len(lacking) > 0 {
		err = fmt.Errorf("the account may not %s in table %q; grant it SELECT and UPDATE, which tokens "+
			"need, INSERT where it puts or ensures, and DELETE where it deletes: %w",
			strings.Join(lacking, ", "), s.table, denied)
	}
	return err
}

// update is the privilege that every use of the store needs.
const update Privilege = "UPDATE"

// supported reports whether the server, by its VERSION(), has the features that the store uses:
// MySQL 8.0, MariaDB 10.6 or TiDB 7.4, the first that calls itself compatible with MySQL 8.0, and
// later.
func supported(version string) error {
	product, number, oldest := "MySQL", version, [2]int{8, 0}
	switch {
	case isTiDB(version):
		product, oldest = "TiDB", [2]int{7, 4}
		_, number, _ = strings.Cut(version, tidbMark)
	case strings.Contains(version, "MariaDB"):
		product, oldest = "MariaDB", [2]int{10, 6}
		number = strings.TrimPrefix(version, "5.5.5-") // as some proxies have it
	}
	var got [2]int
	if _, err := fmt.Sscanf(number, "%d.%d", &got[0], &got[1]); err != nil {
		return fmt.Errorf("the server calls itself version %q; MySQL 8.0+, MariaDB 10.6+ and TiDB 7.4+ are "+
			"supported", version)
	}
	if slices.Compare(got[:], oldest[:]) < 0 {
		return fmt.Errorf("the server is %s %s; at least %d.%d is needed",
			product, number, oldest[0], oldest[1])
	}
	return nil
}

// tidbMark comes before TiDB's own version, as in 8.0.11-TiDB-v8.5.0: the number before it is that
// of the MySQL whose words TiDB takes. An operator may set another VERSION(), without the mark.
const tidbMark = "-TiDB-v"

func isTiDB(version string) bool { return strings.Contains(version, tidbMark) }

func (s *Store) checkTable(ctx context.Context) error {
	const query = "SELECT table_comment FROM information_schema.tables " +
		"WHERE table_schema = IF(? = '', DATABASE(), ?) AND table_name = ?"
	var comment []string
	err := s.read(ctx, "check the table", func(ctx context.Context, conn *sqlx.Conn) error {
		comment = nil
		var text string
		return scan(ctx, conn, query, []any{s.database, s.database, s.table}, []any{&text}, func() {
			comment = append(comment, text)
		})
	})
	if err != nil {
		return err
	}
	if len(comment) == 0 {
		return fmt.Errorf("%w: there is no table %q in the database, or the account has no privilege "+
			"on it; %s", credentials.ErrSchema, s.table, migrateHint)
	}
	var version int
	if _, err := fmt.Sscanf(comment[0], "latchkey schema %d", &version); err != nil {
		return fmt.Errorf("%w: table %q was not made by latchkey's migrations (its comment is %q); "+
			"choose another table name", credentials.ErrSchema, s.table, comment[0])
	}
	if version > schemaVersion {
		return fmt.Errorf("%w: table %q has schema %d, this program knows %d; update the program",
			credentials.ErrSchema, s.table, version, schemaVersion)
	}
	// A column that is missing gives the server's "unknown column", which retry explains.
	return s.read(ctx, "check the table", func(ctx context.Context, conn *sqlx.Conn) error {
		_, err := all(ctx, conn, s.sql.selectNone, nil)
		return err
	})
}
