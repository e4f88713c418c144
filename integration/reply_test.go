package integration_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// cuts are the two ways to lose a statement: before the server got it, and after it carried it out.
var cuts = []struct {
	name string
	fate fate
}{{"statement", lose}, {"reply", loseReply}}

// TestLostReplies cuts the connection at one statement, before or after the server carried it out.
// The client cannot tell which it was; the call finds out by reading the row, its caller learns
// nothing of it, and what was to be written is written once.
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
		{"the release", beginsRelease, lostRelease},
		{"the delete", "DELETE", lostDelete},
		{"the put", "INSERT", lostPut},
		{"the put's COMMIT", "COMMIT", lostPut},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				for _, cut := range cuts {
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
	succeeds(t, "Save", store.Save(bounded(t), c.Fence(), renewal("new")))
	stored := get(t, store, alice)
	equal(t, "the token in the row", stored.AccessToken.Reveal(), "new")
	equal(t, "Lease.ID", stored.Lease.ID, "")
	return 3
}

// lostFail: that the failure is recorded once counts; the contract lets the repeated call return
// ErrSuperseded.
func lostFail(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	c := claim(t, store, alice)
	_ = store.Fail(bounded(t), c.Fence(), failure())
	stored := get(t, store, alice)
	equal(t, "Failure.Class", stored.Failure.Class, credentials.ClassTransient)
	equal(t, "Failure.Count", stored.Failure.Count, 1)
	equal(t, "Lease.ID", stored.Lease.ID, "")
	return 3
}

func lostRelease(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	succeeds(t, "Release", store.Release(bounded(t), claim(t, store, alice).Fence()))
	equal(t, "Lease.ID", get(t, store, alice).Lease.ID, "")
	claim(t, store, alice)
	return 4
}

// lostDelete deletes bob, so that alice's row is left to be looked at.
func lostDelete(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	bob := keyOf("bob")
	seed(t, store, bob)
	succeeds(t, "Delete", store.Delete(bounded(t), bob))
	failsAs(t, "the second Delete", store.Delete(bounded(t), bob), credentials.ErrNotFound)
	return 1
}

// lostPut has nothing more to do: the put that lost its reply was the one that made alice's row.
func lostPut(t *testing.T, store *latchkey.Store) (version uint64) {
	t.Helper()
	equal(t, "the refresh token in the row", get(t, store, alice).RefreshToken.Reveal(), "seed")
	return 1
}

// afterLosing returns a wire's statement function that loses the reply to the first statement with
// that prefix, and calls meanwhile before the next statement, whatever that is.
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

// TestPutWhoseGrantWasExchanged: the reply to a put is lost, and before it is repeated another
// process has exchanged what it stored. Stored again, it would take the place of the only refresh
// token that works.
func TestPutWhoseGrantWasExchanged(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		other := newStore(t, s.open(t, database, interpolated))
		store := newStore(t, s.openWire(t, database, "", &wire{statement: afterLosing("COMMIT", func() {
			if err := other.Save(bounded(t), claim(t, other, alice).Fence(), renewal("new")); err != nil {
				t.Error(err)
			}
		})}))
		err := store.Put(bounded(t), alice, refreshToken("seed"))
		failsAs(t, "Put", err, credentials.ErrSuperseded)
		equal(t, "the refresh token in the row", get(t, other, alice).RefreshToken.Reveal(),
			renewal("new").RefreshToken.Reveal())
	})
}

// TestDeleteOfWhatWasMadeAgain: the reply to a delete is lost, and before it is repeated somebody
// has authorized the account again. The new grant is not deleted with the old one.
func TestDeleteOfWhatWasMadeAgain(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		other := newStore(t, s.open(t, database, interpolated))
		seed(t, other, alice)
		store := newStore(t, s.openWire(t, database, "", &wire{statement: afterLosing("COMMIT", func() {
			seed(t, other, alice)
		})}))
		succeeds(t, "Delete", store.Delete(bounded(t), alice))
		equal(t, "the refresh token in the row", get(t, other, alice).RefreshToken.Reveal(), "seed")
	})
}

