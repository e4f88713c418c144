package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// Eight callers want a token that has to be fetched: one exchange, and all of them get its result.
// A service uses package mysql in place of memstore, so that its processes share what is stored,
// and oauth2refresh in place of the function.
func Example() {
	ctx := context.Background()
	alice := credentials.Key{Service: "github", Account: "alice"}
	store := memstore.New()
	if err := store.Put(ctx, alice, credentials.Grant{RefreshToken: credentials.NewSecret("from alice's authorization")}); err != nil {
		log.Fatal(err)
	}
	exchange := func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
		fmt.Println("exchange for", in.Key)
		return credentials.Grant{AccessToken: credentials.NewSecret("gho_123"), Lifetime: time.Hour}, nil
	}
	m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: credentials.RefresherFunc(exchange)}}, nil)
	if err != nil {
		log.Fatal(err)
	}

	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if _, err := m.Token(ctx, alice); err != nil {
				log.Print(err)
			}
		})
	}
	callers.Wait()
	token, err := m.Token(ctx, alice)
	fmt.Println(token.Value, token.Value.Reveal(), err)

	// Output:
	// exchange for github/alice
	// [redacted] gho_123 <nil>
}

// An error says what to do about it: ask a person, or come back later.
func ExampleRefreshError() {
	ctx := context.Background()
	key := credentials.Key{Service: "github", Account: "alice"}
	store := memstore.New()
	if err := store.Put(ctx, key, credentials.Grant{RefreshToken: credentials.NewSecret("revoked")}); err != nil {
		log.Fatal(err)
	}
	refuse := credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassDead, Code: "invalid_grant"}
	})
	m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: refuse}}, &credentials.Options{Holder: "web-1"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = m.Token(ctx, key)
	fmt.Println(err)

	// Output: refresh of github/alice: dead (invalid_grant) [exchange by web-1]; authorize the account again and put the new grant
}

// A token that the external API turned down before it expired is reported; the answer is the one to
// try next.
func ExampleManager_Invalidate() {
	ctx := context.Background()
	key := credentials.Key{Service: "github"}
	store := memstore.New()
	grant := credentials.Grant{AccessToken: credentials.NewSecret("revoked"), RefreshToken: credentials.NewSecret("r"), Lifetime: time.Hour}
	if err := store.Put(ctx, key, grant); err != nil {
		log.Fatal(err)
	}
	exchange := credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{AccessToken: credentials.NewSecret("new"), Lifetime: time.Hour}, nil
	})
	m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: exchange}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	token, err := m.Token(ctx, key)
	fmt.Println(token.Value.Reveal(), err) // and the API answers 401
	token, err = m.Invalidate(ctx, key, token)
	fmt.Println(token.Value.Reveal(), err)

	// Output:
	// revoked <nil>
	// new <nil>
}

// A process ends in the order of what depends on what: first those who ask for tokens, then the
// keeper, then the manager, and the pool of its store last.
func ExampleManager_Close() {
	signaled, stop := context.WithCancel(context.Background()) // of signal.NotifyContext, in a service
	store := memstore.New()
	refresher := credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{AccessToken: credentials.NewSecret("gho_123"), Lifetime: time.Hour}, nil
	})
	m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: refresher}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	keeper, err := credentials.NewKeeper(m, nil)
	if err != nil {
		log.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() { fmt.Println("keeper:", keeper.Run(signaled)) })

	stop()         // a service ends its server too, with Shutdown, when the signal comes
	working.Wait() // nobody asks for a token any more

	// The signal's context has ended, so Close gets one of its own: long enough for an exchange
	// that is under way to end and to be saved.
	ctx, cancel := context.WithTimeout(context.Background(), 21*time.Second)
	defer cancel()
	fmt.Println("manager:", m.Close(ctx)) // and then db.Close()

	// Output:
	// keeper: context canceled
	// manager: <nil>
}

// An observer is told of each exchange, and of each grant that died, for metrics of the program's own.
// Package otelcredentials has one for OpenTelemetry.
func ExampleObserver() {
	ctx := context.Background()
	alice := credentials.Key{Service: "github", Account: "alice"}
	store := memstore.New()
	if err := store.Put(ctx, alice, credentials.Grant{RefreshToken: credentials.NewSecret("revoked by alice")}); err != nil {
		log.Fatal(err)
	}
	refuse := func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassDead, Code: "invalid_grant"}
	}
	services := credentials.Services{"github": {Refresher: credentials.RefresherFunc(refuse)}}
	m, err := credentials.NewManager(store, services, &credentials.Options{
		Observer: &credentials.Observer{
			ExchangeEnded: func(_ context.Context, e credentials.ExchangeInfo) {
				fmt.Println("exchange of", e.Key, e.Trigger, e.Outcome, e.Class)
				if e.Outcome == credentials.OutcomeFailed && e.Class == credentials.ClassDead {
					fmt.Println("ask", e.Key.Account, "to authorize again")
				}
			},
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.Token(ctx, alice); !errors.Is(err, credentials.ErrGrantDead) {
		log.Fatal(err)
	}
	if err := m.Close(ctx); err != nil { // tells what is not told yet
		log.Fatal(err)
	}
	fmt.Println(m.Stats().Dead)
	// Output:
	// exchange of github/alice expired failed dead
	// ask alice to authorize again
	// 1
}
