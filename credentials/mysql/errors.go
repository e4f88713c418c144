package mysql

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

// The store's own errors. None but errDeleted leaves the store as such.
var (
	// errDeleted says that every server that was reached knows no such row.
	errDeleted = fmt.Errorf("%w: the credential was deleted", credentials.ErrSuperseded)

	// errLostRace says that the conditional UPDATE found the row changed, although this transaction
	// had locked the row: row locks are not honoured between nodes.
	errLostRace = errors.New("another claim changed the row first")

	// errInDoubt says that the reply to a COMMIT was lost, and that its claims are not to be seen
	// yet. To claim again would make two batches of one.
	errInDoubt = errors.New("nobody knows whether the claims were committed")

	// errBehind says that the server has not applied the claim, or the row, that the call is about.
	// Nothing was written.
	errBehind = errors.New("the server that was reached has not applied the claim yet")

	// errLogsStatements has the next try made under REPEATABLE READ.
	errLogsStatements = errors.New("the server logs statements")

	// errCommit says that nobody knows whether the transaction was committed.
	errCommit = errors.New("COMMIT")

	// errColumnType stands for a failed conversion, whose own text quotes the value.
	errColumnType = errors.New("a column does not have the type that the migrations gave it")
)

// databaseError is an error of the driver or of the server, and none of the store's own.
type databaseError struct{ error }

func (e *databaseError) Unwrap() error { return e.error }

// failed returns the error of a statement or of a connection as it may leave the store. The
// server's text is left out, since many texts quote a value or the statement, and so a token. The
// number and the state remain, with words of our own. The end of a try's time is no context's error
// to errors.Is: the caller's context may have more time (see Store.retry).
func failed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &databaseError{errors.New(err.Error())}
	}
	if unverified(err) {
		return &databaseError{fmt.Errorf("the server's certificate is not one that the DSN's tls setting "+
			"accepts: is this the right server, and are the authority and the host's name right? %w", err)}
	}
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		err = &mysql.MySQLError{Number: server.Number, SQLState: server.SQLState, Message: words(server.Number)}
	}
	return &databaseError{err}
}

// number returns the number of the server's error, or 0.
func number(err error) uint16 {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		return server.Number
	}
	return 0
}

// disposition is the consequence of an error for the call and for its connection.
type disposition int

const (
	retryable      disposition = iota // the error may pass, and another connection may not meet it
	conflict                          // the error may pass, and the connection is as good as another
	elsewhere                         // the server is behind, and another connection may lead elsewhere
	notLetIn                          // the error may pass, but not within the call
	notRetryable                      // repeating the call would not help
	schemaMismatch                    // the table is not the one that this library expects
)

// classify returns the consequence of an error. Every call may be repeated, so an error that is not
// known to last is taken for one that passes.
func classify(err error) disposition {
	var database *databaseError
	switch {
	case errors.Is(err, errLostRace), errors.Is(err, errInDoubt), errors.Is(err, errLogsStatements):
		return conflict
	case errors.Is(err, errBehind):
		return elsewhere
	case errors.Is(err, errColumnType):
		return schemaMismatch
	case !errors.As(err, &database):
		return notRetryable
	}
	for _, lasting := range lastingDriverErrors {
		if errors.Is(err, lasting) {
			return notRetryable
		}
	}
	if unverified(err) {
		return notLetIn
	}
	var server *mysql.MySQLError
	if !errors.As(err, &server) {
		return retryable
	}
	if known, ok := serverErrors[server.Number]; ok {
		return known
	}
	if slices.Contains(lastingStates, string(server.SQLState[:2])) {
		return notRetryable
	}
	return retryable
}

// lastingStates are the classes of SQLSTATE under which the statement, its data or the account is
// at fault: cardinality, data, constraint, authorization, syntax or access rule, not supported, no
// database selected, raised by a trigger.
var lastingStates = []string{"21", "22", "23", "28", "42", "0A", "3D", "45"}

// serverErrors are the errors whose SQLSTATE does not tell the disposition.
// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
var serverErrors = map[uint16]disposition{
	1213: conflict, // deadlock: the transaction is gone
	1205: conflict, // lock wait time-out, and NOWAIT on MariaDB
	3572: conflict, // NOWAIT found the row locked
	1020: conflict, // record changed since last read, MariaDB
	1180: conflict, // error during COMMIT: lost certification
	3101: conflict, // the same, Group Replication
	3024: conflict, // statement time-out
	1969: conflict, // the same, MariaDB
	1568: conflict, // SET TRANSACTION where the host left a transaction open; the ROLLBACK ends it

	1203: retryable, // too many connections of this user; its state, 42000, is that of the next two
	1226: retryable, // a limit of this user's, by the hour or at once
	1461: retryable, // too many prepared statements: #error_er_max_prepared_stmt_count_reached
	4031: retryable, // the session was idle for too long: #error_er_client_interaction_timeout

	// A new connection is refused, and connections of the pool may go on: a password is being
	// replaced, or the server has just been told to insist on TLS. A call makes one try, since each
	// counts as a failed login where the server counts those.
	// https://dev.mysql.com/doc/refman/8.4/en/password-management.html
	// https://dev.mysql.com/doc/refman/8.4/en/using-encrypted-connections.html
	1045: notLetIn, // access denied: #error_er_access_denied_error
	1698: notLetIn, // the same, without a password
	3159: notLetIn, // TLS is required (MariaDB: 1045): #error_er_secure_transport_required

	1048: notRetryable, // the column cannot be NULL
	1153: notRetryable, // packet larger than max_allowed_packet
	1265: notRetryable, // data truncated
	1366: notRetryable, // incorrect value for the column
	1406: notRetryable, // data too long
	1665: notRetryable, // READ COMMITTED under binlog_format=STATEMENT
	1820: notRetryable, // the password has expired
	1862: notRetryable, // the password has expired
	3118: notRetryable, // the account is locked
	4151: notRetryable, // the same, MariaDB
	3098: notRetryable, // Group Replication does not take this table
	3819: notRetryable, // CHECK violated
	4025: notRetryable, // CHECK violated, MariaDB

	1146: schemaMismatch, // no such table
	1054: schemaMismatch, // unknown column
	1176: schemaMismatch, // no such index
	1364: schemaMismatch, // a column that this library does not know has no default
}

