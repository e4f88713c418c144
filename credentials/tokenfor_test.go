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

// askFor has a caller of its own ask for a token that lives so long.
func (p *process) askFor(key credentials.Key, life time.Duration) *answer {
	ctx := p.w.Context()
	return p.caller(ctx, key, func() (credentials.Token, error) { return p.TokenFor(ctx, key, life) })
}

// A token that does not live long enough is renewed early, once for all processes, and callers that
// do not need that do not wait.
func TestTokenFor(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		processes := w.starts(3)
		for _, p := range processes {
			p.askFor(alice, 40*time.Minute).is("put-alice")
		}
		time.Sleep(30 * time.Minute)
		var callers []*answer
		for range 4 {
			for _, p := range processes {
				callers = append(callers, p.askFor(alice, 40*time.Minute))
			}
		}
		synctest.Wait()
		for _, p := range processes {
			p.ask(alice).is("put-alice")
			p.askFor(alice, 29*time.Minute).is("put-alice")
		}
		all(callers).are("access-alice-1")
		for _, p := range processes {
			p.askFor(alice, 0).is("access-alice-1")
		}
		w.presented(1)
		w.clean(alice)
	})
}

// Where tokens do not live that long, no exchange is made again and again.
func TestTokenForTooLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q", anyAge)
		p.ask(alice).is("access-alice-1")
		for range 3 {
			p.askFor(alice, 2*time.Hour).fails(credentials.ErrShortLived)
			q.askFor(alice, 2*time.Hour).fails(credentials.ErrShortLived)
			p.ask(alice).is("access-alice-1")
			time.Sleep(time.Minute)
		}
		w.presented(1)
	})
}

// A token may have lived as long as that when the provider sent it, and live shorter when callers
// get it. One exchange finds that out, and none follows.
func TestTokenForAsLongAsATokenLives(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
			if n > 5 { // so that a caller who asks for ever has an end
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassDead}
			}
			return credentials.Grant{}, errOrdinary
		}
		p := w.start("P", anyAge)
		p.store.After(testkit.Save, func(context.Context, *testkit.Call) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		p.ask(alice).is("access-alice-1")
		time.Sleep(time.Minute)
		p.askFor(alice, time.Hour-w.provider.latency-5*time.Millisecond).fails(credentials.ErrShortLived)
		p.ask(alice).is("access-alice-2")
		w.presented(2)
	})
}

// A token without end lives long enough, and one that was put, whose life nobody knows, is tried
// once.
func TestTokenForOfAPut(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("endless"), RefreshToken: secret("seed")})
		p := w.start("P", anyAge)
		p.askFor(alice, 1000*time.Hour).is("endless")
		w.anHour(bob)
		p.askFor(bob, 2*time.Hour).fails(credentials.ErrShortLived)
		p.askFor(bob, 2*time.Hour).fails(credentials.ErrShortLived)
		w.presented(1)
	})
}

// An early renewal that fails costs nobody the present token: also where the grant is dead.
func TestTokenForThatFails(t *testing.T) {
	for _, class := range []credentials.Class{credentials.ClassDead, credentials.ClassTransient, credentials.ClassUnknown} {
		inWorldOf(t, string(class), func(w *world) {
			w.anHour(alice)
			w.provider.script = refusing(credentials.RefreshError{Class: class})
			p, q := w.start("P"), w.start("Q")
			time.Sleep(30 * time.Minute)
			p.askFor(alice, 40*time.Minute).failed(class)
			q.askFor(alice, 40*time.Minute).failed(class)
			p.ask(alice).is("put-alice")
			q.ask(alice).is("put-alice")
			w.presented(1)
		})
	}
}

// A caller that asks during a look which knows nothing of that, and one that gives up.
func TestTokenForDuringALook(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.mustGet(alice)
		w.reaches(unused)
		pause := testkit.NewGate()
		p.store.After(testkit.Get, testkit.Once(pause.Wait))
		p.ask(alice).is("put-alice")
		<-pause.Reached
		a := p.askFor(alice, 50*time.Minute)
		ctx, cancel := context.WithCancel(w.Context())
		gone := p.caller(ctx, alice, func() (credentials.Token, error) { return p.TokenFor(ctx, alice, 50*time.Minute) })
		synctest.Wait()
		cancel()
		<-gone.done
		if !errors.Is(gone.err, context.Canceled) {
			w.Errorf("got error %v", gone.err)
		}
		pause.Open()
		a.is("access-alice-1")
		w.presented(1)
	})
}
