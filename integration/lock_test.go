package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// noTransaction fails the test unless the database's connections soon have no transaction open.
func noTransaction(t *testing.T, s *server, database string) {
	t.Helper()
	// Its innodb_trx MySQL cannot read while anybody's statement has bytes or an emoji in it;
	// MariaDB's performance_schema is switched off.
	statement := `SELECT COUNT(*) FROM performance_schema.events_transactions_current AS trx
		JOIN performance_schema.threads USING (thread_id) WHERE trx.state = 'ACTIVE' AND processlist_db = ?`
	if s.mariadb {
		statement = `SELECT COUNT(*) FROM information_schema.innodb_trx
			WHERE trx_mysql_thread_id IN (SELECT id FROM information_schema.processlist WHERE db = ?)`
	}
	eventually(t, "all transactions to have ended", func() bool {
		// MariaDB's table is a copy that is made anew when nobody has read it for 100 ms.
		time.Sleep(110 * time.Millisecond)
		return query[int](t, s.admin, statement, database) == 0
	})
}

// transaction begins one, as another program has it on the table.
func transaction(t *testing.T, db *sql.DB, statements ...string) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(bounded(t), nil)
	must(t, err)
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

// waitsLong are options under which a claim waits for a locked row until blocked has seen that, on
// a busy machine too.
var waitsLong = credentials.Options{StoreTimeout: 5 * time.Second}

// blocked waits until a transaction of that database waits for a lock.
func blocked(t *testing.T, s *server, database string) {
	t.Helper()
	waiting(t, s, database, 1)
}

// waiting waits until n transactions of that database wait for locks.
func waiting(t *testing.T, s *server, database string, n int) {
	t.Helper()
	statement := `SELECT COUNT(DISTINCT requesting_thread_id) FROM performance_schema.data_lock_waits
		JOIN performance_schema.threads ON thread_id = requesting_thread_id WHERE processlist_db = ?`
	if s.mariadb {
		statement = `SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'
			AND trx_mysql_thread_id IN (SELECT id FROM information_schema.processlist WHERE db = ?)`
	}
	eventually(t, "transactions to wait for locks", func() bool {
		// MariaDB's table is a copy that is made anew when nobody has read it for 100 ms.
		time.Sleep(110 * time.Millisecond)
		return query[int](t, s.admin, statement, database) >= n
	})
}

// connections counts the connections to that database.
func connections(t *testing.T, s *server, database string) int {
	t.Helper()
	// MySQL cannot read its processlist while anybody's statement has bytes or an emoji in it.
	statement := "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_db = ?"
	if s.mariadb {
		statement = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = ?"
	}
	return query[int](t, s.admin, statement, database)
}

// TestDeadlock (1213): another program's transaction has locked the row by its id, and then goes by
// the key, whose index entry the waiting claim has locked. The server ends the claim's transaction,
// which has written less; the claim is made again and its caller learns nothing.
func TestDeadlock(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		execute(t, st.db, "CREATE TABLE ballast (n INT)")
		other := transaction(t, s.open(t, st.database, ""),
			"INSERT INTO ballast VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
			"INSERT INTO ballast SELECT a.n FROM ballast AS a, ballast AS b", lockAliceByID)
		w := &wire{}
		db := s.openWire(t, st.database, "", w)
		answers := ask(bounded(t), st.manager(newStore(t, db),
			credentials.Options{StoreTimeout: patience / 2, Lease: 4 * patience}), 1)
		blocked(t, s, st.database)
		if _, err := other.Exec(lockAliceByKey); err != nil {
			t.Fatalf("the other program's transaction was ended in place of the claim's: %v", err)
		}
		eventually(t, "the claim to begin again", func() bool {
			return w.count("ROLLBACK AND CHAIN") >= 2
		})
		must(t, other.Commit())
		st.kept(granted(t, "the caller", receive(t, "an answer", answers)))
		equal(t, "Version of the row", st.row().Version, 3)
		st.called(1)
		idle(t, db)
		noTransaction(t, s, st.database)
	})
}

