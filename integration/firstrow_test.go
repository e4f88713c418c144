package integration_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// TestFirstRowAtOnce starts many managers, each with a pool of its own, on a table without a row,
// again and again. Nobody puts anything: each start costs one exchange.
func TestFirstRowAtOnce(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		const starts, managers = 10, 8
		database := s.migrated(t)
		var exchanges atomic.Int64
		service := credentials.Service{
			ClientCredentials: true,
			Refresher: credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
				n := exchanges.Add(1)
				return credentials.Grant{AccessToken: credentials.NewSecret(fmt.Sprint("token ", n)), Lifetime: time.Hour}, nil
			}),
		}
		all := make([]*credentials.Manager, managers)
		for i := range all {
			m, err := credentials.NewManager(newStore(t, s.open(t, database, interpolated)),
				credentials.Services{"robot": service}, &credentials.Options{Logger: slog.New(slog.DiscardHandler)})
			must(t, err)
			all[i] = m
			t.Cleanup(func() { succeeds(t, "Close", m.Close(bounded(t))) })
		}
		for start := range starts {
			key := credentials.Key{Service: "robot", Account: fmt.Sprint("start ", start)}
			var callers sync.WaitGroup
			for _, m := range all {
				callers.Go(func() {
					token, err := m.Token(bounded(t), key)
					if err != nil || token.Value.Reveal() != fmt.Sprint("token ", start+1) {
						t.Errorf("start %d: got token %q, error %v", start, token.Value.Reveal(), err)
					}
				})
			}
			callers.Wait()
		}
		equal(t, "exchanges", exchanges.Load(), starts)
	})
}
