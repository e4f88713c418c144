package integration_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

const (
	beginsDueServices = "SELECT `service_name`"
	beginsPostpone    = "UPDATE `credentials` FORCE INDEX (PRIMARY)\nSET due_at = UTC_TIMESTAMP(6) + INTERVAL"
)

// batchOf is a batch of the service "github" with a name of its own.
func batchOf(holder string, limit int) credentials.Batch {
	claim := claimOf(holder)
	claim.Lapsed = time.Microsecond
	return credentials.Batch{Claim: claim, Service: alice.Service, Limit: limit}
}

// findClaims looks for what the batch claimed a moment ago.
func findClaims(t *testing.T, store *latchkey.Store, batch credentials.Batch, want int) []credentials.Credential {
	t.Helper()
	found, err := store.FindClaims(bounded(t), batch, 0)
	if err != nil {
		t.Fatalf("FindClaims of %s: %v", batch.Holder, err)
	}
	equal(t, "claims found of "+batch.Holder, len(found), want)
	return found
}

func claimDue(t *testing.T, store *latchkey.Store, batch credentials.Batch, want int) []credentials.Credential {
	t.Helper()
	claimed, err := store.ClaimDue(bounded(t), batch)
	if err != nil {
		t.Fatalf("ClaimDue by %s: %v", batch.Holder, err)
	}
	equal(t, "credentials that "+batch.Holder+" claimed", len(claimed), want)
	return claimed
}

// startBatch makes the call in a goroutine.
func startBatch(
	t *testing.T, store *latchkey.Store, batch credentials.Batch,
) <-chan []credentials.Credential {
	claimed := make(chan []credentials.Credential, 1)
	go func() {
		got, err := store.ClaimDue(bounded(t), batch)
		succeeds(t, "ClaimDue", err)
		claimed <- got
	}()
	return claimed
}

// seedMany inserts rows of that many services, which become due one after the other, or never.
func seedMany(t *testing.T, db *sql.DB, rows, services int) {
	t.Helper()
	insertRows(t, db, rows, func(i int) newRow {
		r := newRow{service: alice.Service, account: fmt.Sprint("account ", i)}
		if i%services != 0 {
			r.service = fmt.Sprint("service ", i%services)
		}
		if i%11 != 10 {
			r.due = fmt.Sprintf("UTC_TIMESTAMP(6) + INTERVAL %d SECOND", i%1000-900)
		}
		return r
	})
}

// TestDuePlans: a batch's cost and its locks follow from its limit, and not from how many rows
// there are or are due; that of DueServices from how many services there are.
func TestDuePlans(t *testing.T) {
	const limit = 16
	onServers(t, func(t *testing.T, s *server) {
		for _, size := range []struct{ rows, services int }{{20, 1}, {5000, 1}, {5000, 7}, {5000, 200}} {
			w := &wire{}
			database := s.migrated(t)
			db := s.open(t, database, interpolated)
			seedMany(t, db, size.rows, size.services)
			store := newStore(t, s.openWire(t, database, "", w))
			batch := batchOf("holder", limit)
			claimDue(t, store, batch, limit)
			findClaims(t, store, batch, limit)
			must(t, errOf(store.DueServices(bounded(t))))

			if size.rows < 1000 { // so that nearly all are due again, and to sort them seems cheap
				execute(t, db, "UPDATE credentials SET due_at = UTC_TIMESTAMP(6) - INTERVAL id SECOND WHERE due_at IS NOT NULL")
				execute(t, db, "ANALYZE TABLE credentials")
			}

			explained := make(map[string]bool)
			for _, text := range w.statements() {
				want := map[string]string{"key": "due", "type": "range"}
				switch {
				case strings.Contains(text, "SKIP LOCKED"):
				case size.rows < 1000: // a scan of all of them is cheaper, and where the rows are known it locks no others
					continue
				case strings.Contains(text, "lease_id = '"):
				case strings.HasPrefix(text, beginsDueServices):
					want["Extra"] = "Using index for group-by"
				case strings.HasPrefix(text, beginsClaim):
					want["key"], want["rows"] = "PRIMARY", fmt.Sprint(limit)
				default:
					continue
				}
				plan := explain(t, s, database, text)
				explained[text] = true
				for column, value := range want {
					if !strings.Contains(plan.text(column), value) ||
						strings.Contains(plan.text("Extra"), "filesort") {
						t.Errorf("%+v: got the plan %v, want %s %s and no sorting: %s",
							size, plan, column, value, text)
					}
				}
			}
			if want := min(4, size.rows/20); len(explained) != want {
				t.Errorf("%+v: %d statements were explained, want %d", size, len(explained), want)
			}
		}
	})
}

