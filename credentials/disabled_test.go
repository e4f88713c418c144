package credentials_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

func (w *world) disable(key credentials.Key) {
	w.Helper()
	if err := w.db.Disable(w.Context(), credentials.Change{Key: key, By: "ann@host"}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) enable(key credentials.Key) {
	w.Helper()
	if err := w.db.Enable(w.Context(), credentials.Change{Key: key}); err != nil {
		w.Fatal(err)
	}
}

// A process that holds the token and uses it all the time gets an error within Recheck, which says
// who disabled the credential; and a token again once the credential is enabled.
func TestInvariant15DisabledWhileATokenIsHeld(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p, fresh := w.start("P"), w.start("fresh")
		p.mustGet(alice)
		w.disable(alice)
		fresh.ask(alice).fails(credentials.ErrDisabled)
		for ; p.ask(alice).denied(credentials.ErrDisabled) == nil; time.Sleep(100 * time.Millisecond) {
			w.within(credentials.DefaultRecheck)
		}
		err := p.ask(alice).fails(credentials.ErrDisabled)
		for _, text := range []string{"github/alice", "ann@host", "enable it"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error %q does not have %q", err, text)
			}
		}
		w.presented(0)
		w.enable(alice)
		p.ask(alice).is("put-alice")
		synctest.Wait()
	})
}

// denied returns the caller's error if it wraps want; nil if the caller got a token.
func (a *answer) denied(want error) error {
	a.p.w.Helper()
	if <-a.done; a.err == nil {
		return nil
	}
	return a.fails(want)
}

// A token that nobody has used for long is looked at before its next caller gets it.
func TestDisabledWhileATokenIsUnused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.mustGet(alice)
		w.reaches(unused)
		w.disable(alice)
		w.reaches(2 * unused)
		p.ask(alice).fails(credentials.ErrDisabled)
	})
}

// A report of a token brings no exchange, and the token is not served again.
func TestInvalidateOfADisabledCredential(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P", anyAge)
		token := p.mustGet(alice)
		w.disable(alice)
		p.report(alice, token).fails(credentials.ErrDisabled)
		p.ask(alice).fails(credentials.ErrDisabled)
		w.presented(0)
	})
}

// The keeper comes upon nothing for a day, and renews the credential once it is enabled.
func TestInvariant15KeeperPassesDisabledCredentials(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		w.disable(alice)
		p := w.start("P")
		stop := p.keeps()
		w.reaches(24 * time.Hour)
		for _, call := range w.provider.record() {
			if call.Key == alice {
				t.Fatal("the disabled credential was exchanged")
			}
		}
		w.enable(alice)
		w.reaches(25 * time.Hour)
		stop()
		if w.row(alice).AccessToken.IsZero() {
			t.Error("the credential was not renewed after it was enabled")
		}
	})
}

// An exchange that is under way when the credential is disabled is saved, and those who wait for it
// in another process get the error.
func TestDisabledDuringAnExchange(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		holder, waiter := w.start("H"), w.start("W")
		holding := holder.begins(alice)
		waiting := waiter.begins(alice)
		w.disable(alice)
		holding.is("access-alice-1")
		waiting.fails(credentials.ErrDisabled)
		w.stored(alice, "access-alice-1")
		w.enable(alice)
		waiter.ask(alice).is("access-alice-1")
	})
}

// Under NeverReplay a failure of unknown outcome ends the grant, also where the credential was
// disabled meanwhile: the refresh token is not presented again.
func TestDisabledDuringAnExchangeOfUnknownOutcome(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", func(s *setup) { s.service.Replay = credentials.NeverReplay })
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassUnknown})
		w.provider.presented = func(credentials.RefreshInput) { w.disable(alice) }
		a := p.ask(alice)
		a.failed(credentials.ClassDead)
		p.ask(alice).fails(credentials.ErrDisabled)
		w.enable(alice)
		p.ask(alice).fails(credentials.ErrGrantDead)
		w.presented(1)
	})
}

// The reply to a claim is lost, and the credential is disabled before the claim is found again:
// nothing is presented, the lease is given up, and that is no interruption.
func TestDisabledAfterALostClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.After(testkit.Claim, testkit.Once(testkit.Chain(
			testkit.Func(func() { w.disable(alice) }), testkit.Refuse)))
		p.ask(alice).fails(credentials.ErrUnavailable)
		p.ask(alice).fails(credentials.ErrDisabled)
		w.reaches(time.Minute)
		w.presented(0)
		w.clean(alice)
	})
}

// The store repeats a claim whose reply was lost, and finds the lease that it made; the credential
// was disabled in between. Nothing is presented, and the lease is given up.
func TestDisabledBeforeARepeatedClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.After(testkit.Claim, func(ctx context.Context, call *testkit.Call) error {
			w.disable(alice)
			return call.Do(ctx, w.db)
		})
		p.ask(alice).fails(credentials.ErrDisabled)
		w.presented(0)
		w.clean(alice)
	})
}
