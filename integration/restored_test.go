package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// restored is a table of two accounts that was backed up, went on, and was restored from the
// backup. Alice's refresh token was exchanged meanwhile, bob's was not. The provider revokes a
// grant whose refresh token comes back.
type restored struct {
	db  *sql.DB
	p   *provider.Provider
	url string
}

func newRestored(t *testing.T, s *server) *restored {
	t.Helper()
	r := &restored{db: s.open(t, s.migrated(t), interpolated), p: provider.New(provider.Options{})}
	served, err := provider.Start("", r.p)
	must(t, err)
	t.Cleanup(func() { _ = served.Close() })
	r.url = served.TokenURL()
	production := r.store(t, "production")
	for _, key := range []credentials.Key{alice, keyOf("bob")} {
		put(t, production, key, refreshToken(r.p.Register(key.Account)))
	}
	// A backup, as mysqldump makes one.
	execute(t, r.db, "CREATE TABLE backup LIKE credentials")
	execute(t, r.db, "INSERT INTO backup SELECT * FROM credentials")
	must(t, errOf(r.manager(t, production).Token(bounded(t), alice)))
	execute(t, r.db, "DELETE FROM credentials")
	execute(t, r.db, "INSERT INTO credentials SELECT * FROM backup")
	return r
}

func (r *restored) store(t *testing.T, deployment string) *latchkey.Store {
	t.Helper()
	return storeWith(t, r.db, latchkey.Options{Deployment: deployment})
}

// manager returns that of a service that has just been started.
func (r *restored) manager(t *testing.T, store *latchkey.Store) *credentials.Manager {
	t.Helper()
	m, err := credentials.NewManager(store, credentials.Services{
		alice.Service: {Refresher: refresherAt(r.url)},
	}, &credentials.Options{Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { succeeds(t, "Close", m.Close(bounded(t))) })
	return m
}

// TestRestoredTable: services that go on with a restored table present refresh tokens that were
// used since the backup, and the provider ends those grants. The others live.
func TestRestoredTable(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		r := newRestored(t, s)
		m := r.manager(t, r.store(t, "production"))
		failsAs(t, "alice, exchanged since the backup", errOf(m.Token(bounded(t), alice)), credentials.ErrGrantDead)
		succeeds(t, "bob, not exchanged since", errOf(m.Token(bounded(t), keyOf("bob"))))
		equal(t, "reuse detected", r.p.Stats().ReuseDetected, 1)
	})
}

// TestRestoredTableUnderAnotherName is what docs/operations.md advises: the services are started
// under a new name, which keeps them and their keepers from all rows. An operator, under the old
// name, deletes what was exchanged since the backup; the new name adopts the rest. Nothing is
// presented twice.
func TestRestoredTableUnderAnotherName(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		r := newRestored(t, s)
		after := r.store(t, "production-2")
		m := r.manager(t, after)
		keeper, err := credentials.NewKeeper(m, nil)
		must(t, err)
		failsAs(t, "a caller", errOf(m.Token(bounded(t), alice)), credentials.ErrOtherDeployment)
		kept := make(chan error, 1)
		ctx, stop := context.WithCancel(bounded(t))
		defer stop()
		go func() { kept <- keeper.Run(ctx) }()
		if err := receive(t, "the keeper to stop", kept); !errors.Is(err, credentials.ErrOtherDeployment) {
			t.Errorf("Run of the keeper: got error %v, want ErrOtherDeployment", err)
		}
		equal(t, "exchanges before the operator's work", r.p.Stats().Calls, 1)

		must(t, r.store(t, "production").Delete(bounded(t), alice))
		must(t, errOf(after.Adopt(bounded(t), "production", latchkey.ResealOptions{})))
		succeeds(t, "bob", errOf(m.Token(bounded(t), keyOf("bob"))))
		failsAs(t, "alice", errOf(m.Token(bounded(t), alice)), credentials.ErrNotFound)
		put(t, after, alice, refreshToken(r.p.Register(alice.Account)))
		succeeds(t, "alice, authorized again", errOf(m.Token(bounded(t), alice)))
		equal(t, "reuse detected", r.p.Stats().ReuseDetected, 0)
	})
}
