package credentials_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// No caller sees a token before it is committed: not while the save is on its way, and not while
// its reply is.
func TestInvariant03CommitFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		save, reply := testkit.NewGate(), testkit.NewGate()
		p.store.Before(testkit.Save, save.Wait)
		p.store.After(testkit.Save, reply.Wait)
		callers := []*answer{p.ask(alice), p.ask(alice)}
		<-save.Reached
		callers = append(callers, p.ask(alice), q.ask(alice))
		w.reaches(time.Second)
		for _, a := range callers {
			a.waits()
		}
		if c := w.row(alice); !c.AccessToken.IsZero() {
			w.Fatal("it is in the store already")
		}
		save.Open()
		w.reaches(2 * time.Second)
		for _, a := range callers[:3] {
			a.waits()
		}
		callers[3].is("access-alice-1")
		reply.Open()
		all(callers).are("access-alice-1")
		w.presented(1)
	})
}

// Under a save that fails all the time, nobody gets the token either.
func TestInvariant03CommitFirstOrNever(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("old"), RefreshToken: secret("seed"), Lifetime: time.Minute})
		p := w.start("P")
		p.mustGet(alice)
		p.store.Before(testkit.Save, testkit.Refuse)
		w.reaches(59 * time.Second) // due; the renewal cannot be stored
		for range 30 {
			time.Sleep(30 * time.Millisecond)
			p.ask(alice).is("old")
		}
		w.reaches(time.Minute)
		for range 3 {
			p.ask(alice).fails(credentials.ErrUnavailable)
		}
		w.presented(1)
	})
}

// A holder that was paused past its lease comes back with the only refresh token that lives. It is
// stored, and the failure of the claim that overlapped it does not cover it.
func TestInvariant04NeverThrowASuccessAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lenient = true
		w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
			if n == 2 { // takes longer, so that the paused one comes back meanwhile
				time.Sleep(5 * time.Second)
			}
			return credentials.Grant{}, errOrdinary
		}
		paused, next := w.start("paused"), w.start("next")
		pause := testkit.NewGate()
		paused.store.Before(testkit.Save, pause.Wait)
		first := paused.ask(alice)
		<-pause.Reached
		second := next.ask(alice)
		w.reaches(credentials.DefaultLease + 7*time.Second)
		w.presented(2)
		pause.Open()
		first.is("access-alice-1") // its time for that call of the store was over; the next one succeeded
		paused.ask(alice).is("access-alice-1")
		w.reaches(credentials.DefaultLease + 9*time.Second)
		if c := w.row(alice); !c.Lease.Live() || c.Lease.Holder != "next" {
			w.Errorf("the lease of the next one is %+v", c.Lease)
		}
		// The next one presented what the first had used up, and is refused. Its callers get the
		// first one's token.
		second.is("access-alice-1")
		w.clean(alice)
		w.presented(2)
		time.Sleep(2 * time.Hour)
		next.ask(alice).is("access-alice-2")
	})
}

// If the later claim has stored its own result, the paused one's is dropped and its callers get the
// later one.
func TestInvariant04LaterClaimWins(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Grace = time.Hour
		paused, next := w.start("paused"), w.start("next")
		pause := testkit.NewGate()
		paused.store.Before(testkit.Save, pause.Wait)
		first := paused.ask(alice)
		<-pause.Reached
		next.ask(alice).is("access-alice-2")
		pause.Open()
		first.is("access-alice-2")
		paused.ask(alice).is("access-alice-2")
		w.storedRefresh(alice, "refresh-alice-2")
		w.presented(2)
	})
}

// A holder paused before it could record its failure comes back after the next one's success.
func TestInvariant05FailureNeverCoversSuccess(t *testing.T) {
	for _, class := range []credentials.Class{credentials.ClassDead, credentials.ClassTransient, credentials.ClassUnknown} {
		inWorldOf(t, string(class), func(w *world) {
			w.seed(alice)
			w.provider.script = first(refusing(credentials.RefreshError{Class: class, Code: "late"}))
			paused, next := w.start("paused"), w.start("next")
			pause := testkit.NewGate()
			paused.store.Before(testkit.Fail, pause.Wait)
			first := paused.ask(alice)
			<-pause.Reached
			next.ask(alice).is("access-alice-1")
			pause.Open()
			first.is("access-alice-1")
			w.clean(alice)
			w.start("new").ask(alice).is("access-alice-1")
			w.presented(2)
		})
	}
}

// A write during an exchange decides what the callers of that exchange get.
func TestSuperseded(t *testing.T) {
	type step struct {
		name string
		do   func(w *world)
	}
	steps := []step{
		{"put", func(w *world) {
			w.put(alice, credentials.Grant{AccessToken: secret("put"), RefreshToken: secret("put-refresh"), Lifetime: time.Hour})
		}},
		{"seeded anew", func(w *world) { w.put(alice, credentials.Grant{RefreshToken: secret("put-refresh")}) }},
		{"delete", func(w *world) { w.delete(alice) }},
		{"delete and put", func(w *world) {
			w.delete(alice)
			w.put(alice, credentials.Grant{AccessToken: secret("put"), RefreshToken: secret("put-refresh"), Lifetime: time.Hour})
		}},
		{"delete and seed", func(w *world) {
			w.delete(alice)
			w.put(alice, credentials.Grant{RefreshToken: secret("put-refresh")})
		}},
	}
	const took = 1037 * time.Millisecond // nobody looks between a delete and a put
	for _, fails := range []bool{false, true} {
		for _, step := range steps {
			name := step.name + " under a success"
			if fails {
				name = step.name + " under a failure"
			}
			inWorldOf(t, name, func(w *world) {
				w.seed(alice)
				p, q := w.start("P"), w.start("Q")
				w.provider.script = func(_ context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
					if n > 1 {
						return credentials.Grant{}, errOrdinary
					}
					time.Sleep(took)
					step.do(w)
					if fails {
						return credentials.Grant{}, invalidGrant()
					}
					return credentials.Grant{AccessToken: secret("superseded"), RefreshToken: secret("superseded-refresh")}, nil
				}
				own := p.begins(alice)
				other := q.ask(alice)
				for _, a := range []*answer{own, other} {
					switch step.name {
					case "put", "delete and put":
						a.is("put")
						w.presented(1)
					case "delete":
						a.fails(credentials.ErrNotFound)
						a.within(took + aConfirmation + soon)
						w.presented(1)
					default: // the new refresh token was exchanged
						a.is("access-alice-1")
						w.presented(2)
					}
				}
			})
		}
	}
}