// TestBatchPassesOverLockedRows: a batch waits for nobody's lock, and locks only the rows that it
// takes.
func TestBatchPassesOverLockedRows(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		store := newStore(t, db)
		seed(t, store, alice)
		seedAccounts(t, store, 9)
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		defer func() { _ = tx.Rollback() }()
		must(t, errOf(tx.Exec("SELECT id FROM credentials WHERE service_name = 'github' AND account_name = 'alice' FOR UPDATE")))

		g := newGate()
		first := newStore(t,
			s.openWire(t, database, "", &wire{statement: g.holding(ctx, beginsClaim)}))
		claimed := startBatch(t, first, batchOf("first", 3))
		receive(t, "the first batch to have locked what it takes", g.arrived)
		began := time.Now()
		second := claimDue(t, store, batchOf("second", 10), 6)
		claimDue(t, store, batchOf("third", 10), 0)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("batches beside locked rows took %v", took)
		}
		close(g.open)
		holders := map[string]string{alice.Account: "nobody"}
		for holder, batch := range map[string][]credentials.Credential{"first": receive(t, "the first batch", claimed), "second": second} {
			for _, c := range batch {
				if other := holders[c.Key.Account]; other != "" {
					t.Errorf("%v: claimed by %s and %s", c.Key, other, holder)
				}
				holders[c.Key.Account] = holder
			}
		}
		equal(t, "credentials", len(holders), 10)

		_ = tx.Rollback()
		claimDue(t, store, batchOf("fourth", 10), 1)
		noTransaction(t, s, database)
	})
}

// TestBatchesWithoutRowLock stands for servers that ignore FOR UPDATE SKIP LOCKED: all batches have
// read the same rows before the first of them writes.
func TestBatchesWithoutRowLock(t *testing.T) {
	const rows, batches = 6, 6
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		all := newRendezvous(batches)
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
		results := make(chan []credentials.Credential, batches)
		for i := range batches {
			go func() { // of different sizes, so that some overlap in part
				claimed, err := store.ClaimDue(ctx, batchOf("holder", i+1))
				if err != nil {
					t.Errorf("ClaimDue: %v", err)
				}
				results <- claimed
			}()
		}
		claimedOnce(t, store, results, batches, rows)
		noTransaction(t, s, database)
	})
}

// TestOverlappingBatchKeepsWhatItWon stands for servers that ignore SKIP LOCKED: a batch of 16 has
// read its rows when another one claims eight of them. The first keeps the other eight, by one
// UPDATE.
func TestOverlappingBatchKeepsWhatItWon(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx := bounded(t)
		database := s.migrated(t)
		store := newStore(t, s.open(t, database, ""))
		seedAccounts(t, store, 16)
		w, claimed := startOverlapped(t, s, database, func(late *latchkey.Store) []credentials.Credential {
			claimed, err := late.ClaimDue(ctx, batchOf("late", 16))
			succeeds(t, "ClaimDue", err)
			return claimed
		})
		results := make(chan []credentials.Credential, 2)
		results <- claimDue(t, store, batchOf("early", 8), 8)
		late := claimed()
		results <- late
		equal(t, "credentials that the late batch claimed", len(late), 8)
		equal(t, "claims sent by the late batch", w.count(beginsClaim), 1)
		claimedOnce(t, store, results, 2, 16)
		noTransaction(t, s, database)
	})
}

// startOverlapped begins the call with a store whose locks are granted to everybody, and returns
// when the call has read its rows and is about to claim them. The function that is returned lets the
// call go on, and waits for its end.
func startOverlapped(
	t *testing.T, s *server, database string, call func(*latchkey.Store) []credentials.Credential,
) (w *wire, end func() []credentials.Credential) {
	t.Helper()
	ctx, g := bounded(t), newGate()
	w = &wire{statement: func(text []byte) fate {
		blank(text, "FOR UPDATE SKIP LOCKED")
		if strings.HasPrefix(string(text), beginsClaim) {
			g.hold(ctx)
		}
		return deliver
	}}
	late := newStore(t, s.openWire(t, database, "", w))
	claimed := make(chan []credentials.Credential, 1)
	go func() { claimed <- call(late) }()
	receive(t, "the call to have read its rows", g.arrived)
	return w, func() []credentials.Credential {
		close(g.open)
		return receive(t, "the end of the call", claimed)
	}
}

// claimedOnce takes the results of that many calls, which must have claimed each of the rows once.
func claimedOnce(
	t *testing.T, store *latchkey.Store, results <-chan []credentials.Credential, calls, rows int,
) {
	t.Helper()
	taken := make(map[credentials.Key]bool)
	for range calls {
		for _, c := range receive(t, "the claims of a call", results) {
			if taken[c.Key] {
				t.Errorf("%v was claimed twice", c.Key)
			}
			taken[c.Key] = true
			stored := get(t, store, c.Key)
			equal(t, "the row's Fence", stored.Fence(), c.Fence())
			equal(t, "Version", stored.Version, 2)
		}
	}
	equal(t, "credentials claimed", len(taken), rows)
}

