package integration_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// claimAll makes a claim on all of these credentials, and returns the answers.
func claimAll(
	t testing.TB, store *latchkey.Store, claim credentials.Claim, keys []credentials.Key,
) []credentials.Found {
	t.Helper()
	found, err := store.ClaimAll(bounded(t), keys, claim)
	must(t, err)
	equal(t, "the number of answers", len(found), len(keys))
	return found
}

// TestClaimAllLocksNoOtherRow holds ClaimAll before its COMMIT, with keys that are not there among
// the others. The server has searched an index once for each key, for the SELECT, and for each row,
// for the UPDATE; no other row is locked, and new ones can be made on all sides.
func TestClaimAllLocksNoOtherRow(t *testing.T) {
	const rows = 5000
	onServers(t, func(t *testing.T, s *server) {
		for _, level := range []string{"REPEATABLE-READ", "SERIALIZABLE"} {
			for _, n := range []int{2, 200} {
				t.Run(fmt.Sprint(level, " ", n), func(t *testing.T) { claimAllLocks(t, s, level, rows, n) })
			}
		}
	})
}

func claimAllLocks(t *testing.T, s *server, level string, rows, n int) {
	ctx, database := bounded(t), s.migrated(t)
	other := s.open(t, database, "innodb_lock_wait_timeout=1")
	insertRows(t, other, rows, func(i int) newRow {
		return newRow{service: "github", account: fmt.Sprintf("account %06d", i), due: "UTC_TIMESTAMP(6)"}
	})
	keys := []credentials.Key{keyOf("account 000003b"), keyOf("zz")} // which are not there
	for i := range n {
		keys = append(keys, keyOf(fmt.Sprintf("account %06d", i*7)))
	}
	g := newGate()
	db := s.openWire(t, database, s.isolation(level), &wire{statement: g.holding(ctx, "COMMIT")})
	db.SetMaxOpenConns(1)
	before := handlerReads(t, db)
	claimed := make(chan []credentials.Found, 1)
	go func() { claimed <- claimAll(t, newStore(t, db), claimOf("holder"), keys) }()
	receive(t, "the claims to be made", g.arrived)

	free := "SELECT COUNT(*) FROM (SELECT id FROM credentials FOR UPDATE SKIP LOCKED) AS free"
	equal(t, "rows that are not locked", query[int](t, other, free), rows-n)
	if !s.mariadb {
		for _, r := range rowsOf(t, s.admin, "SELECT index_name, lock_type, lock_mode, COUNT(*) AS n "+
			"FROM performance_schema.data_locks WHERE object_schema = ? GROUP BY 1, 2, 3", database) {
			if mode := r.text("lock_mode"); r.text("lock_type") == "RECORD" && mode != "X,REC_NOT_GAP" {
				t.Errorf("more than a row is locked: %v", r)
			}
		}
	}
	store := newStore(t, other)
	for _, account := range []string{"", "account 0000005", "account 000003a", "account 000003c", "zy", "zzz"} {
		succeeds(t, "Put of "+account, store.Put(within(t, 5*time.Second), keyOf(account), refreshToken("new")))
	}
	close(g.open)
	for i, found := range receive(t, "the answer", claimed) {
		if i < 2 {
			failsAs(t, "an absent one", found.Err, credentials.ErrNotFound)
			continue
		}
		must(t, found.Err)
		equal(t, "Lease.Holder", found.Credential.Lease.Holder, "holder")
	}
	for name, reads := range handlerReads(t, db) {
		want := 0
		if name == "Handler_read_key" {
			want = (n + 2) + n + 2 // the SELECT, the UPDATE, and the SELECT of those that were not there
		}
		equal(t, name, reads-before[name], want)
	}
}

// TestClaimAllPassesOverLockedRows: another program has locked rows. The others are claimed at
// once, and the answer about a locked one is that of the row as it is committed, if that says why
// it is not claimed.
func TestClaimAllPassesOverLockedRows(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		seedAccounts(t, store, 5)
		keys := keysOf(6) // the last is not there
		leased := claim(t, store, keys[1])
		const change = "UPDATE credentials SET version = version + 70 WHERE id = "
		other := transaction(t, db, change+"1", change+"2", change+"3")
		asked := claimOf("holder")
		found, err := store.ClaimAll(within(t, 5*time.Second), keys, asked)
		must(t, err)
		for _, i := range []int{0, 2} {
			failsAs(t, "a locked one", found[i].Err, credentials.ErrRowLocked)
			failsAs(t, "a locked one", found[i].Err, credentials.ErrUnavailable)
		}
		must(t, found[1].Err)
		equal(t, "the lease of the locked one that is leased", found[1].Credential.Lease.ID, leased.Lease.ID)
		for _, i := range []int{3, 4} {
			must(t, found[i].Err)
			equal(t, "Lease.ID", found[i].Credential.Lease.ID, asked.ID)
			equal(t, "the row's Fence", get(t, store, keys[i]).Fence(), found[i].Credential.Fence())
		}
		failsAs(t, "the absent one", found[5].Err, credentials.ErrNotFound)
		equal(t, "Version of a locked one", get(t, store, keys[0]).Version, 1)
		must(t, other.Rollback())

		for i, again := range claimAll(t, store, asked, keys[:5]) {
			must(t, again.Err)
			want := asked.ID
			if i == 1 {
				want = leased.Lease.ID
			}
			equal(t, "Lease.ID", again.Credential.Lease.ID, want)
			equal(t, "Version", again.Credential.Version, 2)
		}
	})
}

