package credentials_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// No caller sees a token before it is committed: not while the save is on its way, and not while its reply is.
func TestInvariant03CommitFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		save, reply := newGate(), newGate()
		p.store.on("Save", save.wait, reply.wait)
		callers := []*answer{p.ask(alice), p.ask(alice)}
		<-save.reached
		callers = append(callers, p.ask(alice), q.ask(alice))
		w.reaches(time.Second)
		for _, a := range callers {
			a.waits()
		}
		if c := w.row(alice); !c.Token.IsZero() {
			w.Fatal("it is in the store already")
		}
		save.open()
		w.reaches(2 * time.Second)
		for _, a := range callers[:3] {
			a.waits()
		}
		callers[3].is("access-alice-1")
		reply.open()
		for _, a := range callers {
			a.is("access-alice-1")
		}
		w.calls(1)
	})
}

// Under a save that fails all the time, nobody gets the token either.
func TestInvariant03CommitFirstOrNever(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{Token: secret("old"), RefreshToken: secret("seed"), Lifetime: time.Minute})
		p := w.start("P")
		p.mustGet(alice)
		p.store.on("Save", refuse, nil)
		w.reaches(59 * time.Second) // due; the renewal cannot be stored
		for range 30 {
			time.Sleep(30 * time.Millisecond)
			p.ask(alice).is("old")
		}
		w.reaches(time.Minute)
		for range 3 {
			p.ask(alice).fails(credentials.ErrUnavailable)
		}
		w.calls(1)
	})
}

// A holder that was paused past its lease comes back with the only refresh token that lives. It is stored, and the
// failure of the claim that overlapped it does not cover it.
func TestInvariant04NeverThrowASuccessAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, _ credentials.Credential, n int) (credentials.Grant, error) {
			if n == 2 { // takes longer, so that the paused one comes back meanwhile
				time.Sleep(5 * time.Second)
			}
			return credentials.Grant{}, errOrdinary
		}
		paused, next := w.start("paused"), w.start("next")
		pause := newGate()
		paused.store.on("Save", pause.wait, nil)
		first := paused.ask(alice)
		<-pause.reached
		second := next.ask(alice)
		w.reaches(credentials.DefaultLease + time.Second)
		w.calls(2)
		pause.open()
		first.is("access-alice-1") // its time for that call of the store was over; the next one succeeded
		paused.ask(alice).is("access-alice-1")
		w.reaches(credentials.DefaultLease + 3*time.Second)
		if c := w.row(alice); !c.Lease.Live() || c.Lease.Holder != "next" {
			w.Errorf("the lease of the next one is %+v", c.Lease)
		}
		// The next one presented what the first had used up, and is refused. Its callers get the first one's token.
		second.is("access-alice-1")
		if c := w.row(alice); c.Failure.Class != "" || c.Lease.ID != "" || c.Interrupted.By != "" {
			w.Errorf("the row has failure %+v, lease %+v, interruption %+v", c.Failure, c.Lease, c.Interrupted)
		}
		w.calls(2)
		time.Sleep(2 * time.Hour)
		next.ask(alice).is("access-alice-2")
	})
}

// If the later claim has stored its own result, the paused one's is dropped and its callers get the later one.
func TestInvariant04LaterClaimWins(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
			if n == 2 { // within a grace window: the provider answers again
				w.provider.authorized(alice, c.RefreshToken.Reveal())
			}
			return credentials.Grant{}, errOrdinary
		}
		paused, next := w.start("paused"), w.start("next")
		pause := newGate()
		paused.store.on("Save", pause.wait, nil)
		first := paused.ask(alice)
		<-pause.reached
		next.ask(alice).is("access-alice-2")
		pause.open()
		first.is("access-alice-2")
		paused.ask(alice).is("access-alice-2")
		if got := w.row(alice).RefreshToken.Reveal(); got != mark+"-refresh-alice-2" {
			w.Errorf("the row has %s", got)
		}
		w.calls(2)
	})
}

// A holder paused before it could record its failure comes back after the next one's success.
func TestInvariant05FailureNeverCoversSuccess(t *testing.T) {
	for _, class := range []credentials.Class{credentials.Rejected, credentials.Transient, credentials.Unknown} {
		t.Run(string(class), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				w.provider.script = func(_ context.Context, _ credentials.Credential, n int) (credentials.Grant, error) {
					if n == 1 {
						return credentials.Grant{}, &credentials.RefreshError{Class: class, Code: "late"}
					}
					return credentials.Grant{}, errOrdinary
				}
				paused, next := w.start("paused"), w.start("next")
				pause := newGate()
				paused.store.on("Fail", pause.wait, nil)
				first := paused.ask(alice)
				<-pause.reached
				next.ask(alice).is("access-alice-1")
				pause.open()
				first.is("access-alice-1")
				if c := w.row(alice); c.Failure.Class != "" || c.Lease.ID != "" || c.Interrupted.By != "" {
					w.Errorf("the row has failure %+v, lease %+v, interruption %+v", c.Failure, c.Lease, c.Interrupted)
				}
				w.start("new").ask(alice).is("access-alice-1")
				w.calls(2)
			})
		})
	}
}

// What was written during an exchange decides what its callers get.
func TestSuperseded(t *testing.T) {
	type step struct {
		name string
		do   func(w *world)
	}
	steps := []step{
		{"put", func(w *world) {
			w.put(alice, credentials.Grant{Token: secret("put"), RefreshToken: secret("put-refresh"), Lifetime: time.Hour})
		}},
		{"seeded anew", func(w *world) { w.put(alice, credentials.Grant{RefreshToken: secret("put-refresh")}) }},
		{"delete", func(w *world) { w.delete(alice) }},
		{"delete and put", func(w *world) {
			w.delete(alice)
			w.put(alice, credentials.Grant{Token: secret("put"), RefreshToken: secret("put-refresh"), Lifetime: time.Hour})
		}},
		{"delete and seed", func(w *world) {
			w.delete(alice)
			w.put(alice, credentials.Grant{RefreshToken: secret("put-refresh")})
		}},
	}
	for _, fails := range []bool{false, true} {
		for _, step := range steps {
			name := step.name + " under a success"
			if fails {
				name = step.name + " under a failure"
			}
			t.Run(name, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.seed(alice)
					p, q := w.start("P"), w.start("Q")
					w.provider.script = func(_ context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
						if n > 1 {
							return credentials.Grant{}, errOrdinary
						}
						time.Sleep(time.Second)
						step.do(w)
						if fails {
							return credentials.Grant{}, invalidGrant()
						}
						return credentials.Grant{Token: secret("superseded"), RefreshToken: secret("superseded-refresh")}, nil
					}
					own := p.ask(alice)
					synctest.Wait()
					other := q.ask(alice)
					for _, a := range []*answer{own, other} {
						switch step.name {
						case "put", "delete and put":
							a.is("put")
							w.calls(1)
						case "delete":
							a.fails(credentials.ErrNotFound)
							if most := time.Second + 2*soon; a.took > most {
								w.Errorf("process %s: it took %v to notice, want at most %v", a.p.name, a.took, most)
							}
							w.calls(1)
						default: // the new refresh token was exchanged
							a.is("access-alice-1")
							w.calls(2)
						}
					}
				})
			})
		}
	}
}
