package credentials_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

func clientCredentials(s *setup) { s.service.ClientCredentials = true }

// ownCredentials has the provider take the client's own credentials.
func (w *world) ownCredentials() {
	w.provider.script = func(_ context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
		time.Sleep(w.provider.latency)
		if !in.RefreshToken.IsZero() {
			w.Errorf("presentation %d has a refresh token", n)
		}
		return credentials.Grant{AccessToken: secret("own"), Lifetime: time.Hour}, nil
	}
}

// A service whose processes present their own credentials needs no put: the row is made by whoever
// asks first, and one exchange follows, however many processes start at the same time.
func TestFirstRow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ownCredentials()
		var callers []*answer
		processes := w.starts(8, clientCredentials)
		for range 4 {
			for _, p := range processes {
				callers = append(callers, p.ask(alice))
			}
		}
		all(callers).are("own")
		w.presented(1)
		w.clean(alice)
		w.delete(alice) // and made again
		time.Sleep(time.Hour)
		processes[0].ask(alice).is("own")
		w.presented(2)
	})
}

// The reply to the making of the row is lost, and the row is made once.
func TestFirstRowWhoseReplyIsLost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ownCredentials()
		p := w.start("P", clientCredentials)
		p.store.After(testkit.Ensure, testkit.Once(testkit.Answer(testkit.ErrDown)))
		p.ask(alice).fails(credentials.ErrUnavailable)
		time.Sleep(time.Second) // until the store is known to be back
		p.ask(alice).is("own")
		if c := w.row(alice); c.Version != 3 { // made, claimed, saved
			w.Errorf("the row has version %d", c.Version)
		}
		w.presented(1)
	})
}

// A row that somebody deletes again and again is made once for a call.
func TestFirstRowThatIsDeleted(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P", clientCredentials)
		p.store.After(testkit.Ensure, func(context.Context, *testkit.Call) error {
			w.delete(alice)
			return nil
		})
		p.ask(alice).fails(credentials.ErrNotFound)
		if n := p.store.Count(testkit.Ensure); n != 1 {
			w.Errorf("the row was made %d times", n)
		}
	})
}

// A service whose grants people give makes no row, and the error says what is missing.
func TestNoFirstRow(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		a := p.ask(alice)
		a.fails(credentials.ErrNotFound)
		if !strings.Contains(a.err.Error(), "put its grant first") {
			w.Error(a.err)
		}
		if n := p.store.Count(testkit.Ensure); n != 0 {
			w.Errorf("the row was made %d times", n)
		}
	})
}
