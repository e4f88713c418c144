package integration_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// transaction begins one, as another program has it on the table.
func transaction(t *testing.T, db *sql.DB, statements ...string) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(bounded(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	for _, statement := range statements {
		if _, err := tx.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return tx
}

const (
	lockAliceByID  = "SELECT id FROM credentials WHERE id = 1 FOR UPDATE" // the first row of its table
	lockAliceByKey = "SELECT id FROM credentials WHERE service_name = 'github' AND account_name = 'alice' FOR UPDATE"
)

// waitsLong are options under which a claim waits for a locked row until blocked has seen that, on a busy machine too.
var waitsLong = credentials.Options{StoreTimeout: 5 * time.Second}

// blocked waits until a transaction of that database waits for a lock.
func blocked(t *testing.T, s *server, database string) {
	t.Helper()
	connections := "SELECT processlist_id FROM performance_schema.threads WHERE processlist_db = ?"
	if s.mariadb {
		connections = "SELECT id FROM information_schema.processlist WHERE db = ?"
	}
	eventually(t, "a claim to wait for the row", func() bool {
		time.Sleep(110 * time.Millisecond) // the table is a copy that is made anew when nobody has read it for 100 ms
		return query[int](t, s.admin, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' "+
			"AND trx_mysql_thread_id IN ("+connections+")", database) > 0
	})
}

// TestDeadlock (1213): another program's transaction has locked the row by its id, and then goes by the key, whose index
// entry the waiting claim has locked. The server ends the claim's transaction, which has written less; the claim is made
// again and its caller learns nothing.
func TestDeadlock(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		execute(t, st.db, "CREATE TABLE ballast (n INT)")
		other := transaction(t, s.open(t, st.database, ""),
			"INSERT INTO ballast VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
			"INSERT INTO ballast SELECT a.n FROM ballast AS a, ballast AS b", lockAliceByID)
		w := &wire{}
		db := s.openWire(t, st.database, "", w)
		answers := ask(bounded(t), st.manager(newStore(t, db), credentials.Options{StoreTimeout: patience / 2, Lease: time.Minute}), 1)
		blocked(t, s, st.database)
		if _, err := other.Exec(lockAliceByKey); err != nil {
			t.Fatalf("the other program's transaction was ended in place of the claim's: %v", err)
		}
		eventually(t, "the claim to begin again", func() bool { return w.count("START TRANSACTION") >= 2 })
		if err := other.Commit(); err != nil {
			t.Fatal(err)
		}
		st.kept(granted(t, "the caller", receive(t, "an answer", answers)))
		equal(t, "Version of the row", st.row().Version, 3)
		st.called(1)
		idle(t, db)
		noTransaction(t, s, st.database)
	})
}

// TestRowHeldForLong (1205): another program keeps the row locked for longer than a call of the store may take. The
// callers get ErrUnavailable; nobody else's credential waits; a grant is saved when the row is free.
func TestRowHeldForLong(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		db := s.open(t, st.database, interpolated+"&innodb_lock_wait_timeout=1")
		m := st.manager(newStore(t, db), waitsLong)
		bob := credentials.Key{Service: alice.Service, Account: "bob"}
		put(t, st.store, bob, credentials.Grant{RefreshToken: credentials.NewSecret(st.p.Register(bob.Account))})
		presented := st.hold(1) // after bob's
		locking := s.open(t, st.database, "")

		other := transaction(t, locking, lockAliceByID)
		first := ask(bounded(t), m, 1)
		blocked(t, s, st.database)
		if _, err := m.Token(bounded(t), bob); err != nil {
			t.Errorf("bob, while alice's row is locked: %v", err)
		}
		select {
		case a := <-first:
			t.Errorf("alice had an answer before bob, error %v; this test tests nothing", a.err)
		default:
		}
		_ = unavailable(t, "a caller of the claim", first)
		_ = other.Rollback()

		first = ask(bounded(t), m, 1)
		for range 2 {
			receive(t, "the presentations", st.arrived)
		}
		other = transaction(t, locking, lockAliceByID)
		close(presented.open)
		_ = unavailable(t, "a caller of the save", first)
		_ = other.Rollback()
		eventually(t, "the token to be saved", func() bool { return !st.row().Token.IsZero() })
		st.kept(granted(t, "the next caller", token(t, m)))
		st.called(2)
		idle(t, db)
		noTransaction(t, s, st.database)
	})
}

// TestBlockedRowAndPoolOfOne: the process has one connection, and the claim of a locked row waits on it. What is cached
// is served meanwhile, and the other credentials have their turns between that one's attempts.
func TestBlockedRowAndPoolOfOne(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		db := s.open(t, st.database, interpolated)
		db.SetMaxOpenConns(1)
		m := st.manager(newStore(t, db), waitsLong)
		bob := credentials.Key{Service: alice.Service, Account: "bob"}
		carol := credentials.Key{Service: alice.Service, Account: "carol"}
		put(t, st.store, bob, credentials.Grant{RefreshToken: credentials.NewSecret(st.p.Register(bob.Account))})
		put(t, st.store, carol, renewal("carol's").Grant)
		if _, err := m.Token(bounded(t), carol); err != nil {
			t.Fatal(err)
		}
		other := transaction(t, s.open(t, st.database, ""), lockAliceByID)
		first := ask(bounded(t), m, 1)
		blocked(t, s, st.database)
		if token, err := m.Token(bounded(t), carol); err != nil || token.Value.Reveal() != "carol's" {
			t.Errorf("a cached token: got %q, error %v", token.Value.Reveal(), err)
		}
		eventually(t, "bob's token", func() bool { _, err := m.Token(bounded(t), bob); return err == nil })
		_ = unavailable(t, "alice's caller", first)
		_ = other.Rollback()
		st.kept(granted(t, "alice's next caller", token(t, m)))
		st.called(2)
		idle(t, db)
	})
}
