package mysql

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

// server is a server's error with a text that quotes a token.
func server(number uint16, state string) error {
	e := &mysql.MySQLError{Number: number, Message: "hunter2 said the server"}
	copy(e.SQLState[:], state)
	return failed(fmt.Errorf("wrapped: %w", e))
}

var dispositions = []struct {
	name string
	err  error
	want disposition
}{
	{"deadlock", server(1213, "40001"), conflict},
	{"lock wait time-out", server(1205, "HY000"), conflict},
	{"NOWAIT", server(3572, "HY000"), conflict},
	{"the host's open transaction", server(1568, "25001"), conflict},
	{"lost race", errLostRace, conflict},

	{"certification failed", server(1180, "HY000"), conflict},
	{"another node's transaction", server(3101, "HY000"), conflict},
	{"statement time-out", server(3024, "HY000"), conflict},
	{"read-only", server(1290, "HY000"), retryable},
	{"read-only transaction", server(1792, "25006"), retryable},
	{"read-only mode", server(1836, "HY000"), retryable},
	{"not in the primary component", server(1047, "08S01"), retryable},
	{"no majority", server(6400, "HY000"), retryable},
	{"group's time-out", server(3100, "HY000"), retryable},
	{"Router without server", server(2003, "HY000"), retryable},
	{"offline mode", server(3032, "HY000"), retryable},
	{"too many connections", server(1040, ""), retryable},
	{"too many connections of a user", server(1226, "42000"), retryable},
	{"disconnected for inactivity", server(4031, "HY000"), retryable},
	{"too many prepared statements", server(1461, "42000"), retryable},
	{"prepared statement is to be prepared again", server(1615, "HY000"), retryable},
	{"unknown error, as of Vitess", server(1105, "HY000"), retryable},
	{"session killed", server(3169, "HY000"), retryable},
	{"TiKV server timeout", server(9001, "HY000"), retryable},
	{"TiDB GC", server(9006, "HY000"), retryable},
	{"a number of the future", server(59999, "HY000"), retryable},
	{"reply lost", failed(mysql.ErrInvalidConn), retryable},
	{"malformed packet", failed(mysql.ErrMalformPkt), retryable},
	{"out of sync", failed(mysql.ErrPktSync), retryable},
	{"out of sync, several", failed(mysql.ErrPktSyncMul), retryable},
	{"busy buffer", failed(mysql.ErrBusyBuffer), retryable},
	{"nothing sent", failed(driver.ErrBadConn), retryable},
	{"connection given back", failed(sql.ErrConnDone), retryable},
	{"cut off", failed(io.ErrUnexpectedEOF), retryable},
	{"refused", failed(&net.OpError{Op: "dial", Err: errors.New("connection refused")}), retryable},
	{"time-out", failed(context.DeadlineExceeded), retryable},

	{"access denied", server(1045, "28000"), notLetIn},
	{"access denied, no password", server(1698, "28000"), notLetIn},
	{"TLS required", server(3159, "HY000"), notLetIn},
	{"TLS required, MariaDB", server(3159, "08004"), notLetIn},
	{"unknown certificate", failed(&tls.CertificateVerificationError{Err: errors.New("x509")}), notLetIn},

	{"no such table", server(1146, "42S02"), schemaMismatch},
	{"no such column", server(1054, "42S22"), schemaMismatch},
	{"a column that wants a value", server(1364, "HY000"), schemaMismatch},
	{"a column of another type", errColumnType, schemaMismatch},

	{"no database", server(1046, "3D000"), notRetryable},
	{"no privilege", server(1142, "42000"), notRetryable},
	{"syntax error", server(1064, "42000"), notRetryable},
	{"duplicate key", server(1062, "23000"), notRetryable},
	{"data too long", server(1406, "22001"), notRetryable},
	{"data truncated", server(1265, "01000"), notRetryable},
	{"incorrect value", server(1366, "HY000"), notRetryable},
	{"CHECK violated", server(3819, "HY000"), notRetryable},
	{"CHECK violated, MariaDB", server(4025, "23000"), notRetryable},
	{"TLS that the server has not", failed(mysql.ErrNoTLS), notRetryable},
	{"superseded", credentials.ErrSuperseded, notRetryable},
	{"not found", fmt.Errorf("wrapped: %w", credentials.ErrNotFound), notRetryable},
}

func TestClassify(t *testing.T) {
	for _, test := range dispositions {
		if got := classify(test.err); got != test.want {
			t.Errorf("%s (%v): got disposition %d, want %d", test.name, test.err, got, test.want)
		}
	}
}
