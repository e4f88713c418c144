package credentials_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// disconnects begins to disconnect alice, and returns where the outcome is told.
func (w *world) disconnects(ctx context.Context, wait time.Duration) <-chan disconnected {
	done := make(chan disconnected, 1)
	go func() {
		began := time.Now()
		ch := credentials.Change{Key: alice, By: "ann"}
		token, err := credentials.Disconnect(ctx, w.db, ch, wait)
		done <- disconnected{token, err, time.Since(began)}
	}()
	return done
}

type disconnected struct {
	token credentials.Secret
	err   error
	took  time.Duration
}

// gone fails the test unless there is no row.
func (w *world) gone() {
	w.Helper()
	if _, err := w.db.Get(w.Context(), alice); !errors.Is(err, credentials.ErrNotFound) {
		w.Errorf("the row is there, error %v", err)
	}
}

// Disconnect returns the refresh token that is to be revoked: the one in the row, or the one that
// an exchange under way brings.
func TestDisconnect(t *testing.T) {
	for name, underWay := range map[string]bool{"at rest": false, "an exchange is under way": true} {
		inWorldOf(t, name, func(w *world) {
			w.seed(alice)
			w.provider.latency = 3 * time.Second
			p := w.start("P")
			want, most := "seed-"+alice.String(), time.Duration(0)
			var a *answer
			if underWay {
				a = p.begins(alice)
				want, most = "refresh-alice-1", w.provider.latency+time.Second
			}
			d := <-w.disconnects(w.Context(), credentials.DefaultLease)
			if d.err != nil || d.token.Reveal() != mark+"-"+want || d.took > most {
				w.Errorf("got %s, error %v, after %v; want %s", d.token.Reveal(), d.err, d.took, want)
			}
			w.gone()
			if underWay {
				<-a.done
				w.presented(1)
			}
			w.start("late").ask(alice).fails(credentials.ErrNotFound)
		})
	}
}

// An exchange that does not end, or a store that fails, holds the deletion up for no longer than
// the wait, or leaves the credential disabled.
func TestDisconnectIsBounded(t *testing.T) {
	inWorldOf(t, "the exchange hangs", func(w *world) {
		w.seed(alice)
		w.provider.latency = time.Hour
		a := w.start("P").begins(alice)
		d := <-w.disconnects(w.Context(), 5*time.Second)
		if d.err != nil || d.token.Reveal() != mark+"-seed-"+alice.String() || d.took != 5*time.Second {
			w.Errorf("got %s, error %v, after %v", d.token.Reveal(), d.err, d.took)
		}
		w.gone()
		<-a.done
	})
	inWorldOf(t, "the holder has died", func(w *world) {
		w.seed(alice)
		w.dies("died", alice, false)
		if d := <-w.disconnects(w.Context(), time.Hour); d.err != nil || d.took > credentials.DefaultLease {
			w.Errorf("got error %v after %v; want none, at the lease's end", d.err, d.took)
		}
		w.gone()
	})
	inWorldOf(t, "its caller gives up", func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		a := w.start("P").begins(alice)
		ctx, cancel := context.WithCancel(w.Context())
		done := w.disconnects(ctx, time.Minute)
		synctest.Wait()
		cancel()
		if d := <-done; !errors.Is(d.err, context.Canceled) || !d.token.IsZero() {
			w.Errorf("got error %v; want the context's, and no token", d.err)
		}
		if c := w.row(alice); c.Disabled.By != "ann" {
			w.Errorf("the credential is not disabled: %+v", c.Disabled)
		}
		<-a.done
		w.storedRefresh(alice, "refresh-alice-1")
		w.start("late").ask(alice).fails(credentials.ErrDisabled)
	})
}

// A credential that is deleted and made again while it is disconnected is another's.
func TestDisconnectLeavesANewCredential(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 3 * time.Second
		a := w.start("P").begins(alice)
		done := w.disconnects(w.Context(), time.Minute)
		time.Sleep(1100 * time.Millisecond) // between two of its looks
		first := w.row(alice).Row
		w.delete(alice)
		w.seed(alice)
		if d := <-done; !errors.Is(d.err, credentials.ErrSuperseded) || w.row(alice).Row == first {
			w.Errorf("got error %v; want that the new credential stays", d.err)
		}
		<-a.done
	})
}

// A credential that there is not cannot be disconnected.
func TestDisconnectOfNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		if d := <-w.disconnects(w.Context(), time.Minute); !errors.Is(d.err, credentials.ErrNotFound) {
			w.Errorf("got error %v", d.err)
		}
	})
}
