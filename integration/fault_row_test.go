package integration_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// rowChange is what somebody does to the row.
type rowChange struct {
	name   string
	change func(t *testing.T, st *stage)
	want   string // the callers' token; "": one that is exchanged for
	err    error
	calls  int
}

func (c rowChange) check(t *testing.T, st *stage, a got) {
	t.Helper()
	if c.err != nil {
		if !errors.Is(a.err, c.err) {
			t.Errorf("a caller got the token %q, error %v; want %v", a.token.Value.Reveal(), a.err, c.err)
		}
		return
	}
	got := granted(t, "a caller", a)
	st.kept(got)
	if c.want != "" {
		equal(t, "a caller's token", got, c.want)
	}
}

// TestRowChangesUnderAFlight changes the row while one process exchanges and another waits for it. The callers of both
// get what the row then says; the exchange's result is dropped. (TestPutDuringExchange has a put alone.)
func TestRowChangesUnderAFlight(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, st *stage) {
		t.Helper()
		if err := st.store.Delete(bounded(t), alice); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []rowChange{
		{"deleted", remove, "", credentials.ErrNotFound, 1},
		{"deleted and made again", func(t *testing.T, st *stage) { remove(t, st); st.authorize() }, "", nil, 2},
		{"deleted and made again with a token", func(t *testing.T, st *stage) {
			remove(t, st)
			grant := renewal("put").Grant
			grant.RefreshToken = credentials.NewSecret(st.p.Register(alice.Account))
			put(t, st.store, alice, grant)
		}, "put", nil, 1},
		{"replaced by a grant without token", func(_ *testing.T, st *stage) { st.authorize() }, "", nil, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				st := newStage(t, s, provider.Options{})
				presented := st.hold(0)
				w := &wire{}
				waiter := st.manager(newStore(t, s.openWire(t, st.database, "", w)), credentials.Options{})
				first := ask(bounded(t), st.manager(st.store, credentials.Options{}), 2)
				receive(t, "the presentation", st.arrived)
				second := ask(bounded(t), waiter, 2)
				pollsOf(t, w, 1)
				test.change(t, st)
				for range 2 { // the other process sees it at once, and does not wait for the exchange
					a := receive(t, "an answer", second)
					if test.err == nil && errors.Is(a.err, credentials.ErrNotFound) {
						a = token(t, waiter) // it looked before the row was made again
					}
					test.check(t, st, a)
				}
				close(presented.open)
				for range 2 {
					test.check(t, st, receive(t, "an answer", first))
				}
				st.called(test.calls)
				idle(t, st.db)
			})
		})
	}
}

// TestRowChangesElsewhere: a process that has a token cached notices.
func TestRowChangesElsewhere(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		m := st.manager(st.store, credentials.Options{Recheck: 20 * time.Millisecond})
		put(t, st.store, alice, renewal("first").Grant)
		equal(t, "the token", granted(t, "a caller", token(t, m)), "first")
		put(t, st.store, alice, renewal("second").Grant)
		eventually(t, "the token that was put", func() bool { return granted(t, "a caller", token(t, m)) == "second" })
		if err := st.store.Delete(bounded(t), alice); err != nil {
			t.Fatal(err)
		}
		eventually(t, "ErrNotFound", func() bool { return errors.Is(token(t, m).err, credentials.ErrNotFound) })
		st.authorize()
		st.kept(granted(t, "a caller", token(t, m)))
		st.called(1)
	})
}
