package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

var alice = credentials.Key{Service: "github", Account: "alice"}

// exchanging returns a manager whose exchange tells when it begins, and ends when it is let go.
func exchanging(t *testing.T) (store *memstore.Store, m *credentials.Manager, begun, end chan struct{}) {
	t.Helper()
	store, begun, end = memstore.New(), make(chan struct{}), make(chan struct{})
	if err := store.Put(t.Context(), alice, credentials.Grant{RefreshToken: credentials.NewSecret("r")}); err != nil {
		t.Fatal(err)
	}
	exchange := func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		close(begun)
		<-end
		return credentials.Grant{AccessToken: credentials.NewSecret("new"), Lifetime: time.Hour}, nil
	}
	m, err := credentials.NewManager(store,
		credentials.Services{"github": {Refresher: credentials.RefresherFunc(exchange)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return store, m, begun, end
}

// serving runs serve with a server at that address.
func serving(ctx context.Context, t *testing.T, m *credentials.Manager, address string) <-chan error {
	t.Helper()
	keeper, err := credentials.NewKeeper(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, &http.Server{Addr: address, Handler: api{m}, ReadHeaderTimeout: time.Second}, keeper, m)
	}()
	return ended
}

// An exchange that is under way when the signal comes is saved before serve returns, and the pool
// is closed after that.
func TestExchangeIsSavedAtTheEnd(t *testing.T) {
	store, m, begun, end := exchanging(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := serving(ctx, t, m, "127.0.0.1:0")
	<-begun // by the keeper, since the grant is due
	stop()
	select {
	case err := <-ended:
		t.Errorf("serve returned %v, and the exchange is under way", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c, err := store.Get(t.Context(), alice)
	if err != nil || c.AccessToken.Reveal() != "new" {
		t.Errorf("the store has the token %q, error %v", c.AccessToken.Reveal(), err)
	}
}

// A port that is taken ends the keeper and the manager too.
func TestPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, m, _, end := exchanging(t)
	close(end)
	if err := <-serving(t.Context(), t, m, taken.Addr().String()); err == nil {
		t.Error("got no error")
	}
	bob := credentials.Key{Service: "github", Account: "bob"}
	if _, err := m.Token(t.Context(), bob); !errors.Is(err, credentials.ErrClosed) {
		t.Errorf("Token: got error %v, want ErrClosed", err)
	}
}

// The table of errors in the documentation of package credentials.
func TestStatusOf(t *testing.T) {
	again := &credentials.RefreshError{Class: credentials.ClassTransient, RetryAt: time.Now().Add(30*time.Second + time.Millisecond)}
	for _, test := range []struct {
		err    error
		status int
		again  time.Duration
	}{
		{context.DeadlineExceeded, 504, 0},
		{credentials.ErrInvalidKey, 400, 0},
		{credentials.ErrNotFound, 403, 0},
		{credentials.ErrDisabled, 503, 0},
		{&credentials.RefreshError{Class: credentials.ClassDead}, 403, 0},
		{again, 503, 31 * time.Second},
		{&credentials.RefreshError{Class: credentials.ClassUnknown}, 503, time.Second},
		{fmt.Errorf("%w: %w", credentials.ErrUnavailable, credentials.ErrRowLocked), 503, time.Second},
		{credentials.ErrClosed, 503, time.Second},
		{credentials.ErrUnknownService, 500, 0},
		{credentials.ErrSchema, 500, 0},
		{errAPI, 502, 0},
	} {
		status, again := statusOf(fmt.Errorf("wrapped: %w", test.err))
		if status != test.status || again != test.again {
			t.Errorf("%v: got %d, again in %v; want %d, %v", test.err, status, again, test.status, test.again)
		}
	}
}
