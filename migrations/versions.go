package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3/database"
)

// versions is goose's store for MySQL with a version table of our own, which any number of callers
// may make at the same time, and which is found on every server.
type versions struct{ database.Store }

func newVersions(table string) (versions, error) {
	store, err := database.NewStore(database.DialectMySQL, table+"_migrations")
	return versions{store}, err
}

// CreateVersionTable implements [database.Store]. Goose's own has no IF NOT EXISTS, so that of two
// servers which make the table at once, one stops applying the statements of the other.
func (v versions) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS `"+v.Tablename()+"` ("+`
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    version_id BIGINT NOT NULL,
    is_applied BOOLEAN NOT NULL,
    tstamp     DATETIME NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    UNIQUE KEY version (version_id)
)`)
	return err
}

// Insert implements [database.Store]. A version that is there already is no error: another server
// of a cluster may have applied it at the same time.
func (v versions) Insert(ctx context.Context, db database.DBTxConn, request database.InsertRequest) error {
	_, err := db.ExecContext(ctx, "INSERT INTO `"+v.Tablename()+
		"` (version_id, is_applied) VALUES (?, TRUE) ON DUPLICATE KEY UPDATE is_applied = TRUE", request.Version)
	return err
}

// TableExists implements [database.StoreExtender]. Goose's own condition, database() IS NULL OR
// table_schema = database(), finds nothing on Vitess. A table without a row counts as none: its
// maker has not come to the first row, or ended before, and goose refuses such a table. To make the
// table once more does no harm.
func (v versions) TableExists(ctx context.Context, db database.DBTxConn) (bool, error) {
	_, found, err := v.latest(ctx, db)
	return found, err
}

// latest returns the newest version that is applied, 0 for none, and whether the version table has
// a row. Nothing is written.
func (v versions) latest(ctx context.Context, db database.DBTxConn) (version int64, found bool, err error) {
	_, exists, err := tableComment(ctx, db, v.Tablename())
	if err != nil || !exists {
		return 0, false, err
	}
	version, err = v.GetLatestVersion(ctx, db)
	switch {
	case errors.Is(err, database.ErrVersionNotFound):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("read the migrations' version table: %w", err)
	}
	return version, true, nil
}

// tableComment returns the table's comment, and whether there is such a table.
func tableComment(
	ctx context.Context, db database.DBTxConn, table string,
) (comment string, exists bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT table_comment FROM information_schema.tables "+
		"WHERE table_schema = DATABASE() AND table_name = ?", table).Scan(&comment)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("look for table %q: %w", table, err)
	}
	return comment, true, nil
}

// columnsOf returns the names of the table's columns, none if there is no such table.
func columnsOf(ctx context.Context, db *sql.DB, table string) (columns []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT column_name FROM information_schema.columns "+
		"WHERE table_schema = DATABASE() AND table_name = ?", table)
	if err != nil {
		return nil, fmt.Errorf("look for the columns of table %q: %w", table, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err has the error
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		columns = append(columns, name)
	}
	return columns, rows.Err()
}
