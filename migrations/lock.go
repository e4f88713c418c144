package migrations

import (
	"context"
	"database/sql"
	"fmt"
)

// namedLock lets one process at a time migrate, with MySQL's GET_LOCK: the waiters wake at once,
// and the server frees the lock when the holder's connection ends. (goose's own table lock polls
// every 5 s and outlives a dead holder by 30 s.)
// https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html
type namedLock string

// lockSeconds bounds the wait for another process's migration.
const lockSeconds = 300

func (l namedLock) name() string { return "latchkey_migrate_" + string(l) }

// SessionLock implements goose's lock.SessionLocker. The lock's name carries the database, since
// GET_LOCK is server-wide, and is hashed because lock names end at 64 characters.
func (l namedLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	var got sql.NullInt64
	const query = "SELECT GET_LOCK(SHA2(CONCAT(DATABASE(), '/', ?), 256), ?)"
	err := conn.QueryRowContext(ctx, query, l.name(), lockSeconds).Scan(&got)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("lock for migration: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("lock for migration: %w (if the server has no GET_LOCK, let one program alone apply "+
			"the migrations, and set the option OnlyCaller there (demo migrate up --only-caller), or apply the "+
			"output of demo schema with a tool of yours)", err)
	case got.Int64 != 1:
		return fmt.Errorf("lock for migration: another process has held it for %d s", lockSeconds)
	}
	return nil
}

// SessionUnlock implements goose's lock.SessionLocker.
func (l namedLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var released sql.NullInt64
	const query = "SELECT RELEASE_LOCK(SHA2(CONCAT(DATABASE(), '/', ?), 256))"
	err := conn.QueryRowContext(ctx, query, l.name()).Scan(&released)
	if err != nil {
		return fmt.Errorf("unlock after migration: %w", err)
	}
	return nil
}
