package credentials_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Whoever and however many report a token, one exchange follows.
func TestRejectByMany(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		processes := w.starts(3)
		turnedDown := processes[0].mustGet(alice)
		processes[1].mustGet(alice) // and the third one has not looked yet
		var reporters []*answer
		for range 4 {
			for _, p := range processes {
				reporters = append(reporters, p.report(alice, turnedDown))
			}
		}
		w.reaches(100 * time.Millisecond)
		reporters = append(reporters, processes[2].report(alice, turnedDown), processes[0].ask(alice))
		for _, a := range reporters {
			a.is("access-alice-1")
			if most := w.provider.latency + soon; a.took > most {
				w.Errorf("process %s: it took %v, want at most %v", a.p.name, a.took, most)
			}
		}
		w.calls(1)
		for _, p := range append(processes, w.start("late")) { // late reports of the same token
			p.report(alice, turnedDown).is("access-alice-1")
		}
		w.calls(1)
	})
}

// The row has a newer token by now: it is the answer, without an exchange.
func TestRejectOfAnOldToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		old := p.mustGet(alice)
		w.put(alice, credentials.Grant{Token: secret("newer"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		p.report(alice, old).is("newer")
		before := p.store.total()
		p.report(alice, old).is("newer") // what is cached is not the one that was turned down
		if n := p.store.total() - before; n != 0 {
			w.Errorf("it cost %d calls of the store", n)
		}
		w.calls(0)
		p.report(alice, p.mustGet(alice)).is("access-alice-1")
		p.report(alice, credentials.Token{}).is("access-alice-1") // no token at all: as Token
		w.calls(1)
	})
}

// A flight that began before the report does not know of it; another follows.
func TestRejectDuringARecheck(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		w.reaches(time.Minute)
		pause := newGate()
		p.store.on("Get", nil, once(pause.wait))
		p.ask(alice).is("put-alice")
		<-pause.reached
		a := p.report(alice, turnedDown)
		b := p.report(alice, turnedDown)
		ctx, cancel := context.WithCancel(w.Context())
		c := p.caller(alice, func() (credentials.Token, error) { return p.Reject(ctx, alice, turnedDown) })
		a.waits()
		cancel()
		c.fails(context.Canceled)
		a.waits()
		pause.open()
		a.is("access-alice-1")
		b.is("access-alice-1")
		w.calls(1)
	})
}

// The failure of such a flight is not the reporters' either.
func TestRejectDuringARecheckThatFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		w.reaches(time.Minute)
		pause := newGate()
		p.store.on("Get", nil, once(func(ctx context.Context) error { _ = pause.wait(ctx); return errDown }))
		p.ask(alice).is("put-alice")
		<-pause.reached
		a := p.report(alice, turnedDown)
		a.waits()
		pause.open()
		a.is("access-alice-1")
	})
}

// Two tokens are reported at once, an old one and the one that replaced it.
func TestRejectOfTwo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		old := p.mustGet(alice)
		w.put(alice, credentials.Grant{Token: secret("newer"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		newer := w.start("Q").mustGet(alice)
		pause := newGate()
		p.store.on("Get", once(pause.wait), nil)
		a := p.report(alice, old)
		<-pause.reached
		b := p.report(alice, newer)
		synctest.Wait()
		pause.open()
		a.is("newer")
		b.is("access-alice-1")
		w.calls(1)
	})
}

// If the forced exchange fails, the reporter is told, and everyone else still gets the token: it has not expired.
func TestRejectThatFails(t *testing.T) {
	for _, class := range []credentials.Class{credentials.Rejected, credentials.Transient, credentials.Unknown} {
		t.Run(string(class), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.anHour(alice)
				w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
					time.Sleep(time.Second)
					return credentials.Grant{}, &credentials.RefreshError{Class: class}
				}
				p, q := w.start("P"), w.start("Q")
				turnedDown := p.mustGet(alice)
				reporter := p.report(alice, turnedDown)
				synctest.Wait()
				other := q.report(alice, turnedDown)
				synctest.Wait()
				waits := []*answer{p.ask(alice), q.ask(alice)}
				reporter.failed(class)
				other.failed(class)
				for _, a := range waits {
					a.is("put-alice")
				}
				for range 10 {
					p.ask(alice).is("put-alice")
					q.ask(alice).is("put-alice")
					p.report(alice, turnedDown).failed(class) // within the back-off
					time.Sleep(10 * time.Millisecond)
				}
				w.calls(1)
			})
		})
	}
}

// The same with the store down.
func TestRejectWithoutStore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		p.store.down(true)
		p.report(alice, turnedDown).fails(credentials.ErrUnavailable)
		p.ask(alice).is("put-alice")
		p.report(alice, turnedDown).fails(credentials.ErrUnavailable)
		p.store.down(false)
		p.report(alice, turnedDown).is("access-alice-1")
		w.delete(alice)
		p.report(alice, p.mustGet(alice)).fails(credentials.ErrNotFound)
		p.ask(alice).fails(credentials.ErrNotFound)
		w.calls(1)
	})
}

// A provider that answers with the token that was turned down (many keep one until it expires) is taken at its word:
// there is no other, and an empty one without an error would be worse.
func TestRejectThatBringsTheSameToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
			time.Sleep(time.Second)
			return credentials.Grant{Token: secret("put-alice"), Lifetime: time.Hour}, nil
		}
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		a, b := p.report(alice, turnedDown), p.report(alice, turnedDown)
		a.is("put-alice")
		b.is("put-alice")
		w.calls(1)
	})
}

// A reporter that gives up gets its context's error and no empty token.
func TestRejectGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		ctx, cancel := context.WithTimeout(w.Context(), 100*time.Millisecond)
		defer cancel()
		a := p.caller(alice, func() (credentials.Token, error) { return p.Reject(ctx, alice, turnedDown) })
		a.fails(context.DeadlineExceeded)
		if a.took != 100*time.Millisecond {
			w.Errorf("it stayed for %v", a.took)
		}
		time.Sleep(time.Second)
		p.ask(alice).is("access-alice-1") // the exchange went on
		w.calls(1)
	})
}

// The same where the reporter gives up in the moment in which a flight ends that did not know of its report.
func TestRejectGivenUpAsAFlightEnds(t *testing.T) {
	for range 50 { // which of the two is seen first is a matter of luck
		inWorld(t, func(w *world) {
			w.anHour(alice)
			p := w.start("P")
			turnedDown := p.mustGet(alice)
			w.reaches(time.Minute)
			pause := newGate()
			p.store.on("Get", nil, once(pause.wait))
			p.ask(alice).is("put-alice")
			<-pause.reached
			ctx, cancel := context.WithCancel(w.Context())
			a := p.caller(alice, func() (credentials.Token, error) { return p.Reject(ctx, alice, turnedDown) })
			a.waits()
			p.caller(alice, func() (credentials.Token, error) { pause.open(); cancel(); return credentials.Token{}, nil })
			a.fails(context.Canceled)
		})
	}
}
