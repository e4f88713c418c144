package integration_test

import (
	"errors"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// TestLostReplies cuts the connection at one statement, before or after the server carried it out. The client cannot
// tell which it was; the call finds out by reading the row, its caller learns nothing of it, and what was to be written
// is written once.
func TestLostReplies(t *testing.T) {
	for _, test := range []struct {
		name   string
		prefix string // of the statement that is lost
		call   func(t *testing.T, store *latchkey.Store) (version uint64)
	}{
		{"the claim's COMMIT", "COMMIT", lostClaim},
		{"the claim's UPDATE", beginsClaim, lostClaim},
		{"the save", beginsSave, lostSave},
		{"the failure", beginsFail, lostFail},
		{"the delete", "DELETE", lostDelete},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				for _, cut := range []struct {
					name string
					fate fate
				}{{"statement", lose}, {"reply", loseReply}} {
					t.Run(cut.name, func(t *testing.T) {
						w := &wire{statement: once(test.prefix, cut.fate)}
						db := s.openWire(t, s.migrated(t), "", w)
						store := newStore(t, db)
						seed(t, store, alice)
						want := test.call(t, store)
						equal(t, "Version", get(t, store, alice).Version, want)
						equal(t, "connections that broke", w.broken(), 1)
						idle(t, db)
					})
				}
			})
		})
	}
}

// lostClaim makes a claim that is a claim in every respect, whatever was lost.
func lostClaim(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	c := claim(t, store, alice)
	stored := get(t, store, alice)
	equal(t, "Fence of the row", stored.Fence(), c.Fence())
	equal(t, "Interrupted.By", stored.Interrupted.By, "")
	return 2
}

func lostSave(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	c := claim(t, store, alice)
	if err := store.Save(bounded(t), c.Fence(), renewal("new")); err != nil {
		t.Errorf("Save: %v", err)
	}
	stored := get(t, store, alice)
	equal(t, "the token in the row", stored.Token.Reveal(), "new")
	equal(t, "Lease.ID", stored.Lease.ID, "")
	return 3
}

// lostFail: that the failure is recorded once counts; the contract lets the repeated call return ErrSuperseded.
func lostFail(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	c := claim(t, store, alice)
	_ = store.Fail(bounded(t), c.Fence(), failure())
	stored := get(t, store, alice)
	equal(t, "Failure.Class", stored.Failure.Class, credentials.Transient)
	equal(t, "Failure.Count", stored.Failure.Count, 1)
	equal(t, "Lease.ID", stored.Lease.ID, "")
	return 3
}

// lostDelete deletes bob, so that alice's row is left to be looked at.
func lostDelete(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	bob := credentials.Key{Service: alice.Service, Account: "bob"}
	seed(t, store, bob)
	if err := store.Delete(bounded(t), bob); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if err := store.Delete(bounded(t), bob); !errors.Is(err, credentials.ErrNotFound) {
		t.Errorf("the second Delete: got error %v, want ErrNotFound", err)
	}
	return 1
}
