package integration_test

import (
	"bytes"
	"context"
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

// TestOneClaimWithoutRowLock (invariant 1) stands for servers that do not honour the row lock
// across nodes: FOR UPDATE never reaches the server, and all claimers have read the row before the
// first of them writes. The conditional UPDATE alone must decide.
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
		equal(t, "claimers that had read the row before the first one wrote", w.count(beginsClaim),
			claimers)
		if removed.Load() < claimers {
			t.Errorf("FOR UPDATE was removed %d times; this test tests nothing", removed.Load())
		}
		idle(t, db)
	})
}

// TestClaimOfMissingRow holds a claim that found no row before its ROLLBACK: a put of a row that
// would stand beside it waits for that, and no other does.
func TestClaimOfMissingRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		g := newGate()
		w := &wire{statement: g.holding(ctx, "ROLLBACK AND NO CHAIN")}
		database := s.migrated(t)
		claimer := newStore(t, s.openWire(t, database, "", w))
		others := newStore(t, s.open(t, database, "innodb_lock_wait_timeout=1"))
		seed(t, others, keyOf("aaron"))
		seed(t, others, keyOf("zoe"))

		claimed := start(func() error {
			return errOf(claimer.Claim(ctx, alice, claimOf("holder")))
		})
		receive(t, "the claim to find no row", g.arrived)
		for _, account := range []string{"aa", "aaron", "zoe", "zz"} {
			limited, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if err := others.Put(limited, keyOf(account), renewal("new").Grant); err != nil {
				t.Errorf("Put of %q, which is not beside the missing row: %v", account, err)
			}
		}
		waiting := newStore(t, s.open(t, database, ""))
		beside := start(func() error { return waiting.Put(ctx, keyOf("bob"), renewal("new").Grant) })
		blocked(t, s, database)
		close(g.open)
		failsAs(t, "Claim of a missing row", receive(t, "the claim", claimed),
			credentials.ErrNotFound)
		succeeds(t, "Put beside the missing row", receive(t, "the put", beside))
	})
}

// TestWritesLockOneRow holds the writes of one row before their COMMIT, under the isolation levels
// that a host may have chosen. All other rows can be written meanwhile, and new ones be made on all
// sides of that one; but MariaDB locks the gap before a row that was found by its key.
func TestWritesLockOneRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, level := range []string{"REPEATABLE-READ", "SERIALIZABLE", "READ-COMMITTED"} {
			for _, change := range changes {
				if change.name == "Put" || change.name == "ClaimDue" {
					continue
				}
				t.Run(level+" "+change.name, func(t *testing.T) { locksOneRow(t, s, level, change) })
			}
		}
	})
}

func locksOneRow(t *testing.T, s *server, level string, change change) {
	ctx := bounded(t)
	database := s.migrated(t)
	others := newStore(t, s.open(t, database, "innodb_lock_wait_timeout=1"))
	seed(t, others, keyOf("aaron"))
	fence := change.prepare(t, others)
	seed(t, others, keyOf("zoe"))

	g := newGate()
	held := s.openWire(t, database, s.isolation(level), &wire{statement: g.holding(ctx, "COMMIT")})
	changed := start(func() error { return change.call(ctx, newStore(t, held), fence) })
	receive(t, "the write to be made", g.arrived)
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	accounts := []string{"aaron", "zoe", "", "aa", "alice 2", "bob", "zz"}
	byKey := change.name == "Claim" || change.name == "Delete"
	if !s.mariadb || !byKey || level == "READ-COMMITTED" {
		accounts = append(accounts, "alic")
	}
	for _, account := range accounts {
		succeeds(t, "Put of "+account, others.Put(limited, keyOf(account), renewal("new").Grant))
	}
	for _, account := range []string{"aaron", "zoe"} {
		due := renewal("new")
		due.DueIn = 0
		c, err := others.Claim(limited, keyOf(account), credentials.Claim{
			ID: "other", Holder: "other", Lease: time.Minute, Invalidated: get(t, others, keyOf(account)).TokenID(),
		})
		must(t, err)
		succeeds(t, "Save of "+account, others.Save(limited, c.Fence(), due))
	}
	succeeds(t, "ClaimDue", errOf(others.ClaimDue(limited, batchOf("batch", 10))))
	close(g.open)
	must(t, receive(t, "the write", changed))
}

// TestLateSaveThatWaitedForTheNextClaim: a statement's time is that of its start, so that the
// success which came after the claim seems to have come before it. The claim after it must not take
// the credential for interrupted.
func TestLateSaveThatWaitedForTheNextClaim(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		g := newGate()
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		store := newStore(t, db)
		claimer := newStore(t,
			s.openWire(t, database, "", &wire{statement: g.holding(ctx, beginsClaim)}))
		seed(t, store, alice)
		ended := func() bool { return !get(t, store, alice).Lease.Live() }

		first, next := claimOf("A"), claimOf("B")
		first.Lease, next.Lease, next.TakeOver = time.Millisecond, time.Millisecond, first.ID
		a, err := store.Claim(ctx, alice, first)
		must(t, err)
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
		blocked(t, s, database)
		close(g.open)
		must(t, receive(t, "the claim", claimed))
		must(t, receive(t, "the save", saved))
		if !query[bool](t, db, "SELECT refreshed_at < lease_start FROM credentials") {
			t.Error("the save did not begin before the claim; this test tests nothing")
		}
		eventually(t, "B's lease to end", ended)
		last := claimOf("C")
		last.TakeOver = next.ID
		c, err := store.Claim(ctx, alice, last)
		if err != nil || c.Lease.ID != last.ID {
			t.Fatalf("the last claim: lease of %q, error %v", c.Lease.Holder, err)
		}
		equal(t, "Interrupted", c.Interrupted, credentials.Interruption{})
		equal(t, "Interrupted, read again", get(t, store, alice).Interrupted,
			credentials.Interruption{})
	})
}

// TestRefusedClaimsLeaveNoTransaction: a claim that is refused leaves no transaction open on the
// one connection of the pool, and the session's settings as they are.
func TestRefusedClaimsLeaveNoTransaction(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "")
		db.SetMaxOpenConns(1)
		store := newStore(t, db)
		failsAs(t, "Claim of a missing row",
			errOf(store.Claim(bounded(t), alice, claimOf("holder"))), credentials.ErrNotFound)
		noTransaction(t, s, database)
		seed(t, store, alice)
		claim(t, store, alice)
		if c, err := store.Claim(bounded(t), alice, claimOf("second")); err != nil ||
			c.State(credentials.Claim{}) != credentials.StateLeased {
			t.Errorf("Claim of a leased row: got state %v, error %v",
				c.State(credentials.Claim{}), err)
		}
		noTransaction(t, s, database)
		var level string
		if s.mariadb {
			level = query[string](t, db, "SELECT @@tx_isolation")
		} else {
			level = query[string](t, db, "SELECT @@transaction_isolation")
		}
		equal(t, "the session's isolation level after a claim, which is the host's", level,
			"REPEATABLE-READ")
	})
}

// TestClaimAfterHostLeftTransactionOpen: a host's statement left a transaction open on the pool's
// one connection. The host's work in it is not committed by the claim, and the claim is.
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
