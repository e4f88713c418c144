package integration_test

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// pair is a primary and its standby. On the primary, app is a user whom a read-only server turns
// down, unlike root on MariaDB, with a migrated database of its own; replication takes them over.
type pair struct {
	primary, standby *private
	password         string // of the users app and replica
}

const pairDatabase = "latchkey_pair"

func startPair(t *testing.T, kind string) *pair {
	t.Helper()
	p := &pair{startPrivate(t, kind), startPrivate(t, kind), rand.Text()}
	execute(t, p.standby.admin, "SET GLOBAL server_id = 2")
	for _, s := range []*private{p.primary, p.standby} {
		s.createUser(t, "replica", p.password, "REPLICATION SLAVE ON *.*")
	}
	p.follow(t, p.standby, p.primary)
	execute(t, p.primary.admin, "CREATE DATABASE "+pairDatabase)
	p.primary.createUser(t, "app", p.password, "ALL ON "+pairDatabase+".*")
	migrate(t, p.primary.open(t, pairDatabase, ""), nil)
	return p
}

// follow makes a read-only replica of one that has the same data.
func (p *pair) follow(t *testing.T, replica, source *private) {
	t.Helper()
	file, position := binlogEnd(t, source)
	host, port, err := net.SplitHostPort(source.reach)
	must(t, err)
	change := "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %s, " +
		"SOURCE_USER = 'replica', SOURCE_PASSWORD = '%s', SOURCE_LOG_FILE = '%s', SOURCE_LOG_POS = %s, " +
		"SOURCE_CONNECT_RETRY = 1, GET_SOURCE_PUBLIC_KEY = 1"
	if replica.mariadb {
		change = "CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %s, " +
			"MASTER_USER = 'replica', MASTER_PASSWORD = '%s', MASTER_LOG_FILE = '%s', MASTER_LOG_POS = %s, " +
			"MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = no"
	}
	execute(t, replica.admin, fmt.Sprintf(change, host, port, p.password, file, position))
	replication(t, replica, "START REPLICA")
	setReadOnly(t, replica.server, true)
}

// replication executes a statement in the words that MariaDB has too.
func replication(t *testing.T, s *private, statement string) {
	t.Helper()
	if s.mariadb {
		statement = strings.Replace(statement, "REPLICA", "SLAVE", 1)
	}
	execute(t, s.admin, statement)
}

// binlogEnd is the end of the server's binary log.
func binlogEnd(t *testing.T, s *private) (file, position string) {
	t.Helper()
	statement := "SHOW BINARY LOG STATUS"
	if s.mariadb {
		statement = "SHOW MASTER STATUS"
	}
	status := rowsOf(t, s.admin, statement)[0]
	return status.text("File"), status.text("Position")
}

// settle waits until the standby has everything that the primary has committed.
func (p *pair) settle(t *testing.T) {
	t.Helper()
	file, position := binlogEnd(t, p.primary)
	master := "SOURCE"
	if p.standby.mariadb {
		master = "MASTER"
	}
	reached := query[sql.NullInt64](t, p.standby.admin,
		fmt.Sprintf("SELECT %s_POS_WAIT('%s', %s, %d)",
			master, file, position, patience/time.Second))
	if !reached.Valid || reached.Int64 < 0 {
		t.Fatalf("the standby does not get what the primary has committed: %+v", reached)
	}
}

// promote makes the standby the primary when it has everything that the read-only primary has
// committed. The other is its standby from then on.
func (p *pair) promote(t *testing.T) {
	t.Helper()
	p.settle(t)
	replication(t, p.standby, "STOP REPLICA")
	replication(t, p.standby, "RESET REPLICA ALL")
	p.follow(t, p.primary, p.standby)
	setReadOnly(t, p.standby.server, false)
	p.primary, p.standby = p.standby, p.primary
}
