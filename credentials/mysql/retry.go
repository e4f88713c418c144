package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

// errLostRace: the conditional UPDATE found that another transaction had changed the row which this one had locked. It
// happens only where row locks are not honoured between nodes.
var errLostRace = errors.New("another claim changed the row first")

// Retries of one call. The pauses grow from firstPause, with full jitter; attempts bounds a call whose context has no
// deadline to some seconds.
const (
	attempts   = 12
	firstPause = 2 * time.Millisecond
	mostPause  = 500 * time.Millisecond
)

// retry runs op, a call that may be repeated, until it settles. Conflicts never reach the caller as such; what still
// fails when the context or the attempts end wraps credentials.ErrUnavailable.
func (s *Store) retry(ctx context.Context, what string, op func() error) error {
	var last error
	for attempt := range attempts {
		if ctx.Err() != nil {
			break
		}
		err := op()
		verdict := sort(err)
		switch {
		case err == nil:
			return nil
		case verdict == schema:
			return fmt.Errorf("%s: %w: %w; %s", what, credentials.ErrSchema, quotable(err), migrate)
		case verdict == final:
			return fmt.Errorf("%s: %w", what, quotable(err))
		}
		if last == nil || ctx.Err() == nil { // what the context cut off does not say why the tries before it failed
			last = err
		}
		pause := time.NewTimer(rand.N(min(firstPause<<attempt, mostPause)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
	// The context says that time is up, the last error why it was not enough.
	return fmt.Errorf("%s: %w: %w", what, credentials.ErrUnavailable, errors.Join(ctx.Err(), quotable(last)))
}

// verdict is what an error means for the call.
type verdict int

const (
	final  verdict = iota // repeating it would not help
	again                 // not applied, or nobody knows: repeating it is safe and may help
	schema                // the table is not what this library expects
)

// MySQL's error numbers: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
var verdicts = map[uint16]verdict{
	1213: again, // deadlock: the transaction is gone
	1205: again, // lock wait time-out
	3572: again, // NOWAIT found the row locked
	1568: again, // SET TRANSACTION on a connection that the host gave back with a transaction open; ROLLBACK has ended it
	3024: again, // statement time-out, MySQL
	1969: again, // statement time-out, MariaDB
	1020: again, // record changed since last read, MariaDB
	3101: again, // Group Replication rolled the transaction back
	3100: again, // Group Replication: outcome unknown
	1180: again, // error during COMMIT: lost certification
	1040: again, // too many connections
	1203: again, // too many connections of this user
	1053: again, // server shutdown in progress
	1927: again, // connection was killed, MariaDB
	1317: again, // query interrupted
	1290: again, // read-only: a demoted primary; the pool's next connection may reach the new one
	1792: again, // read-only transaction
	1836: again, // read-only mode
	1047: again, // Galera: this node is not in the primary component
	6400: again, // Group Replication: this member has no majority

	1146: schema, // no such table
	1054: schema, // unknown column
	1176: schema, // no such index
	1364: schema, // a column that this library does not know has no default
}

func sort(err error) verdict {
	var server *mysql.MySQLError
	var network net.Error
	switch {
	case errors.As(err, &server):
		return verdicts[server.Number]
	case errors.Is(err, errLostRace), errors.Is(err, errInDoubt),
		errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &network):
		return again
	}
	return final
}

// rolledBack reports whether an error of COMMIT says that nothing was committed.
func rolledBack(err error) bool {
	var server *mysql.MySQLError
	return errors.Is(err, driver.ErrBadConn) || errors.As(err, &server) && (server.Number == 1213 || server.Number == 3101)
}

// quotable withholds the text of a syntax error, which quotes the statement and, where the host interpolates
// parameters, a token.
func quotable(err error) error {
	var server *mysql.MySQLError
	if errors.As(err, &server) && server.Number == 1064 {
		return &mysql.MySQLError{Number: 1064, Message: "the server does not understand the statement"}
	}
	return err
}
