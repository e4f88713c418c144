package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// TestEveryCallerLeaves (invariant 7): the callers of two processes, the one that started the exchange among them, have
// three quarters of the time that it takes. It ends and is saved all the same, and the next callers get its token without
// a call.
func TestEveryCallerLeaves(t *testing.T) {
	const latency = 800 * time.Millisecond
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{Latency: latency})
		managers := []*credentials.Manager{
			st.manager(st.store, credentials.Options{}),
			st.manager(newStore(t, s.open(t, st.database, "")), credentials.Options{}),
		}
		ctx, cancel := context.WithTimeout(bounded(t), latency*3/4)
		defer cancel()
		const n = 4
		for _, answers := range []<-chan got{ask(ctx, managers[0], n), ask(ctx, managers[1], n)} {
			for range n {
				if a := receive(t, "an answer", answers); !errors.Is(a.err, context.DeadlineExceeded) {
					t.Errorf("a caller whose time was too short: got the token %q, error %v", a.token.Value.Reveal(), a.err)
				}
			}
		}
		eventually(t, "the token to be saved", func() bool { return !st.row().Token.IsZero() })
		for _, m := range managers {
			st.kept(granted(t, "the next caller", token(t, m)))
		}
		st.called(1)
		idle(t, st.db)
	})
}
