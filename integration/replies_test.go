package integration_test

import (
	"errors"
	"strings"
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
		{"the put", "INSERT", lostPut},
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

// lostPut has nothing more to do: the put that lost its reply was the one that made alice's row.
func lostPut(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	equal(t, "the refresh token in the row", get(t, store, alice).RefreshToken.Reveal(), "seed")
	return 1
}

// afterLosing returns a wire's statement function that loses the reply to the first statement with that prefix, and calls
// meanwhile before the next statement, whatever that is.
func afterLosing(prefix string, meanwhile func()) func(text []byte) fate {
	lost, met := false, false
	return func(text []byte) fate {
		switch {
		case lost && !met:
			met = true
			meanwhile()
		case !lost && strings.HasPrefix(string(text), prefix):
			lost = true
			return loseReply
		}
		return deliver
	}
}

// TestPutWhoseGrantWasExchanged: the reply to a put is lost, and before it is repeated another process has exchanged what
// it stored. Stored again, it would take the place of the only refresh token that works.
func TestPutWhoseGrantWasExchanged(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		other := newStore(t, s.open(t, database, interpolated))
		store := newStore(t, s.openWire(t, database, "", &wire{statement: afterLosing("INSERT", func() {
			if err := other.Save(bounded(t), claim(t, other, alice).Fence(), renewal("new")); err != nil {
				t.Error(err)
			}
		})}))
		err := store.Put(bounded(t), alice, credentials.Grant{RefreshToken: credentials.NewSecret("seed")})
		if !errors.Is(err, credentials.ErrSuperseded) {
			t.Errorf("Put: got error %v, want ErrSuperseded", err)
		}
		equal(t, "the refresh token in the row", get(t, other, alice).RefreshToken.Reveal(), renewal("new").RefreshToken.Reveal())
	})
}

// TestDeleteOfWhatWasMadeAgain: the reply to a delete is lost, and before it is repeated somebody has authorized the
// account again. The new grant is not deleted with the old one.
func TestDeleteOfWhatWasMadeAgain(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		other := newStore(t, s.open(t, database, interpolated))
		seed(t, other, alice)
		store := newStore(t, s.openWire(t, database, "", &wire{statement: afterLosing("DELETE", func() { seed(t, other, alice) })}))
		if err := store.Delete(bounded(t), alice); err != nil {
			t.Errorf("Delete: %v", err)
		}
		equal(t, "the refresh token in the row", get(t, other, alice).RefreshToken.Reveal(), "seed")
	})
}
