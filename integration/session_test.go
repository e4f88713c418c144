package integration_test

import (
	"context"
	"errors"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// change is a call that writes alice's row. When it has succeeded, others see its effect.
type change struct {
	name  string
	claim bool // the call is made under a claim of somebody else's store
	call  func(ctx context.Context, store *latchkey.Store, fence credentials.Fence) error
	seen  func(c credentials.Credential, err error) bool
}

var changes = []change{
	{"Put", false, func(ctx context.Context, store *latchkey.Store, _ credentials.Fence) error {
		return store.Put(ctx, alice, renewal("put").Grant)
	}, func(c credentials.Credential, _ error) bool { return c.AccessToken.Reveal() == "put" }},
	{"Claim", false, func(ctx context.Context, store *latchkey.Store, _ credentials.Fence) error {
		return errOf(store.Claim(ctx, alice, claimOf("somebody")))
	}, func(c credentials.Credential, _ error) bool { return c.Lease.Holder == "somebody" }},
	{"ClaimAll", false, func(ctx context.Context, store *latchkey.Store, _ credentials.Fence) error {
		found, err := store.ClaimAll(ctx, []credentials.Key{alice}, claimOf("somebody"))
		if err != nil {
			return err
		}
		return found[0].Err
	}, func(c credentials.Credential, _ error) bool { return c.Lease.Holder == "somebody" }},
	{"Save", true, func(ctx context.Context, store *latchkey.Store, fence credentials.Fence) error {
		return store.Save(ctx, fence, renewal("saved"))
	}, func(c credentials.Credential, _ error) bool { return c.AccessToken.Reveal() == "saved" }},
	{"Fail", true, func(ctx context.Context, store *latchkey.Store, fence credentials.Fence) error {
		return store.Fail(ctx, fence, failure())
	}, func(c credentials.Credential, _ error) bool { return c.Failure.Count == 1 }},
	{"Release", true, func(ctx context.Context, store *latchkey.Store, fence credentials.Fence) error {
		return store.Release(ctx, fence)
	}, func(c credentials.Credential, err error) bool { return err == nil && c.Lease.ID == "" }},
	{"ClaimDue", false, func(ctx context.Context, store *latchkey.Store, _ credentials.Fence) error {
		return errOf(store.ClaimDue(ctx, batchOf("somebody", 3)))
	}, func(c credentials.Credential, _ error) bool { return c.Lease.Holder == "somebody" }},
	{"Delete", false, func(ctx context.Context, store *latchkey.Store, _ credentials.Fence) error {
		return store.Delete(ctx, alice)
	}, func(_ credentials.Credential, err error) bool {
		return errors.Is(err, credentials.ErrNotFound)
	}},
}

// prepare puts alice's grant and returns the fence of a claim of it, if the call needs one.
func (c change) prepare(t *testing.T, store *latchkey.Store) (fence credentials.Fence) {
	t.Helper()
	put(t, store, alice, refreshToken("seed"))
	if c.claim {
		fence = claim(t, store, alice).Fence()
	}
	return fence
}

// TestSuccessIsCommitted has the one connection of a pool be in a state in which a statement of its
// own would not be committed, or COMMIT would begin the next transaction. A write that reports
// success is seen by others, whichever call it was, and leaves no transaction open; and the host's
// unfinished work is not committed with it.
func TestSuccessIsCommitted(t *testing.T) {
	for _, session := range []struct{ name, params, left string }{
		{"autocommit off", "autocommit=0", ""},
		{"autocommit off and chained", "autocommit=0&completion_type=1", ""},
		{"chained", "completion_type=1", ""},
		{"released", "completion_type=2", ""},
		{"transaction left open", "", "START TRANSACTION"},
		{"transaction left open and chained", "completion_type=1", "START TRANSACTION"},
		{"autocommit switched off", "", "SET autocommit = 0"},
	} {
		t.Run(session.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				database := s.migrated(t)
				reading := s.open(t, database, interpolated)
				others := newStore(t, reading)
				execute(t, reading, "CREATE TABLE host (n INT)")
				for _, change := range changes {
					fence := change.prepare(t, others)
					db := s.open(t, database, session.params)
					db.SetMaxOpenConns(1)
					if session.left != "" {
						execute(t, db, session.left)
						execute(t, db, "INSERT INTO host VALUES (1)")
					}
					err := change.call(bounded(t), newStore(t, db), fence)
					seen, getErr := others.Get(bounded(t), alice)
					if err != nil || !change.seen(seen, getErr) {
						t.Errorf("%s: got error %v; the others see the row %+v, error %v",
							change.name, err, seen, getErr)
					}
					noTransaction(t, s, database)
					_ = db.Close()
					equal(t, change.name+": rows of the host's that were committed",
						query[int](t, reading, "SELECT COUNT(*) FROM host"), 0)
				}
			})
		})
	}
}

// TestCheckAutocommit: Check refuses autocommit that is off. Writes are committed all the same, but
// a connection would go on reading the rows as it read them first.
func TestCheckAutocommit(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		failsWith(t, "Check", newStore(t, s.open(t, database, "autocommit=0")).Check(bounded(t)),
			"autocommit")
		succeeds(t, "Check with autocommit on",
			newStore(t, s.open(t, database, "autocommit=1")).Check(bounded(t)))
	})
}

// TestServerThatChainsNothing stands for TiDB, which takes the words of ROLLBACK AND CHAIN and
// begins no transaction: a store that learns the version begins each one by START TRANSACTION.
func TestServerThatChainsNothing(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{statement: func(text []byte) fate {
			if string(text) == "SELECT VERSION()" {
				copy(text, "SELECT '-TiDB-v'")
			}
			return deliver
		}}
		store := newStore(t, s.openWire(t, s.migrated(t), "", w))
		seed(t, store, alice)
		before := w.count("START TRANSACTION")
		must(t, store.Save(bounded(t), claim(t, store, alice).Fence(), renewal("new")))
		equal(t, "transactions begun by START TRANSACTION", w.count("START TRANSACTION")-before, 2)
		equal(t, "transactions that were to be chained", w.count("ROLLBACK AND CHAIN"), 0)
		equal(t, "questions for the version", w.count("SELECT '-TiDB-v'"), 1)
		equal(t, "the token in the row", get(t, store, alice).AccessToken.Reveal(), "new")
	})
}
