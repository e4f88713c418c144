package worker

import (
	"context"
	"database/sql"
	"time"

	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// selectVersions asks for the versions of a storm's rows.
const selectVersions = "SELECT account_name, version FROM `" + mysql.DefaultTable + "` WHERE service_name = ? "

// versionPause is the time between two looks at rows that are behind.
const versionPause = 5 * time.Millisecond

// Querier runs a query: a connection or a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Versions reads the versions of the service's rows, by account. The lock is a clause such as FOR
// UPDATE, or empty.
func Versions(ctx context.Context, db Querier, service, lock string) (wire.Versions, error) {
	rows, err := db.QueryContext(ctx, selectVersions+lock, service)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	versions := make(wire.Versions)
	for rows.Next() {
		var account string
		var version uint64
		if err := rows.Scan(&account, &version); err != nil {
			return nil, err
		}
		versions[account] = version
	}
	return versions, rows.Err()
}

// awaitVersions waits until each connection of the pool shows the rows at these versions or later
// ones. The connections may lead to servers that have not applied the parent's writes: members of a
// group, or the replicas of a router that splits reads from writes. A connection that fails is tried
// again, as callers would try.
func (w *worker) awaitVersions(ctx context.Context, want wire.Versions) error {
	for {
		err := w.showAll(ctx, want)
		if err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		sleep(ctx, versionPause)
	}
}

// showAll looks at the rows by all connections of the pool, which it holds together, so that none is
// asked twice.
func (w *worker) showAll(ctx context.Context, want wire.Versions) error {
	for range w.Pool {
		conn, err := w.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		got, err := Versions(ctx, conn, w.Service, "")
		if err != nil {
			return err
		}
		if err := got.Behind(want); err != nil {
			return err
		}
	}
	return nil
}