// TestClaimAllUnreadableRow: a row that somebody has broken is an error of its own, and the others
// are claimed.
func TestClaimAllUnreadableRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		seedAccounts(t, store, 3)
		execute(t, db, `UPDATE credentials SET extra = '["hunter2"]' WHERE account_name = 'account 1'`)
		found := claimAll(t, store, claimOf("holder"), keysOf(3))
		for _, i := range []int{0, 2} {
			must(t, found[i].Err)
			equal(t, "Lease.Holder", found[i].Credential.Lease.Holder, "holder")
		}
		failsWith(t, "the broken row", found[1].Err, "column extra of github/account 1")
		equal(t, "version of the broken row",
			query[int](t, db, "SELECT version FROM credentials WHERE account_name = 'account 1'"), 1)
	})
}

// TestClaimAllAtOnce (invariant 1): two pools claim the same 200 credentials at once, in rounds.
// The pools share them out, and no transaction is tried twice: there is no deadlock.
func TestClaimAllAtOnce(t *testing.T) {
	const rows, pools, rounds = 200, 2, 10
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		insertRows(t, db, rows, func(i int) newRow {
			return newRow{service: "github", account: fmt.Sprint("account ", i), due: "UTC_TIMESTAMP(6)"}
		})
		wires, stores := make([]*wire, pools), make([]*latchkey.Store, pools)
		for i := range pools {
			wires[i] = &wire{statement: func([]byte) fate { return deliver }}
			stores[i] = newStore(t, s.openWire(t, database, "", wires[i]))
		}
		locked := 0
		for round := range rounds {
			var mu sync.Mutex
			claimed := make(map[credentials.Key]int)
			all := newRendezvous(pools)
			var done sync.WaitGroup
			for i, store := range stores {
				done.Go(func() {
					keys := keysOf(rows)
					if i == 1 {
						keys = append(keys[rows/2:], keys[:rows/2]...)
					}
					asked := claimOf(fmt.Sprint("pool ", i))
					all.wait(bounded(t))
					for _, one := range claimAll(t, store, asked, keys) {
						mu.Lock()
						switch {
						case errors.Is(one.Err, credentials.ErrRowLocked):
							locked++
						case one.Err != nil:
							t.Errorf("pool %d: %v", i, one.Err)
						case one.Credential.Lease.ID == asked.ID:
							claimed[one.Credential.Key]++
						}
						mu.Unlock()
					}
				})
			}
			done.Wait()
			equal(t, "credentials claimed", len(claimed), rows)
			for key, n := range claimed {
				equal(t, "claims of "+key.Account, n, 1)
			}
			equal(t, fmt.Sprint("rows whose version says so, round ", round),
				query[int](t, db, fmt.Sprint("SELECT COUNT(*) FROM credentials WHERE version = ", 2*round+2)), rows)
			execute(t, db, "UPDATE credentials SET version = version + 1, due_at = UTC_TIMESTAMP(6), "+
				"lease_id = '', lease_version = 0, lease_holder = '', lease_start = '1970-01-01', lease_end = '1970-01-01'")
		}
		for i, w := range wires {
			equal(t, fmt.Sprint("transactions of pool ", i), w.count("START TRANSACTION"), rounds)
		}
		t.Logf("%s: %d answers that a row is locked", s.product(), locked)
	})
}

// TestClaimAllWithoutRowLock stands for servers that ignore FOR UPDATE SKIP LOCKED: all have read
// the same rows before the first of them writes. The conditional UPDATE alone must decide.
func TestClaimAllWithoutRowLock(t *testing.T) {
	const rows, claimers = 6, 6
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		all := newRendezvous(claimers)
		w := &wire{statement: func(text []byte) fate {
			blank(text, "FOR UPDATE SKIP LOCKED")
			if strings.HasPrefix(string(text), beginsClaim) {
				all.wait(ctx)
			}
			return deliver
		}}
		database := s.migrated(t)
		store := newStore(t, s.openWire(t, database, "", w))
		seedAccounts(t, store, rows)
		results := make(chan []credentials.Credential, claimers)
		for i := range claimers {
			go func() { // of different sizes, so that some overlap in part
				asked := claimOf("holder")
				var claimed []credentials.Credential
				for _, one := range claimAll(t, store, asked, keysOf(rows)[:i+1]) {
					if one.Err != nil {
						t.Errorf("ClaimAll: %v", one.Err)
					} else if one.Credential.Lease.ID == asked.ID {
						claimed = append(claimed, one.Credential)
					}
				}
				results <- claimed
			}()
		}
		claimedOnce(t, store, results, claimers, rows)
		noTransaction(t, s, database)
	})
}

