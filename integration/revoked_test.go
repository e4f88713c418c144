package integration_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/internal/testkit/api"
)

// TestTokensRevokedAtRandom: an API revokes alice's token again and again, at random, under 16
// callers in each of four managers. Every request is answered with 200, and each revocation causes
// one exchange.
func TestTokensRevokedAtRandom(t *testing.T) {
	const managers, callers, revocations = 4, 16, 10
	onServers(t, func(t *testing.T, s *server) {
		a := api.New(revocations, managers*callers)
		store, db := s.store(t, interpolated)
		put(t, store, alice, credentials.Grant{
			AccessToken: credentials.NewSecret(api.FirstToken), Lifetime: time.Hour,
		})
		served := httptest.NewServer(a)
		t.Cleanup(served.Close)
		base := &http.Transport{MaxIdleConnsPerHost: managers * callers}
		t.Cleanup(base.CloseIdleConnections)
		clients := make([]*http.Client, managers)
		for i := range clients {
			service := credentials.Service{Refresher: a, MinTokenAge: time.Nanosecond}
			m, err := credentials.NewManager(store, credentials.Services{alice.Service: service},
				&credentials.Options{Logger: slog.New(slog.DiscardHandler)})
			must(t, err)
			t.Cleanup(func() { succeeds(t, "Close", m.Close(bounded(t))) })
			source, err := m.Source(alice)
			must(t, err)
			clients[i] = &http.Client{Transport: &bearer.Transport{Source: source, Base: base}}
		}
		must(t, a.Storm(within(t, 4*patience), served.URL, clients...))
		equal(t, "revocations", a.Revocations(), revocations)
		equal(t, "exchanges", a.Exchanges(), revocations)
		idle(t, db)
	})
}