// TestRowHeldForLong (1205): another program keeps the row locked for longer than a call of the
// store may take. The callers get ErrUnavailable; nobody else's credential waits; a grant is saved
// when the row is free.
func TestRowHeldForLong(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		db := s.open(t, st.database, interpolated+"&innodb_lock_wait_timeout=1")
		m := st.manager(newStore(t, db), waitsLong)
		bob := keyOf("bob")
		put(t, st.store, bob, refreshToken(st.p.Register(bob.Account)))
		presented := st.hold(1) // after bob's
		locking := s.open(t, st.database, "")

		other := transaction(t, locking, lockAliceByID)
		first := ask(bounded(t), m, 1)
		blocked(t, s, st.database)
		succeeds(t, "bob, while alice's row is locked", errOf(m.Token(bounded(t), bob)))
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
		eventually(t, "the token to be saved", func() bool {
			return !st.row().AccessToken.IsZero()
		})
		st.kept(granted(t, "the next caller", token(t, m)))
		st.called(2)
		idle(t, db)
		noTransaction(t, s, st.database)
	})
}

// TestBlockedRowAndPoolOfOne: the process has one connection, and the claim of a locked row waits
// on it. Cached tokens are served meanwhile, and the other credentials have their turns between
// that one's attempts.
func TestBlockedRowAndPoolOfOne(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		db := s.open(t, st.database, interpolated)
		db.SetMaxOpenConns(1)
		m := st.manager(newStore(t, db), waitsLong)
		bob := keyOf("bob")
		carol := keyOf("carol")
		put(t, st.store, bob, refreshToken(st.p.Register(bob.Account)))
		put(t, st.store, carol, renewal("carol's").Grant)
		must(t, errOf(m.Token(bounded(t), carol)))
		other := transaction(t, s.open(t, st.database, ""), lockAliceByID)
		first := ask(bounded(t), m, 1)
		blocked(t, s, st.database)
		if token, err := m.Token(bounded(t), carol); err != nil ||
			token.Value.Reveal() != "carol's" {
			t.Errorf("a cached token: got %q, error %v", token.Value.Reveal(), err)
		}
		eventually(t, "bob's token", func() bool {
			_, err := m.Token(bounded(t), bob)
			return err == nil
		})
		_ = unavailable(t, "alice's caller", first)
		_ = other.Rollback()
		st.kept(granted(t, "alice's next caller", token(t, m)))
		st.called(2)
		idle(t, db)
	})
}

// TestLockWaitTimeOut (1205): the claim tries again for as long as somebody else holds the row.
func TestLockWaitTimeOut(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		rolledBack := make(chan struct{}, 1000)
		w := &wire{statement: func(text []byte) fate {
			if strings.HasPrefix(string(text), "ROLLBACK AND NO CHAIN") {
				rolledBack <- struct{}{}
			}
			return deliver
		}}
		db := s.openWire(t, database, "innodb_lock_wait_timeout=1", w)
		db.SetMaxOpenConns(1)
		store := newStore(t, db)
		seed(t, store, alice)
		other := transaction(t, s.open(t, database, ""), lockAliceByKey)

		asked := claimOf("holder")
		claimed := make(chan credentials.Credential, 1)
		go func() {
			c, err := store.Claim(bounded(t), alice, asked)
			if err != nil {
				t.Errorf("Claim: %v", err)
			}
			claimed <- c
		}()
		receive(t, "the first time-out's ROLLBACK", rolledBack)
		_ = other.Rollback()
		c := receive(t, "the claim", claimed)
		equal(t, "Lease.ID", c.Lease.ID, asked.ID)
		equal(t, "Version", c.Version, 2)
		equal(t, "claims sent", w.count(beginsClaim), 1)
		noTransaction(t, s, database)
	})
}

