package integration_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

const beginsRelease = "UPDATE `credentials`\nSET due_at"

// cuts are where a statement is lost: before the server got it, and after it carried it out.
var cuts = []struct {
	name string
	fate fate
}{{"statement", lose}, {"reply", loseReply}}

// TestOneReplyLost cuts the connection at one statement of a flight. Its callers learn nothing of it: no error, one
// exchange, and the row is as if nothing had been. (TestLostReplies has the store's calls.)
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
					answers := ask(bounded(t), st.manager(newStore(t, db), credentials.Options{}), 3)
					for range 3 {
						a := receive(t, "an answer", answers)
						var failed *credentials.RefreshError
						if !test.refused {
							st.kept(granted(t, "a caller", a))
						} else if !errors.As(a.err, &failed) || failed.Code != "invalid_client" {
							t.Errorf("%s lost: a caller got error %v, want the provider's", cut.name, a.err)
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

// TestReleaseLost is TestLostReplies for the call that gives up a lease.
func TestReleaseLost(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, cut := range cuts {
			w := &wire{statement: once(beginsRelease, cut.fate)}
			db := s.openWire(t, s.migrated(t), "", w)
			store := newStore(t, db)
			seed(t, store, alice)
			c := claim(t, store, alice)
			if err := store.Release(bounded(t), c.Fence()); err != nil {
				t.Errorf("%s lost: %v", cut.name, err)
			}
			stored := get(t, store, alice)
			equal(t, "Version", stored.Version, 3)
			equal(t, "Lease.ID", stored.Lease.ID, "")
			equal(t, "connections that broke", w.broken(), 1)
			claim(t, store, alice)
			idle(t, db)
		}
	})
}

// cutOff is a network that is gone from the first statement with that prefix on, until it is mended.
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

// TestCutOffForLong has the store unreachable for longer than a call of it may take. Callers have ErrUnavailable then.
// When it is back, the process knows what it did: the next caller gets a token at once, not when the lease of an hour has
// ended, and nothing counts as interrupted, which under NeverReplay would cost the grant.
func TestCutOffForLong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, prefix string
		options      credentials.Options
		replay       credentials.Replay
		rescued      bool // the provider had answered
	}{
		{"at the claim's COMMIT", "COMMIT", credentials.Options{StoreTimeout: time.Second, Lease: time.Hour}, credentials.NeverReplay, false},
		{"at the save", beginsSave, credentials.Options{StoreTimeout: time.Second, Lease: time.Hour}, credentials.NeverReplay, true},
		{
			// Here the next claim has to wait for the lease's end, and takes the earlier one for interrupted.
			"at the release of a claim that took too long", beginsRelease,
			credentials.Options{StoreTimeout: 4 * time.Second, ExchangeTimeout: 2 * time.Second, Lease: 7 * time.Second},
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
