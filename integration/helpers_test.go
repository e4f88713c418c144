package integration_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// patience bounds every wait.
const patience = time.Minute

// bounded is a context in which a call of the test has to end. It is not the test's own, which has
// ended when cleanups run.
func bounded(t testing.TB) context.Context { return within(t, patience) }

func within(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
	return value
}

// start makes a call in a goroutine.
func start(call func() error) chan error {
	ended := make(chan error, 1)
	go func() { ended <- call() }()
	return ended
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// errOf is the error of a call that returns a value beside it.
func errOf[T any](_ T, err error) error { return err }

// must ends the test if there is an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func succeeds(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func failsAs(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// failsWith fails the test unless the error has that text in it.
func failsWith(t testing.TB, what string, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got error %v, want one with %q", what, err, text)
	}
}

// alice is the credential of tests that need but one.
var alice = keyOf("alice")

// keyOf is the key of another account of alice's service.
func keyOf(name string) credentials.Key {
	return credentials.Key{Service: "github", Account: name}
}

// refreshToken is a grant without access token, which is due at once.
func refreshToken(token string) credentials.Grant {
	return credentials.Grant{RefreshToken: credentials.NewSecret(token)}
}

// seed puts a refresh token without access token, which is due at once.
func seed(t testing.TB, store *latchkey.Store, key credentials.Key) {
	t.Helper()
	put(t, store, key, credentials.Grant{RefreshToken: credentials.NewSecret("seed")})
}

// seedAccounts seeds n accounts of alice's service.
func seedAccounts(t testing.TB, store *latchkey.Store, n int) {
	t.Helper()
	for i := range n {
		seed(t, store, keyOf(fmt.Sprint("account ", i)))
	}
}

func put(t testing.TB, store *latchkey.Store, key credentials.Key, grant credentials.Grant) {
	t.Helper()
	if err := store.Put(bounded(t), key, grant); err != nil {
		t.Fatalf("Put(%v): %v", key, err)
	}
}

func get(t testing.TB, store *latchkey.Store, key credentials.Key) credentials.Credential {
	t.Helper()
	c, err := store.Get(bounded(t), key)
	if err != nil {
		t.Fatalf("Get(%v): %v", key, err)
	}
	return c
}

// claimOf is a claim with a name of its own.
func claimOf(holder string) credentials.Claim {
	return credentials.Claim{ID: rand.Text(), Holder: holder, Lease: time.Minute}
}

// claim makes a claim that must succeed.
func claim(t testing.TB, store *latchkey.Store, key credentials.Key) credentials.Credential {
	t.Helper()
	asked := claimOf("holder")
	c, err := store.Claim(bounded(t), key, asked)
	if err != nil {
		t.Fatalf("Claim(%v): %v", key, err)
	}
	if c.Lease.ID != asked.ID {
		t.Fatalf("Claim(%v): not made; the lease is %+v", key, c.Lease)
	}
	return c
}

// renewal is a provider's answer with that access token.
func renewal(token string) credentials.Renewal {
	return credentials.Renewal{
		Grant: credentials.Grant{
			AccessToken:     credentials.NewSecret(token),
			RefreshToken:    credentials.NewSecret(token + "'s refresh token"),
			Lifetime:        time.Hour,
			RefreshLifetime: credentials.Never,
		},
		By:    "holder",
		DueIn: 50 * time.Minute,
		Took:  10 * time.Millisecond,
	}
}

// failure is a provider's refusal.
func failure() credentials.Failure {
	return credentials.Failure{Class: credentials.ClassTransient, Code: "temporarily_unavailable",
		RetryIn: time.Minute}
}

// idle fails the test unless all of the pool's connections are given back soon.
func idle(t testing.TB, db *sql.DB) {
	t.Helper()
	eventually(t, "all connections to be back in the pool", func() bool {
		return db.Stats().InUse == 0
	})
}
