package mysql

import (
	"context"
	"database/sql/driver"

	"github.com/jmoiron/sqlx"
)

// onConnection runs f on a connection of the pool's. After an error that another connection may not
// meet, the pool does not get the connection back: after a fail-over, one that leads to the demoted
// server would be handed out for ever.
func (s *Store) onConnection(ctx context.Context, f func(*sqlx.Conn) error) error {
	if err := s.connections.acquire(ctx); err != nil {
		return failed(err)
	}
	defer s.connections.release()
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = conn.Close() }()
	err = f(conn)
	if err != nil && (classify(err) == retryable || classify(err) == elsewhere) {
		discard(conn)
	}
	return err
}

// discardIdle has the pool give up the connections that lie idle: where one of them has met a
// server that is demoted, cut off or gone, all lead there, and each would cost a call a try. No
// connection is opened for that.
func (s *Store) discardIdle(ctx context.Context) {
	for range s.pool().Idle {
		if s.pool().Idle == 0 {
			return
		}
		conn, err := s.db.Connx(ctx)
		if err != nil {
			return
		}
		discard(conn)
		_ = conn.Close()
	}
}

func discard(conn *sqlx.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// all runs a SELECT of rows.
func all(
	ctx context.Context, conn *sqlx.Conn, sql statement, args map[string]any,
) (found []row, err error) {
	values, err := sql.values(args)
	if err != nil {
		return nil, err
	}
	err = each(ctx, conn, sql.text, values, func(r row) { found = append(found, r) })
	return found, err
}

// each runs a SELECT of rows and calls do with every one.
func each(ctx context.Context, conn *sqlx.Conn, query string, values []any, do func(row)) error {
	var r row
	return scan(ctx, conn, query, values, r.targets(), func() {
		do(r)
		r = row{}
	})
}

// scan runs a SELECT and calls each with every row in targets.
func scan(ctx context.Context, conn *sqlx.Conn, query string, values, targets []any, each func()) error {
	rows, err := conn.QueryContext(ctx, query, values...)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil && rows.Err() == nil {
			return errColumnType // not because the context has ended
		} else if err != nil {
			break
		}
		each()
	}
	return failed(rows.Err())
}

// exec runs a write and returns the number of rows affected.
func exec(ctx context.Context, conn *sqlx.Conn, sql statement, args map[string]any) (int64, error) {
	values, err := sql.values(args)
	if err != nil {
		return 0, err
	}
	result, err := conn.ExecContext(ctx, sql.text, values...)
	if err != nil {
		return 0, failed(err)
	}
	n, err := result.RowsAffected()
	return n, failed(err)
}
