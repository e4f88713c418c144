package credentials

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
	"unsafe"
)

// This test is inside the package, and outside of a bubble of testing/synctest, where time has no
// monotonic clock: only here can the two clocks be set apart.

// nothing is a store that has nothing, and counts how often it was asked.
type nothing struct {
	Store
	asked chan struct{}
}

func (n nothing) Release(context.Context, Fence) error {
	n.asked <- struct{}{}
	return nil
}

func (n nothing) Get(context.Context, Key) (Credential, error) {
	n.asked <- struct{}{}
	return Credential{}, ErrUnavailable
}

// asleep returns the time of now as a host has it that then slept for so long: its monotonic clock
// stood still.
func asleep(t *testing.T, now time.Time, long time.Duration) time.Time {
	t.Helper()
	back := now.Add(-long) // both clocks
	// The monotonic reading is the second word of a time.Time that has one.
	(*[2]int64)(unsafe.Pointer(&back))[1] += int64(long)
	if got := now.Sub(back); got != 0 {
		t.Fatalf("by the monotonic clock %v have passed, want 0", got)
	}
	if got := now.Round(0).Sub(back.Round(0)); got != long {
		t.Fatalf("by the wall clock %v have passed, want %v", got, long)
	}
	return back
}

// A host that slept believes its token to be good for as long as before. On the next slow path it
// is found out.
func TestInvariant12OneClockHostThatSlept(t *testing.T) {
	for _, test := range []struct {
		name  string
		long  time.Duration
		trust bool
	}{
		{"did not sleep", 0, true},
		{"clock slewed", time.Second, true},
		{"clock slewed back", -time.Second, true},
		{"slept for a minute", time.Minute, false},
		{"clock set back", -time.Minute, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := nothing{asked: make(chan struct{}, 1)}
			services := Services{"github": {Refresher: RefresherFunc(func(context.Context, RefreshInput) (Grant, error) { return Grant{}, nil })}}
			m, err := NewManager(store, services, &Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			s, err := m.Source(Key{Service: "github"})
			if err != nil {
				t.Fatal(err)
			}
			s.slot.held.Store(&snapshot{
				token: Token{Value: NewSecret("held")}, quiet: m.now(), expires: m.now().add(time.Hour),
				asked: asleep(t, time.Now(), test.long),
			})
			token, err := s.Token(t.Context())
			<-store.asked // in any case: it is time for a recheck
			if test.trust && (err != nil || token.Value.IsZero()) {
				t.Errorf("got error %v, want the token", err)
			}
			if !test.trust && !errors.Is(err, ErrUnavailable) {
				t.Errorf("got token %v, error %v; want it dropped", token.Value, err)
			}
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A host that slept between its claim and the exchange has lost its lease, though its monotonic
// clock says otherwise: it presents nothing, whether that shows when the exchange begins or right
// before the refresher is called.
func TestInvariant02HostThatSleptPresentsNothing(t *testing.T) {
	for name, long := range map[string]time.Duration{"awake": 0, "slept for a minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			store := nothing{asked: make(chan struct{}, 1)}
			e := newEngine(store, nil, Options{
				Lease: DefaultLease, ExchangeTimeout: DefaultExchangeTimeout, StoreTimeout: DefaultStoreTimeout,
				Logger: slog.New(slog.DiscardHandler),
			})
			called := false
			p := &presentation{engine: e, refresher: RefresherFunc(
				func(context.Context, RefreshInput) (Grant, error) {
					called = true
					return Grant{AccessToken: NewSecret("new")}, nil
				},
			)}
			p.claimed = reading{
				Credential: Credential{Version: 2, Lease: Lease{ID: "claim", Version: 2, EndsIn: DefaultLease}},
				asked:      asleep(t, time.Now(), long), at: e.now(),
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := p.call(ctx)
			if called != (long == 0) || (err == nil) != called || err != nil && err.Class != ClassTransient {
				t.Errorf("the refresher was called: %t; error %v", called, err)
			}
			if long == 0 {
				return
			}
			x := &exchange{engine: e, service: Service{Refresher: p.refresher}, claimed: p.claimed}
			if r := x.run(ctx); r.outcome != OutcomeReleased || called {
				t.Errorf("got outcome %q, called %t; want the lease released", r.outcome, called)
			}
			<-store.asked // to release
		})
	}
}
