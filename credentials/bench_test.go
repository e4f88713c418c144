package credentials_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// The hot path, a token that is cached and fresh, from the limit (one read of the monotonic clock)
// to a peer that guards its token with a mutex. Run with -cpu 1,4: what has no lock gets faster
// with more goroutines.

// started makes a manager with a token that does not run out while a test or benchmark runs.
func started(tb testing.TB) (*credentials.Manager, *credentials.Source) {
	tb.Helper()
	store := memstore.New()
	if err := store.Put(tb.Context(), alice, credentials.Grant{AccessToken: secret("access"), Lifetime: 24 * time.Hour}); err != nil {
		tb.Fatal(err)
	}
	services := credentials.Services{alice.Service: {Refresher: credentials.RefresherFunc(refreshNothing)}}
	m, err := credentials.NewManager(store, services, &credentials.Options{Recheck: 24 * time.Hour})
	if err != nil {
		tb.Fatal(err)
	}
	source, err := m.Source(alice)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := source.Token(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return m, source
}

func BenchmarkClockRead(b *testing.B) {
	began := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if time.Since(began) < 0 {
				b.Error("the clock runs backwards")
			}
		}
	})
}

func BenchmarkSourceToken(b *testing.B) {
	_, source := started(b)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if token, err := source.Token(ctx); err != nil || token.Value.IsZero() {
				b.Error(token, err)
			}
		}
	})
}

func BenchmarkManagerToken(b *testing.B) {
	m, _ := started(b)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if token, err := m.Token(ctx, alice); err != nil || token.Value.IsZero() {
				b.Error(token, err)
			}
		}
	})
}

func BenchmarkReuseTokenSource(b *testing.B) {
	source := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "access", Expiry: time.Now().Add(24 * time.Hour)}, nil)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if token, err := source.Token(); err != nil || token.AccessToken == "" {
				b.Error(token, err)
			}
		}
	})
}

func TestHotPathAllocatesNothing(t *testing.T) {
	m, source := started(t)
	for _, test := range []struct {
		name  string
		token func(ctx context.Context) (credentials.Token, error)
	}{
		{"Source.Token", source.Token},
		{"Manager.Token", func(ctx context.Context) (credentials.Token, error) { return m.Token(ctx, alice) }},
	} {
		ctx := t.Context()
		if n := testing.AllocsPerRun(1000, func() {
			if token, err := test.token(ctx); err != nil || token.Value.IsZero() {
				t.Errorf("%s: got token %v, error %v", test.name, token.Value, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per call", test.name, n)
		}
	}
}
