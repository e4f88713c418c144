package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
)

// schemaVersion stands in the table's comment ("latchkey schema 1"). It moves on when a program of the version before
// could no longer work with the table.
const schemaVersion = 1

// migrate is the remedy for a table that is missing or too old.
const migrate = "apply the migrations (\"demo migrate up\", or package migrations)"

// Check reports whether the server and the table are such that the store can work, in one error that says what is
// wrong and what to do. It writes nothing. Call it when the program starts; the other methods do not need it.
//
// A table that is missing, older or newer gives an error that wraps [credentials.ErrSchema], a server that does not
// answer one that wraps [credentials.ErrUnavailable].
func (s *Store) Check(ctx context.Context) error {
	var version string
	var autocommit bool
	err := s.retry(ctx, "check the server", func() error {
		return s.db.QueryRowContext(ctx, "SELECT VERSION(), @@autocommit").Scan(&version, &autocommit)
	})
	if err != nil {
		return err
	}
	if err := supported(version); err != nil {
		return err
	}
	if !autocommit {
		return errors.New("the DSN switches autocommit off, so that no write of one statement would be committed; remove it")
	}
	return s.checkTable(ctx)
}

// supported reports whether the server, by what its VERSION() says, has the features that the store uses: MySQL 8.0 or
// MariaDB 10.6 and later.
func supported(version string) error {
	product, atLeast := "MySQL", [2]int{8, 0}
	if strings.Contains(version, "MariaDB") {
		product, atLeast = "MariaDB", [2]int{10, 6}
	}
	var got [2]int
	if _, err := fmt.Sscanf(version, "%d.%d", &got[0], &got[1]); err != nil {
		return fmt.Errorf("the server calls itself version %q; MySQL 8.0+ and MariaDB 10.6+ are supported", version)
	}
	if slices.Compare(got[:], atLeast[:]) < 0 {
		return fmt.Errorf("the server is %s %s; at least %d.%d is needed", product, version, atLeast[0], atLeast[1])
	}
	return nil
}

func (s *Store) checkTable(ctx context.Context) error {
	const query = "SELECT table_comment FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
	var comment []string
	err := s.retry(ctx, "check the table", func() error {
		comment = nil
		return s.db.SelectContext(ctx, &comment, query, s.table)
	})
	if err != nil {
		return err
	}
	if len(comment) == 0 {
		return fmt.Errorf("%w: there is no table %q in this database; %s", credentials.ErrSchema, s.table, migrate)
	}
	var version int
	if _, err := fmt.Sscanf(comment[0], "latchkey schema %d", &version); err != nil {
		return fmt.Errorf("%w: table %q was not made by latchkey's migrations (its comment is %q); choose another table name",
			credentials.ErrSchema, s.table, comment[0])
	}
	if version > schemaVersion {
		return fmt.Errorf("%w: table %q has schema %d, this program knows %d; update the program",
			credentials.ErrSchema, s.table, version, schemaVersion)
	}
	// A column that is missing gives the server's "unknown column", which retry explains.
	return s.retry(ctx, "check the table", func() error {
		_, err := s.all(ctx, s.db, s.sql.selectNone, nil)
		return err
	})
}
