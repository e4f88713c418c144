package migrations

import (
	"context"
	"database/sql"
	"fmt"
)

// namedLock lets one process at a time migrate, with MySQL's GET_LOCK: its waiters wake at once, and the server frees
// it when the holder's connection ends. (goose's own table lock polls every 5 s and outlives a dead holder by 30 s.)
// https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html
type namedLock string

// lockSeconds bounds the wait for another process's migration.
const lockSeconds = 300

func (l namedLock) name() string { return "latchkey_migrate_" + string(l) }

// SessionLock implements goose's lock.SessionLocker. The name carries the database, since GET_LOCK is server-wide; it
// is hashed because lock names end at 64 characters.
func (l namedLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	var got sql.NullInt64
	err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(SHA2(CONCAT(DATABASE(), '/', ?), 256), ?)", l.name(), lockSeconds).Scan(&got)
	switch {
	case err != nil:
		return fmt.Errorf("lock for migration: %w", err)
	case got.Int64 != 1:
		return fmt.Errorf("lock for migration: another process has held it for %d s", lockSeconds)
	}
	return nil
}

// SessionUnlock implements goose's lock.SessionLocker.
func (l namedLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var released sql.NullInt64
	err := conn.QueryRowContext(ctx, "SELECT RELEASE_LOCK(SHA2(CONCAT(DATABASE(), '/', ?), 256))", l.name()).Scan(&released)
	if err != nil {
		return fmt.Errorf("unlock after migration: %w", err)
	}
	return nil
}
