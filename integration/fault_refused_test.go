//go:build unix

package integration_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// openAs returns a pool of an account that may use the stage's table and has no privilege beside: what administrators
// may do, read_only and max_connections do not keep them from.
func (st *stage) openAs(t *testing.T, user string) *sql.DB {
	t.Helper()
	password := "Pw-" + st.database
	for _, statement := range []string{
		"CREATE USER '" + user + "'@'%' IDENTIFIED BY '" + password + "'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON `" + st.database + "`.* TO '" + user + "'@'%'",
	} {
		execute(t, st.s.admin, statement)
	}
	config := st.s.configFor(t, st.database, interpolated)
	config.User, config.Passwd = user, password
	db := open(config)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// readOnly (1290): the server has become a replica, as after a fail-over that the host's DSN does not follow. Tokens
// that are good are read; no other caller waits for long; a grant that is under way is saved when writes are possible.
func readOnly(t *testing.T, s *server) {
	on, off := "SET GLOBAL super_read_only = ON", "SET GLOBAL read_only = OFF"
	if s.mariadb {
		on = "SET GLOBAL read_only = ON"
	}
	st := newStage(t, s, provider.Options{})
	db := st.openAs(t, "reader")
	presented := st.hold(0)
	exchanging := st.manager(newStore(t, db), hurried)
	first := askSoon(t, exchanging)
	receive(t, "the presentation", st.arrived)
	bob := credentials.Key{Service: alice.Service, Account: "bob"}
	carol := credentials.Key{Service: alice.Service, Account: "carol"}
	put(t, st.store, bob, renewal("bob's").Grant)
	put(t, st.store, carol, credentials.Grant{RefreshToken: credentials.NewSecret(st.p.Register(carol.Account))})

	execute(t, s.admin, on)
	t.Cleanup(func() { execute(t, s.admin, off) })
	close(presented.open)
	m := st.manager(newStore(t, db), hurried)
	if token, err := m.Token(bounded(t), bob); err != nil || token.Value.Reveal() != "bob's" {
		t.Errorf("a good token on a read-only server: got %q, error %v", token.Value.Reveal(), err)
	}
	limited, cancel := context.WithTimeout(bounded(t), soon)
	defer cancel()
	_, err := m.Token(limited, carol)
	refusal := make(chan got, 1)
	refusal <- got{err: err}
	for who, answers := range map[string]<-chan got{"a caller of a claim": refusal, "a caller of a save": first} {
		if err := unavailable(t, who, answers); err != nil && !strings.Contains(err.Error(), "read") {
			t.Errorf("%s: the error does not say why: %v", who, err)
		}
	}
	st.called(1)

	execute(t, s.admin, off)
	rescued(t, st, exchanging)
	if _, err := m.Token(bounded(t), carol); err != nil {
		t.Errorf("a claim after the server can be written to: %v", err)
	}
	idle(t, db)
}

// tooManyConnections (1040): others have taken all of the server's.
func tooManyConnections(t *testing.T, s *server) {
	st := newStage(t, s, provider.Options{})
	db := st.openAs(t, "crowd")
	db.SetMaxIdleConns(0) // each call needs a new one
	m := st.manager(newStore(t, db), credentials.Options{StoreTimeout: time.Second, Recheck: 50 * time.Millisecond})
	bob := credentials.Key{Service: alice.Service, Account: "bob"}
	put(t, st.store, bob, renewal("bob's").Grant)
	if _, err := m.Token(bounded(t), bob); err != nil {
		t.Fatal(err)
	}
	presented := st.hold(0)
	exchanging := st.manager(newStore(t, db), hurried)
	first := askSoon(t, exchanging)
	receive(t, "the presentation", st.arrived)

	before := query[int](t, s.admin, "SELECT @@GLOBAL.max_connections")
	execute(t, s.admin, "SET GLOBAL max_connections = 10")
	t.Cleanup(func() { execute(t, s.admin, "SET GLOBAL max_connections = ?", before) })
	crowd, err := mysql.ParseDSN(s.dsn(st.database, ""))
	if err != nil {
		t.Fatal(err)
	}
	crowd.User, crowd.Passwd, crowd.Logger = "crowd", "Pw-"+st.database, &mysql.NopLogger{}
	taken := open(crowd)
	t.Cleanup(func() { _ = taken.Close() })
	var connections []*sql.Conn
	for {
		connection, err := taken.Conn(bounded(t))
		connections = append(connections, connection)
		if err != nil {
			if !strings.Contains(err.Error(), "1040") {
				t.Fatal(err)
			}
			break
		}
	}
	close(presented.open)
	for who, answers := range map[string]<-chan got{"a caller who reads": askSoon(t, m), "a caller of a save": first} {
		if err := unavailable(t, who, answers); err != nil && !strings.Contains(err.Error(), "Too many connections") {
			t.Errorf("%s: the error does not say why: %v", who, err)
		}
	}
	if token, err := m.Token(bounded(t), bob); err != nil || token.Value.Reveal() != "bob's" {
		t.Errorf("a cached token: got %q, error %v", token.Value.Reveal(), err)
	}
	for _, connection := range connections[:len(connections)-1] {
		_ = connection.Close()
	}
	_ = taken.Close()
	rescued(t, st, exchanging)
	idle(t, db)
}
