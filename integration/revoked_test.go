package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit/api"
)

// TestTokensRevokedAtRandom: an API revokes alice's token again and again, at random, under 16
// callers in each of four processes. Every request is answered with 200, and each revocation causes
// one exchange.
func TestTokensRevokedAtRandom(t *testing.T) {
	const processes, callers, revocations = 4, 16, 10
	onServers(t, func(t *testing.T, s *server) {
		a := api.New(revocations, processes*callers)
		database := s.migrated(t)
		put(t, newStore(t, s.open(t, database, interpolated)), alice, credentials.Grant{
			AccessToken: credentials.NewSecret(api.FirstToken), Lifetime: time.Hour,
			RefreshToken: credentials.NewSecret("refresh"),
		})
		served := httptest.NewServer(a)
		t.Cleanup(served.Close)
		inProcesses(t, processes, "client", work{DSN: s.dsn(database, interpolated), URL: served.URL, Callers: callers})
		equal(t, "revocations", a.Revocations(), revocations)
		equal(t, "exchanges", a.Exchanges(), revocations)
	})
}

// useAPI is the work of the client: its callers use the API with alice's token.
func useAPI(ctx context.Context, w work, db *sql.DB) (err error) {
	store, err := latchkey.NewStore(db, nil)
	if err != nil {
		return err
	}
	service := credentials.Service{Refresher: refresherAt(w.URL + api.TokenPath), MinTokenAge: time.Nanosecond}
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: service},
		&credentials.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(ctx)) }()
	source, err := m.Source(alice)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &bearer.Transport{
		Source: source, Base: &http.Transport{MaxIdleConnsPerHost: w.Callers},
	}}
	errs := make([]error, w.Callers)
	var callers sync.WaitGroup
	for i := range w.Callers {
		callers.Go(func() { errs[i] = api.Use(ctx, client, w.URL, os.Getpid()*w.Callers+i) })
	}
	callers.Wait()
	return errors.Join(errs...)
}
