package credentials_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// dies has a process make its claim and exchange, and then be cut off from the store for good, as
// if it had been killed. If the provider answers, that uses the refresh token up.
func (w *world) dies(name string, key credentials.Key, answered bool) {
	w.Helper()
	p := w.start(name)
	ctx, cancel := context.WithCancel(w.Context())
	if !answered {
		p.store.After(testkit.Claim, p.store.Dies)
		p.askWith(ctx, key).fails(credentials.ErrUnavailable)
		cancel()
		return
	}
	p.store.Before(testkit.Save, p.store.Dies)
	a := p.askWith(ctx, key)
	time.Sleep(2 * w.provider.latency)
	synctest.Wait()
	cancel()
	a.fails(context.Canceled)
	if err := p.Close(ctx); err == nil {
		w.Error("Close: no error, though the result could not be saved")
	}
}

// takesOver has a process of that name claim what another holds, and die.
func (w *world) takesOver(name string, key credentials.Key) {
	w.Helper()
	claim := credentials.Claim{ID: name, Holder: name, Lease: credentials.DefaultLease, TakeOver: w.row(key).Lease.ID}
	if c, err := w.db.Claim(w.Context(), key, claim); err != nil || c.Lease.ID != name {
		w.Errorf("%s claims: lease of %q, error %v", name, c.Lease.Holder, err)
	}
}

// The holder died before it presented anything: the refresh token is presented, and works.
func TestReplayOnceRescuesTheGrant(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died", alice, false)
		p := w.start("P")
		p.ask(alice).is("access-alice-1")
		if past := time.Since(w.began); past < credentials.DefaultLease {
			w.Errorf("it was claimed after %v, within the lease of the one that died", past)
		}
		w.presentedOnce("died")
		if c := w.row(alice); c.Interrupted.By != "" {
			w.Errorf("after a success the row still has the interruption %+v", c.Interrupted)
		}
	})
}

// The holder died with the provider's answer: the refresh token is used up. The error says who is
// to blame, and since when, in all processes.
func TestReplayOnceNamesTheInterruptedHolder(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died", alice, true)
		p, q := w.start("P"), w.start("Q")
		own := p.begins(alice)
		other := q.ask(alice)
		for _, e := range []*credentials.RefreshError{
			own.failed(credentials.ClassDead), other.failed(credentials.ClassDead),
			w.start("late").ask(alice).failed(credentials.ClassDead),
		} {
			since := time.Since(w.began)
			if e.Code != "invalid_grant" || e.Interrupted.By != "died" || (e.Interrupted.Ago-since).Abs() > time.Second {
				w.Errorf("after %v, got %+v", since, e)
			}
			if text := e.Error(); !strings.Contains(text, "died") || !strings.Contains(text, "interrupted") {
				w.Errorf("the message does not name the interrupted holder: %s", text)
			}
		}
		w.presented(2)
	})
}

// The request of a holder that was taken for dead reaches the provider after its replay has
// succeeded, and costs the grant: the error at the next expiry names that holder. An interruption
// that two successes have followed is not to blame.
func TestRevokedAfterTheReplay(t *testing.T) {
	for successes := 1; successes <= 2; successes++ {
		inWorldOf(t, fmt.Sprint(successes), func(w *world) {
			w.seed(alice)
			w.dies("died", alice, false)
			p := w.start("P")
			for n := range successes {
				p.ask(alice).is(fmt.Sprint("access-alice-", n+1))
				time.Sleep(time.Hour)
			}
			w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassDead, Code: "invalid_grant"})
			e := w.start("Q").ask(alice).failed(credentials.ClassDead)
			want := map[int]string{1: "died", 2: ""}[successes]
			if e.Interrupted.By != want {
				w.Errorf("got %+v, want it to name %q", e, want)
			}
		})
	}
}

// Where the policy is never to present again, nothing is presented after a holder that died, and
// the error says why.
func TestNeverReplayAfterADeath(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died", alice, true)
		p, q := w.start("P", neverReplay), w.start("Q", neverReplay)
		own := p.begins(alice)
		other := q.ask(alice)
		for _, a := range []*answer{own, other} {
			e := a.failed(credentials.ClassDead)
			if e.Code != "interrupted" || e.Interrupted.By != "died" || e.By == "died" {
				w.Errorf("got %+v", e)
			}
			if !strings.Contains(e.Error(), "died") || !strings.Contains(e.Error(), "policy") {
				w.Errorf("the message does not say why: %s", e)
			}
		}
		w.presented(1)
		w.seed(alice) // a new grant owes nothing to the old one
		p.ask(alice).is("access-alice-2")
	})
}

