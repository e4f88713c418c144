package credentials_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

func neverReplay(s *setup) { s.service.Replay = credentials.NeverReplay }

// The save was committed and its reply lost: it is found to be stored, and there is no second
// exchange.
func TestLostReplyOfSave(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		p.store.After(testkit.Save, testkit.Once(testkit.Refuse))
		a := p.begins(alice)
		b := q.ask(alice)
		a.is("access-alice-1")
		b.is("access-alice-1")
		if most := time.Second; a.took > most || b.took > most {
			w.Errorf("it took %v, and %v in the other process", a.took, b.took)
		}
		w.presented(1)
	})
}

// By the time the save is repeated, its token was turned down and a later claim has stored the next
// one.
func TestLostReplyOfSaveOvertaken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q", anyAge)
		pause := testkit.NewGate()
		p.store.After(testkit.Save, testkit.Once(testkit.Chain(pause.Wait, testkit.Refuse)))
		a := p.ask(alice)
		<-pause.Reached
		q.report(alice, q.mustGet(alice)).is("access-alice-2")
		pause.Open()
		a.is("access-alice-2")
		w.storedRefresh(alice, "refresh-alice-2")
		w.presented(2)
	})
}

// The failure was recorded and the reply lost: callers get it, once recorded it holds, and nobody
// calls again.
func TestLostReplyOfFail(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			return credentials.Grant{}, invalidGrant()
		}
		p, q := w.start("P"), w.start("Q")
		p.store.After(testkit.Fail, testkit.Once(testkit.Refuse))
		for _, a := range []*answer{p.ask(alice), p.ask(alice), q.ask(alice)} {
			if e := a.failed(credentials.ClassDead); e.Code != "invalid_grant" {
				w.Errorf("got %v", e)
			}
		}
		w.presented(1)
	})
}

// The provider called the grant dead, and that could not be recorded yet. The callers are told, in
// bounded time; it is recorded when the store is back, and nobody presents the dead refresh token
// again (invariant 9).
func TestInvariant09DeadThoughTheStoreIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.authorized(alice, "another")
		p, q := w.start("P"), w.start("Q")
		p.store.Before(testkit.Fail, testkit.Refuse)
		a := p.ask(alice)
		if e := a.failed(credentials.ClassDead); e.Code != "invalid_grant" {
			w.Errorf("got %v", e)
		}
		a.within(2 * credentials.DefaultStoreTimeout)
		w.reaches(20 * time.Second)
		p.store.Heal(testkit.Fail)
		w.reaches(2 * credentials.DefaultLease)
		for _, p := range []*process{p, q} {
			if e := p.ask(alice).failed(credentials.ClassDead); e.Code != "invalid_grant" || e.Interrupted.By != "" {
				w.Errorf("got %v", e)
			}
		}
		w.presented(1)
	})
}

// A save that cannot be made for long: callers are told so in bounded time, nobody exchanges again
// in this process, and the grant is stored as soon as the store is back.
func TestSaveFailingForLong(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault testkit.Hook
		want  error
		most  time.Duration
	}{
		{"refused", testkit.Refuse, credentials.ErrUnavailable, 2 * credentials.DefaultStoreTimeout},
		{"hanging", testkit.Hang, credentials.ErrUnavailable, 2*credentials.DefaultStoreTimeout + 2*time.Second},
	} {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			p := w.start("P")
			p.store.Before(testkit.Save, test.fault)
			for time.Since(w.began) < 2*credentials.DefaultLease {
				a := p.ask(alice)
				a.fails(test.want)
				a.within(test.most)
			}
			p.store.Heal(testkit.Save)
			p.ask(alice).is("access-alice-1")
			if got, want := w.row(alice).ExpiresIn, time.Hour-time.Since(w.began); got > want || got < want-3*time.Second {
				w.Errorf("the stored token expires in %v, want %v, counted from the exchange", got, want)
			}
			w.start("Q").ask(alice).is("access-alice-1")
			w.presented(1)
		})
	}
}

// When the store is back after the token has expired, the next one is fetched, with the refresh
// token that was saved.
func TestSaveFailingForLongerThanTheTokenLives(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.Before(testkit.Save, testkit.Refuse)
		p.ask(alice).fails(credentials.ErrUnavailable)
		w.reaches(2 * time.Hour)
		p.store.Heal(testkit.Save)
		p.ask(alice).is("access-alice-2")
		w.presented(2)
	})
}

// Callers that report a token are told in bounded time too, also if they come later.
func TestSaveFailingForLongAfterInvalidate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		p.store.Before(testkit.Save, testkit.Refuse)
		for range 3 {
			a := p.report(alice, turnedDown)
			a.fails(credentials.ErrUnavailable)
			a.within(2 * credentials.DefaultStoreTimeout)
		}
		p.store.Heal(testkit.Save)
		p.report(alice, turnedDown).is("access-alice-1")
		w.presented(1)
	})
}