// lastingDriverErrors stand for mistakes in the host's DSN and statements that no server will take.
var lastingDriverErrors = []error{
	mysql.ErrNoTLS, mysql.ErrCleartextPassword, mysql.ErrNativePassword, mysql.ErrOldPassword,
	mysql.ErrUnknownPlugin, mysql.ErrOldProtocol, mysql.ErrPktTooLarge,
}

// unverified reports whether the server's certificate was not verified. The certificate may be
// about to be replaced, so that the error may pass, but not within the call.
func unverified(err error) bool {
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &certificate)
}

// mayBeCommitted reports whether the error leaves open if the transaction was committed.
func mayBeCommitted(err error) bool { return errors.Is(err, errCommit) }

// rolledBack reports whether an error of COMMIT says that nothing was committed.
func rolledBack(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || slices.Contains([]uint16{1213, 3101}, number(err))
}

// notUnderstood reports whether the server could not parse the statement; err is the driver's own.
// Vitess has no number of its own for such statements.
func notUnderstood(err error) bool {
	var server *mysql.MySQLError
	return errors.As(err, &server) && (server.Number == 1064 || server.Number == 1149 ||
		server.Number == 1105 && strings.Contains(server.Message, "syntax error"))
}

// rowLocked reports whether the error says that another transaction holds the row's lock.
func rowLocked(err error) bool { return slices.Contains([]uint16{1205, 3572}, number(err)) }

// isDenied reports whether the account lacks a privilege on the table or on a column of it.
func isDenied(err error) bool { return slices.Contains([]uint16{1142, 1143}, number(err)) }

// noDatabase is said of a DSN without a database, before any table is looked for.
const noDatabase = "the DSN names no database; add one, as in user:password@tcp(host:3306)/DATABASE"

// words describe a server's error for people.
func words(number uint16) string {
	if text, ok := serverWords[number]; ok {
		return text
	}
	return "the server's text is withheld, since it may quote a value; " +
		"its error reference explains the number"
}

var serverWords = map[uint16]string{
	1040: "too many connections",
	1044: "access denied: the account may not use this database",
	1045: "access denied: the user, the password or the client's host is wrong, or TLS is required",
	1046: noDatabase,
	1047: "this node is not in the primary component",
	1049: "no such database",
	1053: "the server is shutting down",
	1054: "unknown column",
	1062: "a unique key that the migrations did not make turns the value down",
	1064: "the server does not understand the statement",
	1129: "the server blocks this host, since many of its connections were interrupted; FLUSH HOSTS (or " +
		"TRUNCATE TABLE performance_schema.host_cache) lets it in again, and a higher max_connect_errors " +
		"keeps it from that",
	1142: "access denied: the account lacks a privilege on the table (tokens need SELECT and UPDATE, " +
		"Put and Ensure need INSERT, Delete needs DELETE)",
	1143: "access denied: the account lacks a privilege on a column",
	1146: "no such table",
	1153: "the statement is larger than the server's max_allowed_packet",
	1176: "no such index",
	1203: "too many connections of this user",
	1205: "the row is locked by another transaction",
	1213: "deadlock",
	1226: "a limit of this user's has been reached",
	1227: "access denied: the account lacks a privilege",
	1264: "a value is out of its column's range; was the column altered?",
	1265: "a value does not fit its column; was the column altered?",
	1290: "the server is read-only, or forbids this by another option",
	1292: "a value does not fit its column's type; was the column altered?",
	1317: "the statement was interrupted",
	1364: "a column without a default is unknown to this library",
	1366: "a value does not fit its column's type; was the column altered?",
	1406: "a value is longer than its column; was the column altered?",
	1461: "too many prepared statements: the server's max_prepared_stmt_count is reached; " +
		"interpolateParams=true in the DSN prepares none",
	1568: "a transaction was left open on the connection",
	1665: "the server logs statements (binlog_format=STATEMENT), under which READ COMMITTED cannot write; " +
		"set ROW or MIXED",
	1698: "access denied: the account does not log in with a password, or with another one",
	1792: "the transaction is read-only",
	1836: "the server is read-only",
	2003: "the router reaches no server",
	3032: "the server is in offline mode",
	3100: "the group did not take the transaction in time",
	3101: "another node's transaction came first",
	3159: "the server insists on TLS (require_secure_transport); set tls in the DSN",
	3572: "the row is locked by another transaction",
	3819: "a CHECK of the table turns the value down",
	4025: "a CHECK of the table turns the value down",
	4031: "the server has ended a session that was idle for longer than its wait_timeout",
	6400: "this member is not in the group's majority",
}
