package credentials_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// close closes the process in a goroutine of its own; its error comes through the channel.
func (p *process) close(ctx context.Context) <-chan error {
	closed := make(chan error, 1)
	go func() { closed <- p.Close(ctx) }()
	synctest.Wait()
	return closed
}

// Close lets an exchange end and saves it; its callers get it, and later ones what is cached.
func TestClose(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		p := w.start("P")
		a := p.ask(alice)
		w.reaches(100 * time.Millisecond)
		closed := p.close(w.Context())
		joined := p.ask(alice) // which is under way
		p.ask(bob).fails(credentials.ErrClosed)
		select {
		case err := <-closed:
			w.Errorf("Close has returned %v, and the exchange is under way", err)
		default:
		}
		a.is("access-alice-1")
		joined.is("access-alice-1")
		if err := <-closed; err != nil {
			w.Error(err)
		}
		if past := time.Since(w.began); past != w.provider.latency {
			w.Errorf("Close has returned after %v", past)
		}
		w.start("Q").ask(alice).is("access-alice-1") // it is saved
		for time.Since(w.began) < time.Hour {
			p.ask(alice).is("access-alice-1")
			time.Sleep(time.Minute)
		}
		time.Sleep(w.provider.latency)
		p.ask(alice).fails(credentials.ErrClosed)
		p.report(alice, credentials.Token{Value: secret("turned down")}).fails(credentials.ErrClosed)
		for range 2 {
			if err := p.Close(w.Context()); err != nil {
				w.Errorf("Close again: %v", err)
			}
		}
		w.presented(1)
	})
}

// A report after Close does not take the token away from the others.
func TestInvalidateAfterClose(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		token := p.mustGet(alice)
		p.mustClose()
		p.report(alice, token).fails(credentials.ErrClosed)
		p.ask(alice).is("put-alice")
	})
}

func TestCloseUnused(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		p.mustClose()
		p.ask(alice).fails(credentials.ErrClosed)
	})
}

// Close goes on with a save that the store refuses, until its context ends; then the result is
// lost, and the callers are told.
func TestCloseWithoutStore(t *testing.T) {
	for _, test := range []struct {
		name  string
		saved bool
	}{{"comes back", true}, {"stays away", false}} {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			p := w.start("P")
			p.store.Before(testkit.Save, testkit.Refuse)
			a := p.begins(alice)
			ctx, cancel := context.WithTimeout(w.Context(), 4*time.Second)
			defer cancel()
			closed := p.close(ctx)
			w.reaches(2 * time.Second)
			a.waits()
			if test.saved {
				p.store.Heal()
				a.is("access-alice-1")
				if err := <-closed; err != nil {
					w.Error(err)
				}
				return
			}
			if err := <-closed; !errors.Is(err, context.DeadlineExceeded) {
				w.Errorf("Close: got error %v", err)
			}
			a.fails(credentials.ErrUnavailable)
			if past := time.Since(w.began); past != 4*time.Second {
				w.Errorf("the caller was told after %v", past)
			}
		})
	}
}

// Callers that wait for another process's exchange are not kept by Close, and do not keep it.
func TestCloseWhileWaiting(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		w.provider.latency = 10 * time.Second
		holder := p.begins(alice)
		waiter := q.ask(alice)
		w.reaches(time.Second)
		q.mustClose()
		waiter.fails(credentials.ErrClosed)
		if past := time.Since(w.began); past != time.Second {
			w.Errorf("Close has returned after %v", past)
		}
		holder.is("access-alice-1")
	})
}

// A refresher that never returns keeps Close no longer than its context says.
func TestCloseWithAStuckRefresher(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		stuck := testkit.NewGate()
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			return credentials.Grant{}, errors.Join(stuck.Wait(w.Context(), nil), errOrdinary)
		}
		p := w.start("P")
		p.ask(alice).failed(credentials.ClassUnknown)
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		if err := <-p.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("Close: got error %v", err)
		}
		stuck.Open()
	})
}

// overContext returns a context that has ended, as that of a signal.
func (w *world) overContext() context.Context {
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	return ctx
}

// Close with a context that has ended already saves what is under way all the same.
func TestCloseWithAnEndedContextSaves(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		p := w.start("P")
		a := p.ask(alice)
		w.reaches(time.Second)
		p.store.Before(testkit.Save, testkit.Once(testkit.Refuse))
		if err := <-p.close(w.overContext()); err != nil {
			w.Errorf("Close: %v", err)
		}
		a.is("access-alice-1")
		w.stored(alice, "access-alice-1")
		w.presented(1)
	})
}

// A store that hangs keeps such a Close no longer than an exchange and its save may take.
func TestCloseWithAnEndedContextIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.ask(alice)
		w.reaches(100 * time.Millisecond)
		outage{methods: everyMethod}.begin(p)
		began := time.Now()
		if err := <-p.close(w.overContext()); err == nil {
			w.Error("Close: no error, though the result could not be saved")
		}
		most := credentials.DefaultExchangeTimeout + grace
		if took := time.Since(began); took > most || took < credentials.DefaultStoreTimeout {
			w.Errorf("Close took %v, want at most %v", took, most)
		}
	})
}

// Close does not return while the poller calls the store, though the call does not heed its
// context.
func TestCloseWaitsForThePoller(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 5 * time.Second
		p, q := w.start("P"), w.start("Q")
		p.ask(alice)
		synctest.Wait()
		look := testkit.NewGate()
		q.store.Before(testkit.Versions, look.Wait)
		waiter := q.ask(alice)
		<-look.Reached
		closed := q.close(w.Context())
		waiter.fails(credentials.ErrClosed)
		time.Sleep(time.Second)
		select {
		case err := <-closed:
			w.Errorf("Close has returned %v, and %d calls of the store are in flight", err, q.store.InFlight())
		default:
		}
		look.Open()
		if err := <-closed; err != nil {
			w.Error(err)
		}
		if n := q.store.InFlight(); n != 0 {
			w.Errorf("after Close, %d calls of the store are in flight", n)
		}
	})
}
