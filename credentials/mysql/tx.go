package mysql

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// scope is what a transaction writes.
type scope int

const (
	oneRow    scope = iota // a row that is there, found by its id or by its key
	newRow                 // a row that may have to be made
	keyedRows              // rows found by their keys, some of which may not be there
	manyRows               // rows that a range of an index finds
)

// The statements around a transaction. NO CHAIN and NO RELEASE hold whatever the session's
// completion_type is. https://dev.mysql.com/doc/refman/8.4/en/commit.html
const (
	// SET TRANSACTION fails (1568) where the host left a transaction open on the connection, which
	// START TRANSACTION would commit.
	readCommitted  = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
	repeatableRead = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
	begin          = "START TRANSACTION"

	// beginAnew begins a transaction as START TRANSACTION does, but rolls back what the host left
	// open. Outside a transaction there is nothing to roll back.
	beginAnew = "ROLLBACK AND CHAIN NO RELEASE"

	commit   = "COMMIT AND NO CHAIN NO RELEASE"
	rollback = "ROLLBACK AND NO CHAIN NO RELEASE"
)

// short are the forms for servers that chain nothing: Vitess, which does not understand the long
// ones, and TiDB, which ignores the words about chains. There START TRANSACTION commits the work
// that the host left open.
var short = map[string]string{beginAnew: begin, commit: "COMMIT", rollback: "ROLLBACK"}

// writeRow runs f in transactions that write the fence's row, until one is committed.
func (s *Store) writeRow(
	ctx context.Context, action string, fence credentials.Fence, f func(context.Context, *sqlx.Conn) error,
) error {
	return s.write(ctx, action, func(ctx context.Context) error {
		return s.transaction(ctx, oneRow, func(conn *sqlx.Conn) error {
			if s.caution.on() {
				if err := s.lock(ctx, conn, fence); err != nil {
					return err
				}
			}
			return f(ctx, conn)
		})
	})
}

// lock locks the fence's row at once or fails. It reads the answer as one of a query: where a
// prepared SELECT that finds no row is executed on MariaDB, go-sql-driver 1.10.1 waits for a packet
// that never comes.
func (s *Store) lock(ctx context.Context, conn *sqlx.Conn, fence credentials.Fence) error {
	values, err := s.sql.lockRow.values(fenceArgs(fence))
	if err != nil {
		return err
	}
	var id uint64
	return scan(ctx, conn, s.sql.lockRow.text, values, []any{&id}, func() {})
}

// transaction runs f in a transaction on a connection of its own, and commits if f returns nil.
// Every write runs in a transaction. Thus a write is committed or gives an error, whatever
// autocommit and completion_type say and whatever the host left open; and a statement that its
// caller gave up takes no effect later, since nobody sends its COMMIT.
//
// The statements are sent from here: [database/sql.Tx.Commit] ignores the context and hangs on a
// server that fell silent.
func (s *Store) transaction(ctx context.Context, of scope, f func(*sqlx.Conn) error) error {
	return s.onConnection(ctx, func(conn *sqlx.Conn) error {
		err := s.attempt(ctx, conn, of, f)
		if err == nil {
			return nil
		}
		// No connection goes back to the pool with a transaction open, which would hold the row's
		// lock. After a lock-wait time-out (1205) only the statement is rolled back, so the store
		// always asks.
		if classify(err) != retryable && s.control(ctx, conn, rollback) != nil {
			discard(conn)
		}
		return err
	})
}

func (s *Store) attempt(ctx context.Context, conn *sqlx.Conn, of scope, f func(*sqlx.Conn) error) error {
	if err := s.learnForms(ctx, conn); err != nil {
		return err
	}
	logsStatements := s.logsStatements.Load()
	for _, statement := range opening(of, logsStatements) {
		if err := s.control(ctx, conn, statement); err != nil {
			return err
		}
	}
	err := f(conn)
	if err == nil {
		err = s.control(ctx, conn, commit)
		if err != nil && !rolledBack(err) {
			err = fmt.Errorf("%w: %w", errCommit, err)
		}
	}
	switch {
	case ctx.Err() != nil: // the statement under way may wait for a lock, on in the server
		s.caution.begin()
	case of != manyRows && !logsStatements && number(err) == 1665:
		s.logsStatements.Store(true)
		return errLogsStatements
	}
	return err
}

// opening returns the statements that begin a transaction.
//
// A row that is found by a unique key is locked alone, whatever the session's isolation level is.
// Only a search that finds no row locks the gap where the row would be, under REPEATABLE READ, and
// MariaDB the gap before a row that it finds by a secondary key. That delays new rows in the gap
// until the transaction ends, which it does at once, and can make no deadlock, since the
// transaction makes no row. A transaction that may make one, scans an index or looks many keys up,
// which may be absent, locks no gap under READ COMMITTED.
//
// A server that logs statements refuses what is written under READ COMMITTED, also where that is
// the session's level.
func opening(of scope, logsStatements bool) []string {
	switch {
	case logsStatements && of != manyRows:
		return []string{repeatableRead, begin}
	case of == oneRow:
		return []string{beginAnew}
	}
	return []string{readCommitted, begin}
}

// learnForms asks the server once whether it is TiDB, where the long form of beginAnew begins no
// transaction and gives no error.
func (s *Store) learnForms(ctx context.Context, conn *sqlx.Conn) error {
	if s.formsLearned.Load() {
		return nil
	}
	var version string
	err := scan(ctx, conn, "SELECT VERSION()", nil, []any{&version}, func() {})
	if err != nil {
		return err
	}
	if isTiDB(version) {
		s.shortForms.Store(true)
	}
	s.formsLearned.Store(true)
	return nil
}

// control runs a statement around a transaction. Its short form follows only where the server did
// not understand the long one: after any other error of a COMMIT there may be nothing left to
// commit.
func (s *Store) control(ctx context.Context, conn *sqlx.Conn, statement string) error {
	plain, ok := short[statement]
	if ok && s.shortForms.Load() {
		statement = plain
	}
	_, err := conn.ExecContext(ctx, statement)
	if ok && notUnderstood(err) && statement != plain {
		s.shortForms.Store(true)
		_, err = conn.ExecContext(ctx, plain)
	}
	return failed(err)
}

// selectForUpdate is the locking read of a row by its key.
func (s *Store) selectForUpdate() statement {
	if s.caution.on() {
		return s.sql.selectForClaimNoWait
	}
	return s.sql.selectForClaim
}

// caution has writes ask whether their row is locked, in place of waiting for the lock. A statement
// whose caller has given up waits on in the server, on a connection that the pool no longer counts,
// and would add up with others. One caution serves all rows: where one row is held for long, others
// may be (a backup, an ALTER, a forgotten transaction).
type caution struct{ until atomic.Pointer[time.Time] }

// cautionPeriod is for how long writes ask, after a waiting one was given up: InnoDB ends such a
// wait after 50 s unless told otherwise.
const cautionPeriod = time.Minute

func (c *caution) begin() {
	until := time.Now().Add(cautionPeriod)
	c.until.Store(&until)
}

func (c *caution) on() bool {
	until := c.until.Load()
	return until != nil && time.Now().Before(*until)
}
