package integration_test

import (
	"context"
	"errors"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// TestEveryCallerLeaves (invariant 7): the callers of two processes, the one that started the exchange among them, leave
// while it is under way. It ends and is saved all the same, and the next callers get its token without a call.
func TestEveryCallerLeaves(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		presented := st.hold(0)
		w := &wire{}
		managers := []*credentials.Manager{
			st.manager(st.store, credentials.Options{}),
			st.manager(newStore(t, s.openWire(t, st.database, "", w)), credentials.Options{}),
		}
		const n = 4
		ctx, leave := context.WithCancel(bounded(t))
		defer leave()
		first := ask(ctx, managers[0], n)
		receive(t, "the presentation", st.arrived)
		second := ask(ctx, managers[1], n)
		pollsOf(t, w, 1)
		leave()
		for _, answers := range []<-chan got{first, second} {
			for range n {
				if a := receive(t, "an answer", answers); !errors.Is(a.err, context.Canceled) {
					t.Errorf("a caller that left: got the token %q, error %v", a.token.Value.Reveal(), a.err)
				}
			}
		}
		close(presented.open)
		eventually(t, "the token to be saved", func() bool { return !st.row().Token.IsZero() })
		for _, m := range managers {
			st.kept(granted(t, "the next caller", token(t, m)))
		}
		st.called(1)
		idle(t, st.db)
	})
}
