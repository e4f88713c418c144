package credentials_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// However many callers of however many processes report a token, one exchange follows.
func TestInvalidateByMany(t *testing.T) {
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
			a.within(w.provider.latency + soon)
		}
		w.presented(1)
		for _, p := range append(processes, w.start("late")) { // late reports of the same token
			p.report(alice, turnedDown).is("access-alice-1")
		}
		w.presented(1)
	})
}

// The row has a newer token by now: it is the answer, without an exchange.
func TestInvalidateOfAnOldToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		old := p.mustGet(alice)
		w.put(alice, credentials.Grant{AccessToken: secret("newer"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		p.report(alice, old).is("newer")
		costs := p.costs()
		p.report(alice, old).is("newer") // what is cached is not the one that was turned down
		costs(0)
		w.presented(0)
		p.report(alice, p.mustGet(alice)).is("access-alice-1")
		p.report(alice, credentials.Token{}).is("access-alice-1") // no token at all: as Token
		w.presented(1)
	})
}

// The token that is reported is newer than the one that the process holds: that one is no answer.
func TestInvalidateOfATokenNewerThanTheOneHeld(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p, q := w.start("P"), w.start("Q")
		q.mustGet(alice)
		w.put(alice, credentials.Grant{AccessToken: secret("newer"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		newer := p.mustGet(alice)
		q.report(alice, newer).is("access-alice-1")
		p.report(alice, newer).is("access-alice-1")
		w.presented(1)
	})
}

// A call that began before the report does not know of it, and its failure is not the reporters'
// either: another call follows.
func TestInvalidateDuringARecheck(t *testing.T) {
	for name, err := range map[string]error{"that succeeds": nil, "that fails": errOrdinary} {
		inWorldOf(t, name, func(w *world) {
			w.anHour(alice)
			p := w.start("P")
			turnedDown := p.mustGet(alice)
			w.reaches(unused)
			pause := testkit.NewGate()
			p.store.After(testkit.Get, testkit.Once(testkit.Chain(pause.Wait, testkit.Answer(err))))
			p.ask(alice).is("put-alice")
			<-pause.Reached
			a, b := p.report(alice, turnedDown), p.report(alice, turnedDown)
			ctx, cancel := context.WithCancel(w.Context())
			c := p.reportWith(ctx, alice, turnedDown)
			a.waits()
			cancel()
			c.fails(context.Canceled)
			a.waits()
			pause.Open()
			a.is("access-alice-1")
			b.is("access-alice-1")
			w.presented(1)
		})
	}
}

// Two tokens are reported at once, an old one and the one that replaced it.
func TestInvalidateOfTwo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		old := p.mustGet(alice)
		w.put(alice, credentials.Grant{AccessToken: secret("newer"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		newer := w.start("Q").mustGet(alice)
		pause := testkit.NewGate()
		p.store.Before(testkit.Get, testkit.Once(pause.Wait))
		a := p.report(alice, old)
		<-pause.Reached
		b := p.report(alice, newer)
		synctest.Wait()
		pause.Open()
		a.is("newer")
		b.is("access-alice-1")
		w.presented(1)
	})
}

// If the forced exchange fails, the reporter is told, and everyone else still gets the token: it
// has not expired. Where the grant is dead, everyone is told, for no better token will come.
func TestInvalidateThatFails(t *testing.T) {
	for _, class := range []credentials.Class{credentials.ClassDead, credentials.ClassTransient, credentials.ClassUnknown} {
		inWorldOf(t, string(class), func(w *world) {
			w.anHour(alice)
			w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
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
			othersGet := func(a *answer) {
				w.Helper()
				if class == credentials.ClassDead { // nobody gets a better one
					a.fails(credentials.ErrGrantDead)
					return
				}
				a.is("put-alice")
			}
			othersGet(waits[0])
			othersGet(waits[1])
			for range 10 {
				othersGet(p.ask(alice))
				othersGet(q.ask(alice))
				p.report(alice, turnedDown).failed(class) // within the back-off
				time.Sleep(10 * time.Millisecond)
			}
			w.presented(1)
		})
	}
}

// A token that was turned down, and whose grant is dead, goes to nobody where no claim can confirm
// that, either.
func TestBuriedTokenWhereNothingCanBeConfirmed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassDead})
		p.report(alice, p.mustGet(alice)).fails(credentials.ErrGrantDead)
		time.Sleep(aConfirmation)
		p.store.Before(testkit.ClaimAll, testkit.Refuse)
		p.ask(alice).fails(credentials.ErrUnavailable)
	})
}

// The same with the store down.
func TestInvalidateWithoutStore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		p.store.Down(true)
		p.report(alice, turnedDown).fails(credentials.ErrUnavailable)
		p.ask(alice).is("put-alice")
		p.report(alice, turnedDown).fails(credentials.ErrUnavailable)
		p.store.Down(false)
		time.Sleep(time.Second) // until the store is known to be back
		p.report(alice, turnedDown).is("access-alice-1")
		w.delete(alice)
		p.report(alice, p.mustGet(alice)).fails(credentials.ErrNotFound)
		p.ask(alice).fails(credentials.ErrNotFound)
		w.presented(1)
	})
}

