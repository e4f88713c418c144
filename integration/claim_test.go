package integration_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// rendezvous is where so many wait for each other, and those who come later do not.
type rendezvous struct {
	missing atomic.Int32
	here    chan struct{}
}

func newRendezvous(n int32) *rendezvous {
	r := &rendezvous{here: make(chan struct{})}
	r.missing.Store(n)
	return r
}

func (r *rendezvous) wait(ctx context.Context) {
	if r.missing.Add(-1) == 0 {
		close(r.here)
	}
	select {
	case <-r.here:
	case <-ctx.Done():
	}
}

// blank overwrites a part of a statement with spaces, and reports whether it was there.
func blank(text []byte, part string) bool {
	i := bytes.Index(text, []byte(part))
	if i >= 0 {
		copy(text[i:], strings.Repeat(" ", len(part)))
	}
	return i >= 0
}

// TestOneClaimWithoutRowLock (invariant 1) stands for servers that do not honour the row lock across nodes: FOR UPDATE
// never reaches the server, and all claimers have read the row before the first of them writes. The conditional UPDATE
// alone must decide.
func TestOneClaimWithoutRowLock(t *testing.T) {
	const claimers = 12
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		var removed atomic.Int32
		all := newRendezvous(claimers)
		w := &wire{statement: func(text []byte) fate {
			if blank(text, "FOR UPDATE") {
				removed.Add(1)
			}
			if bytes.HasPrefix(text, []byte(beginsClaim)) {
				all.wait(ctx)
			}
			return deliver
		}}
		db := s.openWire(t, s.migrated(t), "", w)
		store := newStore(t, db)
		seed(t, store, alice)

		made, errs := make([]bool, claimers), make([]error, claimers)
		var claiming sync.WaitGroup
		for i := range claimers {
			claiming.Go(func() {
				asked := claimOf("holder")
				c, err := store.Claim(ctx, alice, asked)
				made[i], errs[i] = err == nil && c.Lease.ID == asked.ID, err
			})
		}
		claiming.Wait()

		won := 0
		for i := range claimers {
			if errs[i] != nil {
				t.Errorf("Claim: %v", errs[i])
			}
			if made[i] {
				won++
			}
		}
		equal(t, "claims made", won, 1)
		equal(t, "Version", get(t, store, alice).Version, 2)
		equal(t, "claimers that had read the row before the first one wrote", w.count(beginsClaim), claimers)
		if removed.Load() < claimers {
			t.Errorf("FOR UPDATE was removed %d times; this test tests nothing", removed.Load())
		}
		idle(t, db)
	})
}

// TestClaimOfMissingRowLocksNothing holds a claim that found no row before its ROLLBACK. Under REPEATABLE READ its
// SELECT … FOR UPDATE would have locked the gap.
func TestClaimOfMissingRowLocksNothing(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		g := newGate()
		w := &wire{statement: g.holding(ctx, "ROLLBACK")}
		database := s.migrated(t)
		claimer := newStore(t, s.openWire(t, database, "", w))
		others := newStore(t, s.open(t, database, "innodb_lock_wait_timeout=1"))
		seed(t, others, credentials.Key{Service: alice.Service, Account: "aaron"})
		seed(t, others, credentials.Key{Service: alice.Service, Account: "zoe"})

		claimed := make(chan error, 1)
		go func() {
			_, err := claimer.Claim(ctx, alice, claimOf("holder"))
			claimed <- err
		}()
		receive(t, "the claim to find no row", g.arrived)
		for _, account := range []string{"alan", "alice", "bob", "zz"} {
			limited, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			key := credentials.Key{Service: alice.Service, Account: account}
			if err := others.Put(limited, key, renewal("new").Grant); err != nil {
				t.Errorf("Put of %q beside a claim of a missing row: %v", account, err)
			}
		}
		close(g.open)
		if err := receive(t, "the claim", claimed); !errors.Is(err, credentials.ErrNotFound) {
			t.Errorf("Claim of a missing row: got error %v, want ErrNotFound", err)
		}
	})
}

// TestLateSaveThatWaitedForTheNextClaim: a statement's time is that of its start, so that the success which came after
// the claim seems to have come before it. The claim after it must not take the credential for interrupted.
func TestLateSaveThatWaitedForTheNextClaim(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		g := newGate()
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		store := newStore(t, db)
		claimer := newStore(t, s.openWire(t, database, "", &wire{statement: g.holding(ctx, beginsClaim)}))
		seed(t, store, alice)
		ended := func() bool { return !get(t, store, alice).Lease.Live() }

		first, next := claimOf("A"), claimOf("B")
		first.Lease, next.Lease = time.Millisecond, time.Millisecond
		a, err := store.Claim(ctx, alice, first)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "A's lease to end", ended)
		claimed, saved := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := claimer.Claim(ctx, alice, next)
			claimed <- err
		}()
		receive(t, "B's claim to have locked the row", g.arrived)
		late := renewal("A")
		late.DueIn = 0
		go func() { saved <- store.Save(ctx, a.Fence(), late) }()
		eventually(t, "A's save to wait for the row", func() bool {
			return query[int](t, s.admin, "SELECT COUNT(*) FROM information_schema.processlist WHERE db = ? AND info LIKE 'UPDATE%SET token %'", database) > 0
		})
		close(g.open)
		if err := receive(t, "the claim", claimed); err != nil {
			t.Fatal(err)
		}
		if err := receive(t, "the save", saved); err != nil {
			t.Fatal(err)
		}
		if !query[bool](t, db, "SELECT refreshed_at < lease_start FROM credentials") {
			t.Error("the save did not begin before the claim; this test tests nothing")
		}
		eventually(t, "B's lease to end", ended)
		equal(t, "Interrupted", claim(t, store, alice).Interrupted, credentials.Interruption{})
		equal(t, "Interrupted, read again", get(t, store, alice).Interrupted, credentials.Interruption{})
	})
}

