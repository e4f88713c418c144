package integration_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// refusedNow fails the test unless the call is refused with ErrUnavailable and that text, and at
// once: it makes one try.
func refusedNow(t *testing.T, what string, call func(context.Context) error, text string) {
	t.Helper()
	began := time.Now()
	err := call(bounded(t))
	if !errors.Is(err, credentials.ErrUnavailable) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got error %v, want ErrUnavailable with %q", what, err, text)
	}
	if took := time.Since(began); took > patience/2 { // it would try for all of patience
		t.Errorf("%s: took %v", what, took)
	}
}

// getting reads alice's credential.
func getting(store *latchkey.Store) func(context.Context) error {
	return func(ctx context.Context) error { return errOf(store.Get(ctx, alice)) }
}

// checking is the check of a store for which SELECT and UPDATE will do.
func checking(store *latchkey.Store) func(context.Context) error {
	return func(ctx context.Context) error { return store.Check(ctx) }
}

// connected returns a store with an idle connection of its own.
func connected(t *testing.T, db *sql.DB) *latchkey.Store {
	t.Helper()
	store := newStore(t, db)
	must(t, getting(store)(bounded(t)))
	idle(t, db)
	return store
}

// TestPasswordIsReplaced (1045): connections go on, new ones are refused for as long as the DSN has
// the old password, and let in when it has the new one.
func TestPasswordIsReplaced(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		seed(t, newStore(t, s.open(t, database, "")), alice)
		user := "app_" + strings.ToLower(rand.Text()[:10])
		s.createUser(t, user, "old", "ALL ON `"+database+"`.*")
		t.Cleanup(func() { execute(t, s.admin, "DROP USER '"+user+"'@'%'") })

		before := connected(t, s.openAs(t, database, user, "old"))
		execute(t, s.admin, "ALTER USER '"+user+"'@'%' IDENTIFIED BY 'new'")
		succeeds(t, "Get on a connection from before", getting(before)(bounded(t)))
		late := newStore(t, s.openAs(t, database, user, "old"))
		for what, call := range map[string]func(context.Context) error{
			"Get":   getting(late),
			"Check": checking(late),
			"Put":   func(ctx context.Context) error { return late.Put(ctx, alice, refreshToken("new")) },
		} {
			refusedNow(t, what, call, "the password")
		}
		execute(t, s.admin, "ALTER USER '"+user+"'@'%' IDENTIFIED BY 'old'")
		succeeds(t, "Get with the password that is the account's again", getting(late)(bounded(t)))
	})
}

// TestServerInsistsOnTLS (3159) from some moment on.
func TestServerInsistsOnTLS(t *testing.T) {
	onPrivateServers(t, func(t *testing.T, s *private) {
		database := s.migrated(t)
		seed(t, newStore(t, s.open(t, database, "")), alice)
		before := connected(t, s.open(t, database, ""))
		execute(t, s.admin, "SET GLOBAL require_secure_transport = ON")
		succeeds(t, "Get on a connection from before", getting(before)(bounded(t)))
		late := newStore(t, s.open(t, database, ""))
		refusedNow(t, "Get", getting(late), "TLS")
		refusedNow(t, "Check", checking(late), "TLS")
		execute(t, s.admin, "SET GLOBAL require_secure_transport = OFF")
		succeeds(t, "Get when the server does not insist any more", getting(late)(bounded(t)))
		mayNotPrepare(t, s.server, database)
	})
}

// mayNotPrepare (1461): the server takes no more prepared statements. A call tries until it does,
// and an interpolated statement is not prepared.
func mayNotPrepare(t *testing.T, s *server, database string) {
	store := newStore(t, s.open(t, database, ""))
	interpolating := newStore(t, s.open(t, database, interpolated))
	before := query[string](t, s.admin, "SELECT @@max_prepared_stmt_count")
	execute(t, s.admin, "SET GLOBAL max_prepared_stmt_count = 0")
	succeeds(t, "Get, interpolated", getting(interpolating)(bounded(t)))
	err := getting(store)(within(t, time.Second))
	failsAs(t, "Get", err, credentials.ErrUnavailable)
	failsWith(t, "Get", err, "interpolateParams=true")
	answer := start(func() error { return getting(store)(bounded(t)) })
	execute(t, s.admin, "SET GLOBAL max_prepared_stmt_count = "+before)
	succeeds(t, "Get when there is room again", receive(t, "the answer", answer))
}

// TestIdleForTooLong (4031): the server has ended the pool's connections. A call goes on with
// another one, and a write is made once.
func TestIdleForTooLong(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "wait_timeout=1&checkConnLiveness=false")
		db.SetMaxOpenConns(1)
		store := newStore(t, db)
		seed(t, store, alice)
		sessions := "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_id = ?"
		if s.mariadb { // whose performance_schema is switched off
			sessions = "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?"
		}
		for _, call := range []func() error{
			func() error { return getting(store)(bounded(t)) },
			func() error { return store.Put(bounded(t), alice, renewal("new").Grant) },
		} {
			id := query[int](t, db, "SELECT CONNECTION_ID()")
			eventually(t, "the server to end the session", func() bool {
				return query[int](t, s.admin, sessions, id) == 0
			})
			equal(t, "connections that the pool believes in", db.Stats().OpenConnections, 1)
			succeeds(t, "a call after that", call())
		}
		equal(t, "Version after two puts", get(t, store, alice).Version, 2)
	})
}
