package cluster_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// splitsReads has two processes work through the address of a Router that sends reads to the
// secondaries, which apply nothing while this lasts: neither gets an error that is out of date, one
// exchanges, and the other learns of the result.
func splitsReads(t *testing.T, g *group, r router) {
	t.Helper()
	const split, took = "split", 300 * time.Millisecond
	seeded := credentials.Key{Service: split, Account: "seeded"}
	valid := credentials.Key{Service: split, Account: "valid"}
	primary := g.primary(t)
	for _, n := range g.nodes {
		if n != primary {
			defer n.lock(t)()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	store := newStore(t, primary.addr)
	must(t, store.Put(ctx, valid, credentials.Grant{
		AccessToken: credentials.NewSecret("valid"), Lifetime: time.Hour,
	}))
	must(t, store.Put(ctx, seeded, credentials.Grant{RefreshToken: credentials.NewSecret("seed")}))
	if _, err := newStore(t, r.split).Get(ctx, valid); err == nil {
		t.Error("the secondaries are not behind")
	}
	var exchanges atomic.Int32
	refresher := credentials.RefresherFunc(
		func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
			exchanges.Add(1)
			time.Sleep(took)
			return credentials.Grant{AccessToken: credentials.NewSecret("new"), Lifetime: time.Hour}, nil
		})
	var group sync.WaitGroup
	for range 2 {
		m, err := credentials.NewManager(newStore(t, r.split),
			credentials.Services{split: {Refresher: refresher}}, nil)
		must(t, err)
		group.Go(func() {
			for key, want := range map[credentials.Key]string{valid: "valid", seeded: "new"} {
				began := time.Now()
				token, err := m.Token(ctx, key)
				t.Logf("reads from secondaries that are behind: the token of %s after %v", key, time.Since(began))
				if err != nil || token.Value.Reveal() != want {
					t.Errorf("the token of %s: %q, %v", key, token.Value.Reveal(), err)
				}
			}
			if err := m.Close(ctx); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	group.Wait()
	for _, key := range []credentials.Key{valid, seeded} {
		must(t, store.Delete(ctx, key))
	}
	if n := exchanges.Load(); n != 1 {
		t.Errorf("%d exchanges", n)
	}
}
