package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// asking is a manager whose refresher must not be called, in a process of a pool.
func asking(t testing.TB, store credentials.Store) *credentials.Manager {
	t.Helper()
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: {
		Refresher: credentials.RefresherFunc(
			func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
				return credentials.Grant{}, errors.New("a refresh token was presented")
			}),
	}}, &credentials.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(t, err)
	t.Cleanup(func() { succeeds(t, "Close", m.Close(bounded(t))) })
	return m
}

// TestStatementsOfErrors counts what an error costs that a claim confirms before a caller gets it:
// once a second for one credential, and together for credentials that are asked for together.
func TestStatementsOfErrors(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{}
		db := s.openWire(t, s.migrated(t), "", w)
		store := newStore(t, db)
		count := func(name string, most, aSecond int, call func()) {
			t.Helper()
			before, began := len(w.statements()), time.Now()
			call()
			n := len(w.statements()) - before
			t.Logf("%s: %d statements", name, n)
			if most += aSecond * int(time.Since(began)/time.Second); n > most {
				t.Errorf("%d statements of %s, want at most %d", n, name, most)
			}
		}
		fails := func(m *credentials.Manager, key credentials.Key, want error) {
			t.Helper()
			failsAs(t, "Token of "+key.String(), errOf(m.Token(bounded(t), key)), want)
		}
		seed(t, store, alice)
		must(t, store.Fail(bounded(t), claim(t, store, alice).Fence(),
			credentials.Failure{Class: credentials.ClassDead}))
		// SET TRANSACTION, START TRANSACTION, SELECT … SKIP LOCKED, COMMIT.
		m := asking(t, store)
		count("a dead grant", 1+4, 0, func() { fails(m, alice, credentials.ErrGrantDead) })
		const calls = 500
		count(fmt.Sprintf("a dead grant that is asked for %d times", calls), calls+4, 4, func() {
			for range calls {
				fails(m, alice, credentials.ErrGrantDead)
			}
		})
		// And a SELECT that tells a row that is locked from one that is not there.
		count("a credential that is not there", 1+5, 0, func() {
			fails(m, keyOf("nobody"), credentials.ErrNotFound)
		})
		const keys, callers = 2000, 64
		count(fmt.Sprintf("%d keys that are not there, by %d callers", keys, callers), keys, 0, func() {
			var group sync.WaitGroup
			for first := range callers {
				group.Go(func() {
					for i := first; i < keys; i += callers {
						fails(m, keyOf(fmt.Sprint("nobody ", i)), credentials.ErrNotFound)
					}
				})
			}
			group.Wait()
		})
	})
}

// BenchmarkTokenOfNobody is a caller who asks for one key after the other that is not there.
func BenchmarkTokenOfNobody(b *testing.B) {
	s := servers[0]
	m := asking(b, newStore(b, s.open(b, s.migrated(b), interpolated)))
	i := 0
	for b.Loop() {
		i++
		if _, err := m.Token(b.Context(), keyOf(fmt.Sprint("nobody ", i))); !errors.Is(err, credentials.ErrNotFound) {
			b.Fatal(err)
		}
	}
}