// A provider that answers with the token that was turned down (many keep one until it expires) is
// taken at its word: there is no other, and an empty one without an error would be worse.
func TestInvalidateThatBringsTheSameToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			time.Sleep(time.Second)
			return credentials.Grant{AccessToken: secret("put-alice"), Lifetime: time.Hour}, nil
		}
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		a, b := p.report(alice, turnedDown), p.report(alice, turnedDown)
		a.is("put-alice")
		b.is("put-alice")
		w.presented(1)
	})
}

// A reporter that gives up gets its context's error and no empty token.
func TestInvalidateGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		ctx, cancel := context.WithTimeout(w.Context(), 100*time.Millisecond)
		defer cancel()
		a := p.reportWith(ctx, alice, turnedDown)
		a.fails(context.DeadlineExceeded)
		if a.took != 100*time.Millisecond {
			w.Errorf("it stayed for %v", a.took)
		}
		time.Sleep(time.Second)
		p.ask(alice).is("access-alice-1") // the exchange went on
		w.presented(1)
	})
}

// The same where the reporter gives up in the moment in which a call ends that did not know of the
// report.
func TestInvalidateGivenUpAsACallEnds(t *testing.T) {
	for range 50 { // which of the two is seen first is a matter of luck
		inWorld(t, func(w *world) {
			w.anHour(alice)
			p := w.start("P")
			turnedDown := p.mustGet(alice)
			w.reaches(unused)
			pause := testkit.NewGate()
			p.store.After(testkit.Get, testkit.Once(pause.Wait))
			p.ask(alice).is("put-alice")
			<-pause.Reached
			ctx, cancel := context.WithCancel(w.Context())
			a := p.reportWith(ctx, alice, turnedDown)
			a.waits()
			go func() { pause.Open(); cancel() }()
			a.fails(context.Canceled)
		})
	}
}

// sameText has the provider send the same access token each time.
func (w *world) sameText() {
	w.provider.script = func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
		time.Sleep(w.provider.latency)
		g, err := w.provider.exchange(in)
		g.AccessToken = secret("the same")
		return g, err
	}
}

// A token is turned down, and the provider sends the same text again. However many callers of
// however many processes report the one token that they got, together or one after the other, one
// exchange follows.
func TestInvalidateWhereTheProviderSendsTheSameText(t *testing.T) {
	for name, apart := range map[string]time.Duration{"together": 0, "one after the other": time.Second} {
		inWorldOf(t, name, func(w *world) {
			w.put(alice, credentials.Grant{AccessToken: secret("the same"), RefreshToken: secret("seed"), Lifetime: time.Hour})
			w.sameText()
			processes := w.starts(8)
			turnedDown := make([]credentials.Token, len(processes))
			for i, p := range processes {
				turnedDown[i] = p.mustGet(alice)
			}
			var callers []*answer
			for range 20 {
				for i, p := range processes {
					callers = append(callers, p.report(alice, turnedDown[i]))
					time.Sleep(apart)
				}
			}
			all(callers).are("the same")
			w.presented(1)
		})
	}
}

// A Token that the program made of the text alone is turned down by its text: 20 reports at the
// same time cost one exchange.
func TestInvalidateByTextAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		w.sameText()
		p, q := w.start("P"), w.start("Q")
		p.mustGet(alice) // in its cache; Q has none
		var callers []*answer
		for range 10 {
			callers = append(callers,
				p.report(alice, credentials.Token{Value: secret("put-alice")}), q.report(alice, credentials.Token{Value: secret("put-alice")}))
		}
		all(callers).are("the same")
		w.presented(1)
		p.report(alice, credentials.Token{Value: secret("put-alice")}).is("the same") // an old one
		w.presented(1)
	})
}

// The row that is read has the token before the one that was turned down. A claim shows whether a
// server is behind; what a fail-over has forgotten keeps nobody for long.
func TestInvalidateOfATokenThatTheStoreHasNotYet(t *testing.T) {
	for name, test := range map[string]struct {
		behind    int // answers
		forgotten bool
		want      string
	}{
		"once":               {behind: 1, want: "access-alice-1"},
		"for ever":           {behind: 1000, want: "access-alice-1"},
		"after a fail-over":  {behind: 1000, forgotten: true, want: "put-alice"},
		"for a claim's time": {behind: 1, forgotten: true, want: "access-alice-1"},
	} {
		inWorldOf(t, name, func(w *world) {
			w.anHour(alice)
			before := w.row(alice)
			w.put(alice, credentials.Grant{AccessToken: secret("newer"), RefreshToken: secret("seed"), Lifetime: time.Hour})
			p := w.start("P")
			turnedDown := p.mustGet(alice)
			p.store.After(testkit.Get, testkit.Times(test.behind, func(_ context.Context, call *testkit.Call) error {
				call.Credential = before
				return nil
			}))
			if test.forgotten {
				p.store.After(testkit.ClaimAll, testkit.Times(test.behind, func(_ context.Context, call *testkit.Call) error {
					call.Found[0].Credential = before
					return nil
				}))
			}
			reads := p.store.Count(testkit.Get)
			a := p.report(alice, turnedDown)
			a.is(test.want)
			a.within(time.Second + w.provider.latency)
			if reads = p.store.Count(testkit.Get) - reads; reads > 20 {
				w.Errorf("%d reads", reads)
			}
		})
	}
}
