package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// batches are the calls that lock rows by an index other than that of the keys, or delete them.
var batches = []struct {
	name, write string // the write begins with that
	prepare     func(*testing.T, *latchkey.Store)
	call        func(context.Context, *latchkey.Store) error
}{
	{"ClaimDue", "UPDATE", nil, func(ctx context.Context, store *latchkey.Store) error {
		return errOf(store.ClaimDue(ctx, batchOf("keeper", 3)))
	}},
	{"Reseal", "UPDATE", nil, func(ctx context.Context, store *latchkey.Store) error {
		return errOf(store.Reseal(ctx, latchkey.ResealOptions{}))
	}},
	{"Revive", "UPDATE", dies, func(ctx context.Context, store *latchkey.Store) error {
		return errOf(store.Revive(ctx, credentials.Revival{Service: alice.Service, Since: time.Hour}))
	}},
	{"DeleteAll", "DELETE", nil, func(ctx context.Context, store *latchkey.Store) error {
		return errOf(store.DeleteAll(ctx, latchkey.Deletion{Service: alice.Service}))
	}},
}

// TestBatchesAndClaimsDoNotDeadlock: a batch has locked its rows, and is about to write them, when a
// claim of one of them begins. The claim locks the entry of its key first and waits for the row; the
// batch does not wait for that entry, and so the server ends neither transaction.
func TestBatchesAndClaimsDoNotDeadlock(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, batch := range batches {
			t.Run(batch.name, func(t *testing.T) {
				ctx, database := bounded(t), s.migrated(t)
				plain := newStore(t, s.open(t, database, interpolated))
				seed(t, plain, alice)
				seed(t, plain, keyOf("bob"))
				if batch.prepare != nil {
					batch.prepare(t, plain)
				}
				sealing := latchkey.Options{AEAD: testkit.NewKeyring(1)}
				g := newGate()
				held, claiming := &wire{statement: g.holding(ctx, batch.write)}, &wire{}
				done := start(func() error {
					return batch.call(ctx, storeWith(t, s.openWire(t, database, "", held), sealing))
				})
				receive(t, "the batch to have locked its rows", g.arrived)
				claimed := start(func() error {
					claimer := storeWith(t, s.openWire(t, database, "", claiming), sealing)
					return errOf(claimer.Claim(ctx, alice, claimOf("holder")))
				})
				waiting(t, s, database, 1)
				close(g.open)
				must(t, receive(t, "the batch", done))
				receive(t, "the claim", claimed)
				equal(t, "transactions of the batch that were ended", held.count("ROLLBACK AND NO CHAIN"), 0)
				equal(t, "transactions of the claim", claiming.count("ROLLBACK AND CHAIN"), 1)
			})
		}
	})
}

// TestDeleteAndClaimDoNotDeadlock: a delete waits for a row that another program has locked, and a
// claim of the same row begins. Both lock the entry of the key first.
func TestDeleteAndClaimDoNotDeadlock(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx, database, w := bounded(t), s.migrated(t), &wire{}
		store := newStore(t, s.openWire(t, database, "", w))
		seed(t, store, alice)
		other := transaction(t, s.open(t, database, ""), lockAliceByID)
		before := w.count("ROLLBACK AND CHAIN")
		deleted := start(func() error { return store.Delete(ctx, alice) })
		waiting(t, s, database, 1)
		claimed := start(func() error { return errOf(store.Claim(ctx, alice, claimOf("holder"))) })
		waiting(t, s, database, 2)
		must(t, other.Rollback())
		must(t, receive(t, "the delete", deleted))
		failsAs(t, "the claim", receive(t, "the claim", claimed), credentials.ErrNotFound)
		equal(t, "transactions", w.count("ROLLBACK AND CHAIN")-before, 2)
	})
}

// TestLocksOfResults: the writes of a result lock the row by its id, and no entry of its key.
func TestLocksOfResults(t *testing.T) {
	for _, s := range servers {
		if s.mariadb { // whose locks no table shows
			continue
		}
		for _, change := range changes {
			if !change.claim {
				continue
			}
			ctx, database := bounded(t), s.migrated(t)
			fence := change.prepare(t, newStore(t, s.open(t, database, "")))
			g := newGate()
			held := s.openWire(t, database, "", &wire{statement: g.holding(ctx, "COMMIT")})
			changed := start(func() error { return change.call(ctx, newStore(t, held), fence) })
			receive(t, "the write to be made", g.arrived)
			locks := rowsOf(t, s.admin, "SELECT index_name, lock_mode FROM performance_schema.data_locks "+
				"WHERE object_schema = ? AND lock_type = 'RECORD' ORDER BY index_name", database)
			close(g.open)
			must(t, receive(t, "the write", changed))
			if len(locks) != 1 || locks[0].text("index_name") != "PRIMARY" || locks[0].text("lock_mode") != "X,REC_NOT_GAP" {
				t.Errorf("%s locks %v, want its row alone", change.name, locks)
			}
		}
	}
}
