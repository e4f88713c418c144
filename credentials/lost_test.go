package credentials_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

func neverReplay(s *setup) { s.service.Replay = credentials.NeverReplay }

// The save was committed and its reply lost: it is found to be stored, and there is no second exchange.
func TestLostReplyOfSave(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		p.store.on("Save", nil, once(refuse))
		a := p.ask(alice)
		synctest.Wait()
		b := q.ask(alice)
		a.is("access-alice-1")
		b.is("access-alice-1")
		if most := time.Second; a.took > most || b.took > most {
			w.Errorf("it took %v, and %v in the other process", a.took, b.took)
		}
		w.calls(1)
	})
}

// By the time the save is repeated, its token was turned down and a later claim has stored the next one.
func TestLostReplyOfSaveOvertaken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		pause := newGate()
		p.store.on("Save", nil, once(func(ctx context.Context) error { _ = pause.wait(ctx); return errDown }))
		a := p.ask(alice)
		<-pause.reached
		q.report(alice, q.mustGet(alice)).is("access-alice-2")
		pause.open()
		a.is("access-alice-2")
		if got := w.row(alice).RefreshToken.Reveal(); got != mark+"-refresh-alice-2" {
			w.Errorf("the row has %s", got)
		}
		w.calls(2)
	})
}

// The failure was recorded and the reply lost: callers get it, once recorded it holds, and nobody calls again.
func TestLostReplyOfFail(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
			return credentials.Grant{}, invalidGrant()
		}
		p, q := w.start("P"), w.start("Q")
		p.store.on("Fail", nil, once(refuse))
		for _, a := range []*answer{p.ask(alice), p.ask(alice), q.ask(alice)} {
			if e := a.failed(credentials.Rejected); e.Code != "invalid_grant" {
				w.Errorf("got %v", e)
			}
		}
		w.calls(1)
	})
}

// The provider called the grant dead, and that could not be recorded yet. The callers are told, in bounded time; it is
// recorded when the store is back, and nobody presents the dead refresh token again (invariant 9).
func TestInvariant09DeadThoughTheStoreIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.authorized(alice, "another")
		p, q := w.start("P"), w.start("Q")
		p.store.on("Fail", refuse, nil)
		a := p.ask(alice)
		if e := a.failed(credentials.Rejected); e.Code != "invalid_grant" {
			w.Errorf("got %v", e)
		}
		if most := 2 * credentials.DefaultStoreTimeout; a.took > most {
			w.Errorf("it took %v, want at most %v", a.took, most)
		}
		w.reaches(20 * time.Second)
		p.store.on("Fail", nil, nil)
		w.reaches(2 * credentials.DefaultLease)
		for _, p := range []*process{p, q} {
			if e := p.ask(alice).failed(credentials.Rejected); e.Code != "invalid_grant" || e.Interrupted.By != "" {
				w.Errorf("got %v", e)
			}
		}
		w.calls(1)
	})
}

// A save that cannot be made for long: callers are told so in bounded time, nobody exchanges again in this process, and
// the grant is stored as soon as the store is back.
func TestSaveFailingForLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.on("Save", refuse, nil)
		for range 30 {
			a := p.ask(alice)
			a.fails(credentials.ErrUnavailable)
			if most := 2 * credentials.DefaultStoreTimeout; a.took > most {
				w.Errorf("it took %v, want at most %v", a.took, most)
			}
		}
		if past := time.Since(w.began); past < 2*credentials.DefaultLease {
			w.Fatalf("only %v have passed", past)
		}
		p.store.on("Save", nil, nil)
		p.ask(alice).is("access-alice-1")
		if got, want := w.row(alice).ExpiresIn, time.Hour-time.Since(w.began); got > want || got < want-3*time.Second {
			w.Errorf("the stored token expires in %v, want %v, counted from the exchange", got, want)
		}
		w.start("Q").ask(alice).is("access-alice-1")
		w.calls(1)
	})
}

// The save hangs instead of failing; each try is bounded.
func TestSaveHangingForLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.on("Save", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil)
		for range 3 {
			a := p.ask(alice)
			a.fails(context.DeadlineExceeded)
			if most := 2*credentials.DefaultStoreTimeout + 2*time.Second; a.took > most {
				w.Errorf("it took %v, want at most %v", a.took, most)
			}
		}
		p.store.on("Save", nil, nil)
		p.ask(alice).is("access-alice-1")
		w.calls(1)
	})
}

// When the store is back after the token has expired, the next one is fetched, with the refresh token that was saved.
func TestSaveFailingForLongerThanTheTokenLives(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.on("Save", refuse, nil)
		p.ask(alice).fails(credentials.ErrUnavailable)
		w.reaches(2 * time.Hour)
		p.store.on("Save", nil, nil)
		p.ask(alice).is("access-alice-2")
		w.calls(2)
	})
}

// Those who reported a token are told in bounded time, too, also if they come later.
func TestSaveFailingForLongAfterReject(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		p.store.on("Save", refuse, nil)
		for range 3 {
			a := p.report(alice, turnedDown)
			a.fails(credentials.ErrUnavailable)
			if most := 2 * credentials.DefaultStoreTimeout; a.took > most {
				w.Errorf("it took %v, want at most %v", a.took, most)
			}
		}
		p.store.on("Save", nil, nil)
		p.report(alice, turnedDown).is("access-alice-1")
		w.calls(1)
	})
}
