package mysql

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/jmoiron/sqlx"
)

// isVitess reports whether a vtgate answers, which says so after the number of the MySQL whose words
// it takes. An operator may have set another VERSION() there.
func isVitess(version string) bool { return strings.Contains(version, "-Vitess") }

// checkDriver warns of a DSN under which transactions on a sharded table may wait for each other,
// until a time-out. For a statement that is prepared, vtgate asks any shard for the columns, and that
// in the open transaction, which then has a connection of two tablets.
func (s *Store) checkDriver(ctx context.Context) error {
	return s.read(ctx, "check the driver", func(ctx context.Context, conn *sqlx.Conn) error {
		if prepares(ctx, conn) {
			s.log.WarnContext(ctx, "statements are prepared, for which Vitess has transactions of one shard "+
				"reach a second one; set interpolateParams=true in the DSN")
		}
		return nil
	})
}

// prepares reports whether the driver sends no statement that has values, but wants it prepared.
func prepares(ctx context.Context, conn *sqlx.Conn) (prepares bool) {
	_ = conn.Raw(func(c any) error {
		queryer, ok := c.(driver.QueryerContext)
		if !ok {
			prepares = true
			return nil
		}
		rows, err := queryer.QueryContext(ctx, "SELECT ?", []driver.NamedValue{{Ordinal: 1, Value: int64(1)}})
		if err == nil {
			return rows.Close()
		}
		prepares = err == driver.ErrSkip // as database/sql compares it
		return nil
	})
	return prepares
}