// TestBatchFoundAgain: the reply to COMMIT is lost, and the batch is made once all the same.
func TestBatchFoundAgain(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{statement: once("COMMIT", loseReply)}
		database := s.migrated(t)
		others := newStore(t, s.open(t, database, ""))
		seedAccounts(t, others, 5)
		for _, c := range claimDue(t, newStore(t, s.openWire(t, database, "", w)), batchOf("holder", 3), 3) {
			equal(t, "the row's Fence", get(t, others, c.Key).Fence(), c.Fence())
			equal(t, "Version", c.Version, 2)
		}
		equal(t, "connections that broke", w.broken(), 1)
		equal(t, "claims sent", w.count(beginsClaim), 1)
		claimDue(t, others, batchOf("another", 5), 2)
	})
}

// TestBatchWhoseCommitIsUnderWay: to look for the claims of a batch that is still to commit waits
// for no lock, and finds nothing; when that is done, it finds what was claimed.
func TestBatchWhoseCommitIsUnderWay(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx, g := bounded(t), newGate()
		database := s.migrated(t)
		store := newStore(t, s.open(t, database, ""))
		stalled := newStore(t,
			s.openWire(t, database, "", &wire{statement: g.holding(ctx, "COMMIT")}))
		seedAccounts(t, store, 8)
		batch := batchOf("holder", 3)
		first := startBatch(t, stalled, batch)
		receive(t, "the COMMIT to be on its way", g.arrived)
		findClaims(t, store, batch, 0)
		close(g.open)
		fences := make(map[credentials.Fence]bool)
		for _, c := range receive(t, "the first try", first) {
			fences[c.Fence()] = true
		}
		equal(t, "credentials claimed", len(fences), 3)
		for _, c := range findClaims(t, store, batch, 3) {
			if !fences[c.Fence()] {
				t.Errorf("%v was not claimed by the first try", c.Key)
			}
		}
		claimDue(t, store, batchOf("another", 8), 5)
	})
}

// TestLostReplyOfBatchThatIsNotThere: while nobody knows whether a batch was committed, it is not
// made again.
func TestLostReplyOfBatchThatIsNotThere(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{statement: func(text []byte) fate {
			if !strings.HasPrefix(string(text), "COMMIT") {
				return deliver
			}
			copy(text, "DO 1  ") // so that it is not carried out, of which the client cannot know
			return loseReply
		}}
		database := s.migrated(t)
		others := newStore(t, s.open(t, database, ""))
		seed(t, others, alice)
		ctx := within(t, 2*time.Second)
		claimed, err := newStore(t, s.openWire(t, database, "", w)).ClaimDue(ctx,
			batchOf("holder", 3))
		if len(claimed) != 0 || !errors.Is(err, credentials.ErrUnavailable) {
			t.Errorf("got %d credentials, error %v; want ErrUnavailable", len(claimed), err)
		}
		equal(t, "claims sent", w.count(beginsClaim), 1)
		eventually(t, "the row to be free", func() bool {
			free, err := others.ClaimDue(bounded(t), batchOf("another", 1))
			return err == nil && len(free) == 1
		})
	})
}

// TestUnreadableRowMakesRoom: a row that cannot be read is left out, and does not keep a batch of
// one from the others. Its lease stays as it is.
func TestUnreadableRowMakesRoom(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{}
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		store := newStore(t, s.openWire(t, database, "", w))
		seed(t, store, alice)
		before := claim(t, store, alice)
		execute(t, db, "UPDATE credentials SET extra = '[1]', lease_end = UTC_TIMESTAMP(6), due_at = UTC_TIMESTAMP(6)")
		bob := keyOf("bob")
		seed(t, store, bob)
		equal(t, "who is claimed", claimDue(t, store, batchOf("first", 1), 1)[0].Key, bob)
		claimDue(t, store, batchOf("second", 1), 0)
		equal(t, "statements that made room", w.count(beginsPostpone), 1)

		execute(t, db, "UPDATE credentials SET extra = '{}' WHERE account_name = 'alice'")
		c := get(t, store, alice)
		equal(t, "Version", c.Version, before.Version)
		equal(t, "Lease.ID", c.Lease.ID, before.Lease.ID)
		if c.DueIn <= 0 || c.DueIn > time.Minute {
			t.Errorf("DueIn: got %v, want what is left of a lease", c.DueIn)
		}
		next := claimOf("next")
		next.TakeOver = c.Lease.ID
		c, err := store.Claim(bounded(t), alice, next)
		must(t, err)
		equal(t, "Interrupted.By", c.Interrupted.By, "holder")
	})
}
