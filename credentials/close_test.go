package credentials_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
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
		w.calls(1)
	})
}

// A report after Close does not take the token away from the others.
func TestRejectAfterClose(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		token := p.mustGet(alice)
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		p.report(alice, token).fails(credentials.ErrClosed)
		p.ask(alice).is("put-alice")
	})
}

func TestCloseUnused(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		p.ask(alice).fails(credentials.ErrClosed)
	})
}

// Close goes on with a save that the store refuses, until its context ends; then the result is lost, and the callers are
// told.
func TestCloseWithoutStore(t *testing.T) {
	for _, test := range []struct {
		name  string
		saved bool
	}{{"comes back", true}, {"stays away", false}} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				p := w.start("P")
				p.store.on("Save", refuse, nil)
				a := p.ask(alice)
				synctest.Wait()
				ctx, cancel := context.WithTimeout(w.Context(), 4*time.Second)
				defer cancel()
				closed := p.close(ctx)
				w.reaches(2 * time.Second)
				a.waits()
				if test.saved {
					p.store.heal()
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
		})
	}
}

// Those who wait for another process's exchange are not kept, and keep nobody.
func TestCloseWhileWaiting(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		w.provider.latency = 10 * time.Second
		holder := p.ask(alice)
		synctest.Wait()
		waiter := q.ask(alice)
		w.reaches(time.Second)
		if err := <-q.close(w.Context()); err != nil {
			w.Error(err)
		}
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
		stuck := newGate()
		w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
			return credentials.Grant{}, errors.Join(stuck.wait(w.Context()), errOrdinary)
		}
		p := w.start("P")
		p.ask(alice).failed(credentials.Unknown)
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		if err := <-p.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("Close: got error %v", err)
		}
		stuck.open()
	})
}
