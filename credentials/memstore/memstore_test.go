package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return memstore.New() })
}

// TestOneStoreForAll: one table for all tests, as a database has.
func TestOneStoreForAll(t *testing.T) {
	store := memstore.New()
	storetest.Run(t, func(*testing.T) storetest.Store { return store })
}

func TestTimeInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, key, store := t.Context(), credentials.Key{Service: "github"}, memstore.New()
		get := func() credentials.Credential {
			t.Helper()
			c, err := store.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		grant := credentials.Grant{AccessToken: credentials.NewSecret("access"), Lifetime: time.Hour}
		if err := store.Put(ctx, key, grant); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if got, want := get().ExpiresIn, time.Nanosecond; got != want {
			t.Errorf("ExpiresIn: got %v, want %v", got, want)
		}
		c, err := store.Claim(ctx, key, credentials.Claim{ID: "a", Holder: "A", Lease: time.Minute})
		if err != nil || c.Lease.ID != "a" {
			t.Fatalf("Claim: got lease %q, error %v", c.Lease.ID, err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if l := get().Lease; !l.Live() || l.Age != time.Minute-time.Nanosecond {
			t.Errorf("before its end the lease is %+v", l)
		}
		time.Sleep(time.Nanosecond)
		if l := get().Lease; l.Live() {
			t.Errorf("at its end the lease is %+v", l)
		}
	})
}

func TestEndedContextIsWrapped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := memstore.New().Get(ctx, credentials.Key{Service: "github"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: got error %v, want context.Canceled", err)
	}
}

// Eight callers share one exchange: the credential was seeded with a refresh token alone, so it is
// due.
func Example() {
	ctx := context.Background()
	store := memstore.New()
	key := credentials.Key{Service: "github", Account: "alice"}
	seed := credentials.Grant{RefreshToken: credentials.NewSecret("from the authorization")}
	if err := store.Put(ctx, key, seed); err != nil {
		log.Fatal(err)
	}

	var exchanges atomic.Int32
	m, err := credentials.NewManager(store, credentials.Services{
		"github": {Refresher: credentials.RefresherFunc(
			func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
				n := exchanges.Add(1)
				return credentials.Grant{AccessToken: credentials.NewSecret(fmt.Sprint("token ", n)), Lifetime: time.Hour}, nil
			},
		)},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close(ctx)

	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			token, err := m.Token(ctx, key)
			if err != nil || token.Value.Reveal() != "token 1" {
				log.Fatal(token, err)
			}
		})
	}
	callers.Wait()
	fmt.Println("exchanges:", exchanges.Load())

	// Output: exchanges: 1
}

func TestNodeAhead(t *testing.T) {
	ctx, key, store := t.Context(), credentials.Key{Service: "github"}, memstore.New()
	ahead := store.Node(time.Hour)
	grant := credentials.Grant{AccessToken: credentials.NewSecret("access"), Lifetime: 90 * time.Minute}
	if err := store.Put(ctx, key, grant); err != nil {
		t.Fatal(err)
	}
	c, err := ahead.Get(ctx, key)
	if err != nil || c.ExpiresIn > 30*time.Minute || c.ExpiresIn < 29*time.Minute {
		t.Fatalf("an hour ahead: got a token that expires in %v, error %v; want 30 minutes", c.ExpiresIn, err)
	}
	claim := credentials.Claim{ID: "a", Holder: "A", Lease: time.Minute, Invalidated: c.TokenID()}
	if c, err = ahead.Claim(ctx, key, claim); err != nil || c.Lease.EndsIn != time.Minute {
		t.Fatalf("an hour ahead: got a lease that ends in %v, error %v", c.Lease.EndsIn, err)
	}
	if c, err = store.Get(ctx, key); err != nil || c.Lease.EndsIn < time.Hour {
		t.Errorf("the lease that was claimed an hour ahead ends in %v, error %v", c.Lease.EndsIn, err)
	}
}