// TestLockedRowsTakeFewConnections: another program holds rows for much longer than a call of the
// store may take, and callers ask for their tokens all the while. A statement whose caller gave up
// waits on in the server, so its connection counts there though the pool has forgotten it; such
// connections do not add up.
func TestLockedRowsTakeFewConnections(t *testing.T) {
	const pool, rows, held = 2, 5, 10 * time.Second
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		keys := []credentials.Key{alice}
		for i := range rows - 1 {
			key := keyOf(fmt.Sprint("other ", i))
			put(t, st.store, key, refreshToken(st.p.Register(key.Account)))
			keys = append(keys, key)
		}
		db := s.open(t, st.database, interpolated)
		db.SetMaxOpenConns(pool)
		before := connections(t, s, st.database)
		locking := s.open(t, st.database, "")
		other := transaction(t, locking, "SELECT id FROM credentials FOR UPDATE")
		before++

		m := st.manager(newStore(t, db), hurried)
		ctx, cancel := context.WithTimeout(bounded(t), held)
		defer cancel()
		for _, key := range keys {
			go func() {
				for ctx.Err() == nil {
					_, err := m.Token(ctx, key)
					if err != nil && ctx.Err() == nil &&
						!errors.Is(err, credentials.ErrUnavailable) {
						t.Errorf("%v: got error %v, want ErrUnavailable", key, err)
					}
				}
			}()
		}
		most := 0
		for ctx.Err() == nil {
			most = max(most, connections(t, s, st.database)-before)
			time.Sleep(20 * time.Millisecond)
		}
		t.Logf("%d connections at most", most)
		if most > 3*pool {
			t.Errorf("the store took %d connections at most, with a pool of %d", most, pool)
		}
		_ = other.Rollback()
		for _, key := range keys {
			eventually(t, "a token when the row is free", func() bool {
				_, err := m.Token(bounded(t), key)
				return err == nil
			})
		}
		idle(t, db)
	})
}

// TestKeeperPassesLockedRows: rows that somebody locks between their claims and their saves,
// however many and though they were due first, keep no other row from its turn; their results are
// stored when the locks are free.
func TestKeeperPassesLockedRows(t *testing.T) {
	const locked, others = 24, 100
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db, admin := s.open(t, database, interpolated), s.open(t, database, interpolated)
		store := newStore(t, db)
		seedAccounts := func(prefix string, n int, overdue time.Duration) {
			t.Helper()
			for i := range n {
				seed(t, store, keyOf(fmt.Sprint(prefix, " ", i)))
			}
			execute(t, admin, "UPDATE credentials SET due_at = UTC_TIMESTAMP(6) - INTERVAL ? SECOND WHERE account_name LIKE ?",
				int(overdue.Seconds()), prefix+" %")
		}
		seedAccounts("locked", locked, time.Hour)
		seedAccounts("other", others, time.Minute)
		lock, err := admin.Begin()
		must(t, err)
		var mu sync.Mutex // a transaction has one connection
		refresher := credentials.RefresherFunc(func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
			if strings.HasPrefix(in.Key.Account, "locked") {
				mu.Lock()
				defer mu.Unlock()
				if _, err := lock.ExecContext(ctx, "SELECT id FROM credentials WHERE id = ? FOR UPDATE", in.Fence.Row); err != nil {
					t.Errorf("lock of %v: %v", in.Key, err)
				}
			}
			return renewal("renewed " + in.Key.Account).Grant, nil
		})
		m, err := credentials.NewManager(store,
			credentials.Services{alice.Service: {Refresher: refresher}}, &credentials.Options{
				Lease: time.Minute, ExchangeTimeout: 5 * time.Second, StoreTimeout: time.Second,
				Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
		must(t, err)
		keeper, err := credentials.NewKeeper(m, nil)
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { _ = keeper.Run(ctx) }()
		renewedOf := func(prefix string) int {
			return query[int](t, admin, "SELECT COUNT(*) FROM credentials WHERE access_token <> '' AND account_name LIKE '"+prefix+" %'")
		}
		eventually(t, "the other rows to be renewed", func() bool {
			return renewedOf("other") == others
		})
		equal(t, "rows renewed though they are locked", renewedOf("locked"), 0)
		eventually(t, "the locked rows' results alone to wait to be stored", func() bool {
			return keeper.Stats()[alice.Service].Exchanging == locked
		})
		must(t, lock.Rollback())
		eventually(t, "the locked rows' results to be stored", func() bool {
			return renewedOf("locked") == locked
		})
		cancel()
		if err := m.Close(bounded(t)); err != nil {
			t.Error(err)
		}
	})
}