// An outcome that is unknown ends the grant under NeverReplay at once, and is replayed after the
// back-off otherwise.
func TestUnknownOutcome(t *testing.T) {
	for _, replay := range []credentials.Replay{credentials.ReplayOnce, credentials.NeverReplay} {
		inWorldOf(t, fmt.Sprint("replay ", replay), func(w *world) {
			w.seed(alice)
			w.provider.script = func(_ context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
				if n > 1 {
					return credentials.Grant{}, errOrdinary
				}
				_, _ = w.provider.exchange(in)
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassUnknown, Reason: "connection lost"}
			}
			p := w.start("P", func(s *setup) { s.service.Replay = replay })
			if replay == credentials.NeverReplay {
				e := p.ask(alice).failed(credentials.ClassDead)
				if !strings.Contains(e.Reason, "connection lost") || !strings.Contains(e.Reason, "policy") {
					w.Errorf("the reason does not say why: %s", e.Reason)
				}
				time.Sleep(time.Hour)
				p.ask(alice).failed(credentials.ClassDead)
				w.presented(1)
				return
			}
			e := p.ask(alice).failed(credentials.ClassUnknown)
			if e.Interrupted.By != "" {
				w.Errorf("the interrupted one is blamed on %q", e.Interrupted.By)
			}
			time.Sleep(time.Until(e.RetryAt))
			e = p.ask(alice).failed(credentials.ClassDead)
			if e.Code != "invalid_grant" || e.Interrupted.By != "P" || e.Interrupted.Ago < time.Second {
				w.Errorf("got %+v", e)
			}
			w.presented(2)
		})
	}
}

// A refusal between an unknown outcome and invalid_grant does not make it forgotten.
func TestInterruptionOutlivesARefusal(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			switch n {
			case 1:
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassUnknown}
			case 2:
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient}
			}
			return credentials.Grant{}, invalidGrant()
		}
		time.Sleep(time.Until(w.start("first").ask(alice).failed(credentials.ClassUnknown).RetryAt))
		time.Sleep(time.Until(w.start("second").ask(alice).failed(credentials.ClassTransient).RetryAt))
		if e := w.start("third").ask(alice).failed(credentials.ClassDead); e.Interrupted.By != "first" || e.By != "third" {
			w.Errorf("got %+v", e)
		}
	})
}

// Holders that die one after the other do not keep a caller for ever.
func TestManyDeaths(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died 0", alice, false)
		p := w.start("P")
		p.store.Before(testkit.Claim, testkit.Func(func() { // someone else is always first
			w.takesOver(fmt.Sprint("died at ", time.Since(w.began)), alice)
		}))
		a := p.ask(alice)
		e := a.failed(credentials.ClassUnknown)
		a.within(2 * credentials.DefaultLease)
		if e.RetryAt.IsZero() || !strings.HasPrefix(e.By, "died at") {
			w.Errorf("got %+v", e)
		}
		w.presented(0)
	})
}

// A failure that could not be recorded before the lease ended is recorded when the store is back:
// nothing is unknown about the outcome, and the grant of a service that never replays is not given
// up.
func TestFailureIsRecordedWhenTheStoreIsBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			if n == 1 {
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient}
			}
			return w.provider.exchange(in)
		}
		p, q := w.start("P", neverReplay), w.start("Q", neverReplay)
		p.store.Before(testkit.Fail, testkit.Refuse)
		p.ask(alice).failed(credentials.ClassTransient)
		w.reaches(2 * credentials.DefaultLease)
		p.store.Heal(testkit.Fail)
		q.ask(alice).failed(credentials.ClassTransient)
		time.Sleep(time.Minute)
		q.ask(alice).is("access-alice-1")
		if c := w.row(alice); c.Interrupted.By != "" {
			w.Errorf("the exchange of %s counts as interrupted", c.Interrupted.By)
		}
	})
}

// Each refusal of a dead grant says since when it is dead, in every process.
func TestDeadGrantSaysSinceWhen(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.authorized(alice, "another")
		processes := w.starts(2)
		first := processes[0].ask(alice).failed(credentials.ClassDead)
		if first.Ago != 0 || strings.Contains(first.Error(), " ago") {
			w.Errorf("the first refusal: it was %v ago: %v", first.Ago, first)
		}
		time.Sleep(49 * time.Hour)
		for _, p := range append(processes, w.start("late")) {
			e := p.ask(alice).failed(credentials.ClassDead)
			if e.By != "A" || e.Ago < 49*time.Hour || e.Ago > 49*time.Hour+time.Minute ||
				!strings.Contains(e.Error(), "[exchange by A, 49h0m") {
				w.Errorf("process %s: got %v ago, %v; want 49 h, and it said so", p.name, e.Ago, e)
			}
		}
		w.presented(1)
	})
}