// noTransaction fails the test unless the database's connections soon have no transaction open.
func noTransaction(t *testing.T, s *server, database string) {
	t.Helper()
	// Its innodb_trx MySQL cannot read while anybody's statement has bytes or an emoji in it; MariaDB's performance_schema
	// is switched off.
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

// TestCallsEndWithTheirContext: while another transaction holds the row.
func TestCallsEndWithTheirContext(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		store := newStore(t, db)
		for _, test := range []struct {
			name string
			call func(ctx context.Context, c credentials.Credential) error
		}{
			{"Claim", func(ctx context.Context, _ credentials.Credential) error {
				_, err := store.Claim(ctx, alice, claimOf("late"))
				return err
			}},
			{"Save", func(ctx context.Context, c credentials.Credential) error {
				return store.Save(ctx, c.Fence(), renewal("new"))
			}},
			{"Fail", func(ctx context.Context, c credentials.Credential) error {
				return store.Fail(ctx, c.Fence(), failure())
			}},
			{"Release", func(ctx context.Context, c credentials.Credential) error { return store.Release(ctx, c.Fence()) }},
			{"Put", func(ctx context.Context, _ credentials.Credential) error {
				return store.Put(ctx, alice, renewal("new").Grant)
			}},
			{"Delete", func(ctx context.Context, _ credentials.Credential) error { return store.Delete(ctx, alice) }},
		} {
			seed(t, store, alice)
			var held credentials.Credential
			if test.name != "Claim" {
				held = claim(t, store, alice)
			}
			before := get(t, store, alice)
			other := transaction(t, s.open(t, database, ""), lockAliceByKey)
			ctx, cancel := context.WithTimeout(bounded(t), 200*time.Millisecond)
			began := time.Now()
			err := test.call(ctx, held)
			cancel()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: ended %v after its context", test.name, took)
			}
			if !errors.Is(err, credentials.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s of a locked row: got error %v, want ErrUnavailable and the context's", test.name, err)
			}
			idle(t, db)
			if c := get(t, store, alice); c.Version != before.Version { // a read waits for no lock
				t.Errorf("%s: Version went from %d to %d while the row was locked", test.name, before.Version, c.Version)
			}
			_ = other.Rollback()
			noTransaction(t, s, database)
			if test.name == "Claim" {
				// A claim that was given up must not happen later: nobody would hold it.
				equal(t, "Version after a claim that was given up", get(t, store, alice).Version, before.Version)
				claim(t, store, alice)
			} else if err := test.call(bounded(t), held); err != nil && !errors.Is(err, credentials.ErrSuperseded) && !errors.Is(err, credentials.ErrNotFound) {
				// The statement may have been carried out after all. To repeat it is safe.
				t.Errorf("%s, repeated: %v", test.name, err)
			}
			if test.name == "Save" {
				equal(t, "the token in the row", get(t, store, alice).Token.Reveal(), "new")
			}
		}
	})
}

// TestLockWaitTimeOut (1205): the claim tries again for as long as somebody else holds the row.
func TestLockWaitTimeOut(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		rolledBack := make(chan struct{}, 1000)
		w := &wire{statement: func(text []byte) fate {
			if string(text) == "ROLLBACK" {
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

// TestRefusedClaimsLeaveNoTransaction: on the one connection of the pool.
func TestRefusedClaimsLeaveNoTransaction(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "")
		db.SetMaxOpenConns(1)
		store := newStore(t, db)
		if _, err := store.Claim(bounded(t), alice, claimOf("holder")); !errors.Is(err, credentials.ErrNotFound) {
			t.Errorf("Claim of a missing row: got error %v, want ErrNotFound", err)
		}
		noTransaction(t, s, database)
		seed(t, store, alice)
		claim(t, store, alice)
		if c, err := store.Claim(bounded(t), alice, claimOf("second")); err != nil || c.State(credentials.Secret{}) != credentials.Leased {
			t.Errorf("Claim of a leased row: got state %v, error %v", c.State(credentials.Secret{}), err)
		}
		noTransaction(t, s, database)
		var level string
		if s.mariadb {
			level = query[string](t, db, "SELECT @@tx_isolation")
		} else {
			level = query[string](t, db, "SELECT @@transaction_isolation")
		}
		equal(t, "the session's isolation level after a claim, which is the host's", level, "REPEATABLE-READ")
	})
}

// TestClaimAfterHostLeftTransactionOpen: a host's statement left a transaction open on the pool's one connection. What
// the host did in it is not committed by the claim, and the claim is.
func TestClaimAfterHostLeftTransactionOpen(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		others := newStore(t, s.open(t, database, ""))
		seed(t, others, alice)
		db := s.open(t, database, "")
		db.SetMaxOpenConns(1)
		execute(t, db, "START TRANSACTION")
		execute(t, db, "UPDATE credentials SET failure_reason = 'the host was here'")
		c := claim(t, newStore(t, db), alice)
		stored := get(t, others, alice)
		equal(t, "the Fence that others see", stored.Fence(), c.Fence())
		equal(t, "Failure.Reason", stored.Failure.Reason, "")
	})
}