// TestOverlappingClaimAllKeepsWhatItWon: of eight rows that ClaimAll has read, another call claims
// three. The answer has the claims on the other five, and about the three whose lease it is.
func TestOverlappingClaimAllKeepsWhatItWon(t *testing.T) {
	const rows, early = 8, 3
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		store := newStore(t, s.open(t, database, ""))
		seedAccounts(t, store, rows)
		asked, other := claimOf("late"), claimOf("early")
		w, end := startOverlapped(t, s, database, func(late *latchkey.Store) []credentials.Credential {
			var all []credentials.Credential
			for _, one := range claimAll(t, late, asked, keysOf(rows)) {
				succeeds(t, "ClaimAll", one.Err)
				all = append(all, one.Credential)
			}
			return all
		})
		claimAll(t, store, other, keysOf(rows)[:early])
		for i, c := range end() {
			want := asked.ID
			if i < early {
				want = other.ID
			}
			equal(t, "Lease.ID", c.Lease.ID, want)
			equal(t, "the row's Fence", get(t, store, c.Key).Fence(), c.Fence())
			equal(t, "Version", c.Version, 2)
		}
		equal(t, "claims sent by the late call", w.count(beginsClaim), 1)
		noTransaction(t, s, database)
	})
}

// TestClaimAllFoundAgain: the reply to COMMIT is lost, and the claims are made once all the same.
func TestClaimAllFoundAgain(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{statement: once("COMMIT", loseReply)}
		database := s.migrated(t)
		others := newStore(t, s.open(t, database, ""))
		seedAccounts(t, others, 3)
		asked := claimOf("holder")
		for _, one := range claimAll(t, newStore(t, s.openWire(t, database, "", w)), asked, keysOf(3)) {
			must(t, one.Err)
			equal(t, "Lease.ID", one.Credential.Lease.ID, asked.ID)
			equal(t, "the row's Fence", get(t, others, one.Credential.Key).Fence(), one.Credential.Fence())
			equal(t, "Version", one.Credential.Version, 2)
		}
		equal(t, "connections that broke", w.broken(), 1)
		equal(t, "claims sent", w.count(beginsClaim), 1)
	})
}

// TestClaimAllInDoubtPassesOverLockedRows: the reply to COMMIT is lost, and the next try finds the
// rows locked, as it does while that COMMIT waits in the server. The answer does not say that
// nothing was written.
func TestClaimAllInDoubtPassesOverLockedRows(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		lost, locked := make(chan struct{}), make(chan struct{})
		var tries atomic.Int32
		w := &wire{statement: func(text []byte) fate {
			switch statement := string(text); {
			case strings.HasPrefix(statement, "COMMIT") && tries.Load() == 1:
				copy(text, "DO 1  ") // so that it is not carried out, of which the client cannot know
				close(lost)
				return loseReply
			case strings.Contains(statement, "SKIP LOCKED") && tries.Add(1) == 2:
				<-locked
			}
			return deliver
		}}
		database := s.migrated(t)
		db := s.open(t, database, "")
		seedAccounts(t, newStore(t, db), 3)
		store := newStore(t, s.openWire(t, database, "", w))
		claimed := start(func() error {
			_, err := store.ClaimAll(within(t, 3*time.Second), keysOf(3), claimOf("holder"))
			return err
		})
		receive(t, "the COMMIT to be lost", lost)
		transaction(t, db, "SELECT id FROM credentials FOR UPDATE")
		close(locked)
		failsAs(t, "ClaimAll", receive(t, "the claim", claimed), credentials.ErrUnavailable)
	})
}

// TestClaimAllStatements counts what the server is sent: nothing grows with the number of keys.
func TestClaimAllStatements(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		seedAccounts(t, newStore(t, s.open(t, database, "")), 20)
		w := &wire{statement: func([]byte) fate { return deliver }}
		store := newStore(t, s.openWire(t, database, "", w))
		claimAll(t, store, claimOf("holder"), []credentials.Key{keyOf("nobody")}) // learns the version
		sent := len(w.statements())
		for _, step := range []struct {
			name       string
			keys, want int
		}{
			{"SET TRANSACTION, START TRANSACTION, SELECT, UPDATE, COMMIT", 20, 5},
			{"all leased", 20, 4},
			{"one absent", 21, 5},
		} {
			claimAll(t, store, claimOf("holder"), keysOf(step.keys))
			now := len(w.statements())
			equal(t, step.name, now-sent, step.want)
			sent = now
		}
	})
}