// TestOneReplyLost cuts the connection at one statement of a call. Its callers learn nothing of it:
// no error, one exchange, and the row is as if nothing had been. (TestLostReplies has the store's
// calls.)
func TestOneReplyLost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, prefix string
		refused      bool // by the provider
	}{
		{"the claim's COMMIT", "COMMIT", false},
		{"the claim's UPDATE", beginsClaim, false},
		{"the read", beginsSelect, false},
		{"the save", beginsSave, false},
		{"the failure", beginsFail, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				for _, cut := range cuts {
					st := newStage(t, s, provider.Options{})
					if test.refused {
						st.p.Enqueue(alice.Account, provider.Fault{Kind: provider.InvalidClient})
					}
					w := &wire{statement: once(test.prefix, cut.fate)}
					db := s.openWire(t, st.database, "", w)
					answers := ask(bounded(t), st.manager(newStore(t, db), credentials.Options{}),
						3)
					for range 3 {
						a := receive(t, "an answer", answers)
						var failed *credentials.RefreshError
						if !test.refused {
							st.kept(granted(t, "a caller", a))
						} else if !errors.As(a.err, &failed) || failed.Code != "invalid_client" {
							t.Errorf("%s lost: a caller got error %v, want the provider's",
								cut.name, a.err)
						}
					}
					c := st.row()
					equal(t, cut.name+" lost: Version of the row", c.Version, 3)
					equal(t, cut.name+" lost: Lease.ID of the row", c.Lease.ID, "")
					equal(t, cut.name+" lost: connections that broke", w.broken(), 1)
					st.called(1)
					idle(t, db)
				}
			})
		})
	}
}

// cutOff is a network that is gone from the first statement with that prefix on, until it is
// mended.
type cutOff struct {
	wire

	gone, over atomic.Bool
}

func newCutOff(prefix string, first fate) *cutOff {
	n := &cutOff{}
	n.statement = func(text []byte) fate {
		switch {
		case n.over.Load():
			return deliver
		case n.gone.Load():
			return lose
		case strings.HasPrefix(string(text), prefix):
			n.gone.Store(true)
			return first
		}
		return deliver
	}
	return n
}

// slowly delays the first statement with that prefix, as a busy server would.
func (n *cutOff) slowly(prefix string, delay time.Duration) {
	inner, slow := n.statement, once(prefix, lose)
	n.statement = func(text []byte) fate {
		if slow(text) == lose {
			time.Sleep(delay)
		}
		return inner(text)
	}
}

// TestCutOffForLong has the store unreachable for longer than a call of it may take. Callers have
// ErrUnavailable then. When it is back, the process knows what it did: the next caller gets a token
// at once, not when the lease of an hour has ended, and nothing counts as interrupted, which under
// NeverReplay would cost the grant.
func TestCutOffForLong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, prefix string
		options      credentials.Options
		replay       credentials.Replay
		rescued      bool // the provider had answered
	}{
		{"at the claim's COMMIT", "COMMIT", credentials.Options{StoreTimeout: time.Second,
			Lease: time.Hour}, credentials.NeverReplay, false},
		{"at the save", beginsSave, credentials.Options{StoreTimeout: time.Second,
			Lease: time.Hour}, credentials.NeverReplay, true},
		{
			// Here the next claim has to wait for the lease's end, and takes the earlier one for
			// interrupted.
			"at the release of a claim that took too long", beginsRelease,
			credentials.Options{StoreTimeout: 4 * time.Second, ExchangeTimeout: 2 * time.Second,
				Lease: 7 * time.Second},
			credentials.ReplayOnce, false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				for _, cut := range cuts {
					st := newStage(t, s, provider.Options{})
					st.replay = test.replay
					n := newCutOff(test.prefix, cut.fate)
					if test.prefix == beginsRelease {
						n.slowly("COMMIT", 1200*time.Millisecond)
					}
					db := s.openWire(t, st.database, "", &n.wire)
					m := st.manager(newStore(t, db), test.options)
					_ = unavailable(t, cut.name+" lost: the caller", askSoon(t, m))
					n.over.Store(true)
					if test.rescued {
						rescued(t, st, m)
					}
					st.kept(granted(t, cut.name+" lost: the next caller", token(t, m)))
					st.called(1)
					idle(t, db)
				}
			})
		})
	}
}
