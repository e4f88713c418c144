package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrSeveralPrimaries is wrapped where the schema would be changed in a group of MySQL servers of
// which each takes writes. Such a group does not order DDL: two members that change one table at
// the same time take the whole group down, and no lock is shared by them.
// https://dev.mysql.com/doc/refman/8.4/en/group-replication-limitations.html
var ErrSeveralPrimaries = errors.New("the server is one of several primaries, which must not change " +
	"the schema at the same time: let one program alone apply the migrations, on one server, and set the " +
	"option OnlyCaller there (demo migrate up --only-caller), or apply what demo schema prints")

// refuseSeveral returns ErrSeveralPrimaries if the server is a member of a group that is running
// and has several primaries. Galera, which orders DDL over all nodes, needs no such care.
func refuseSeveral(ctx context.Context, db *sql.DB) error {
	// SELECT @@… would be an error where the plugin is not loaded.
	var name, single string
	err := db.QueryRowContext(ctx,
		"SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode'").Scan(&name, &single)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("ask whether there are several primaries: %w", err)
	case single != "OFF":
		return nil
	}
	// A server whose user may not read the view is taken for a member of a running group.
	var running int
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM performance_schema.replication_group_members "+
		"WHERE member_state <> 'OFFLINE'").Scan(&running)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w (whether the group is running, this user may not see: %w)",
			ErrSeveralPrimaries, err)
	case running == 0:
		return nil
	}
	return ErrSeveralPrimaries
}
