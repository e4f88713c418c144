package credentials_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// dies has a process make its claim and exchange, and then be cut off from the store for good, as if it had been killed.
// If the provider answers, that uses the refresh token up.
func (w *world) dies(name string, key credentials.Key, answered bool) {
	w.Helper()
	p := w.start(name)
	ctx, cancel := context.WithCancel(w.Context())
	if !answered {
		p.store.on("Claim", nil, func(context.Context) error { p.store.down(true); return errDown })
		p.askWith(ctx, key).fails(credentials.ErrUnavailable)
		cancel()
		return
	}
	p.store.on("Save", func(context.Context) error { p.store.down(true); return errDown }, nil)
	a := p.askWith(ctx, key)
	time.Sleep(2 * w.provider.latency)
	synctest.Wait()
	cancel()
	a.fails(context.Canceled)
	if err := p.Close(ctx); err == nil {
		w.Error("Close: no error, though the result could not be saved")
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
		if calls := w.calls(1); calls[0].Interrupted != "died" {
			w.Errorf("the refresher was told of the interrupted holder %q", calls[0].Interrupted)
		}
		if c := w.row(alice); c.Interrupted.By != "" {
			w.Errorf("after a success the row still has the interruption %+v", c.Interrupted)
		}
	})
}

// The holder died with the provider's answer: the refresh token is used up. The error says who is to blame, and since
// when, in all processes.
func TestReplayOnceNamesTheInterruptedHolder(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died", alice, true)
		p, q := w.start("P"), w.start("Q")
		own := p.ask(alice)
		synctest.Wait()
		other := q.ask(alice)
		for _, e := range []*credentials.RefreshError{
			own.failed(credentials.Rejected), other.failed(credentials.Rejected),
			w.start("late").ask(alice).failed(credentials.Rejected),
		} {
			since := time.Since(w.began)
			if e.Code != "invalid_grant" || e.Interrupted.By != "died" || (e.Interrupted.Ago-since).Abs() > time.Second {
				w.Errorf("after %v, got %+v", since, e)
			}
			if text := e.Error(); !strings.Contains(text, "died") || !strings.Contains(text, "interrupted") {
				w.Errorf("the message does not name the interrupted holder: %s", text)
			}
		}
		w.calls(2)
	})
}

// Where the policy is never to present again, nothing is presented after a holder that died, and the error says why.
func TestNeverReplayAfterADeath(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died", alice, true)
		p, q := w.start("P", neverReplay), w.start("Q", neverReplay)
		own := p.ask(alice)
		synctest.Wait()
		other := q.ask(alice)
		for _, a := range []*answer{own, other} {
			e := a.failed(credentials.Rejected)
			if e.Code != "interrupted" || e.Interrupted.By != "died" || e.By == "died" {
				w.Errorf("got %+v", e)
			}
			if !strings.Contains(e.Error(), "died") || !strings.Contains(e.Error(), "policy") {
				w.Errorf("the message does not say why: %s", e)
			}
		}
		w.calls(1)
		w.seed(alice) // a new grant owes nothing to the old one
		p.ask(alice).is("access-alice-2")
	})
}

// An outcome that is unknown ends the grant under NeverReplay at once, and is replayed after the back-off otherwise.
func TestUnknownOutcome(t *testing.T) {
	for _, replay := range []credentials.Replay{credentials.ReplayOnce, credentials.NeverReplay} {
		t.Run(fmt.Sprint("replay ", replay), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				w.provider.script = func(_ context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
					if n > 1 {
						return credentials.Grant{}, errOrdinary
					}
					_, _ = w.provider.rotate(c)
					return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Unknown, Reason: "connection lost"}
				}
				p := w.start("P", func(s *setup) { s.service.Replay = replay })
				if replay == credentials.NeverReplay {
					e := p.ask(alice).failed(credentials.Rejected)
					if !strings.Contains(e.Reason, "connection lost") || !strings.Contains(e.Reason, "policy") {
						w.Errorf("the reason does not say why: %s", e.Reason)
					}
					time.Sleep(time.Hour)
					p.ask(alice).failed(credentials.Rejected)
					w.calls(1)
					return
				}
				e := p.ask(alice).failed(credentials.Unknown)
				if e.Interrupted.By != "" {
					w.Errorf("the interrupted one is blamed on %q", e.Interrupted.By)
				}
				time.Sleep(time.Until(e.RetryAt))
				e = p.ask(alice).failed(credentials.Rejected)
				if e.Code != "invalid_grant" || e.Interrupted.By != "P" || e.Interrupted.Ago < time.Second {
					w.Errorf("got %+v", e)
				}
				w.calls(2)
			})
		})
	}
}

// A refusal between an unknown outcome and invalid_grant does not make it forgotten.
func TestInterruptionOutlivesARefusal(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
			switch n {
			case 1:
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Unknown}
			case 2:
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient}
			}
			return credentials.Grant{}, invalidGrant()
		}
		time.Sleep(time.Until(w.start("first").ask(alice).failed(credentials.Unknown).RetryAt))
		time.Sleep(time.Until(w.start("second").ask(alice).failed(credentials.Transient).RetryAt))
		if e := w.start("third").ask(alice).failed(credentials.Rejected); e.Interrupted.By != "first" || e.By != "third" {
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
		p.store.on("Claim", func(context.Context) error { // someone else is always first
			w.dies(fmt.Sprint("died at ", time.Since(w.began)), alice, false)
			return nil
		}, nil)
		a := p.ask(alice)
		e := a.failed(credentials.Unknown)
		if most := 2 * credentials.DefaultLease; a.took > most {
			w.Errorf("it waited for %v, want at most %v", a.took, most)
		}
		if e.RetryAt.IsZero() || !strings.HasPrefix(e.By, "died at") {
			w.Errorf("got %+v", e)
		}
		w.calls(0)
	})
}

// A failure that could not be recorded before the lease ended: the next claim takes its outcome for unknown, also where
// it is the same process's.
func TestFailureThatWasNeverRecorded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient}
		}
		p := w.start("P", neverReplay)
		p.store.on("Claim", nil, once(refuse))
		p.ask(alice).fails(credentials.ErrUnavailable) // that claim is found again, and is not for ever the process's own
		p.store.on("Fail", refuse, nil)
		p.ask(alice).failed(credentials.Transient)
		w.reaches(credentials.DefaultLease + 5*time.Second)
		p.store.on("Fail", nil, nil)
		if e := p.ask(alice).failed(credentials.Rejected); e.Code != "interrupted" || e.Interrupted.By != "P" {
			w.Errorf("got %+v", e)
		}
		w.calls(1)
	})
}
