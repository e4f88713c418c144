package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// oldReader is a server that answers reads and applies nothing any more. It shows rows as they were,
// with the durations of now.
type oldReader struct {
	since    time.Time
	rows     map[credentials.Key]credentials.Credential
	versions map[uint64]uint64
}

// readsFrom returns a reader that has the rows as they are now, and has the processes read from it
// until they heal.
func (w *world) readsFrom(processes ...*process) {
	w.Helper()
	r := &oldReader{time.Now(), make(map[credentials.Key]credentials.Credential), make(map[uint64]uint64)}
	for _, key := range []credentials.Key{alice, bob, carol} {
		if c, err := w.db.Get(w.Context(), key); err == nil {
			r.rows[key], r.versions[c.Row] = c, c.Version
		}
	}
	for _, p := range processes {
		p.store.After(testkit.Get, func(_ context.Context, call *testkit.Call) error {
			call.Credential, call.Err = r.get(call.Key)
			return nil
		})
		p.store.After(testkit.GetAll, func(_ context.Context, call *testkit.Call) error {
			for i, key := range call.Keys {
				call.Found[i].Credential, call.Found[i].Err = r.get(key)
			}
			return nil
		})
		p.store.After(testkit.Versions, func(_ context.Context, call *testkit.Call) error {
			clear(call.Versions)
			for row := range call.Rows {
				if version, there := r.versions[row]; there {
					call.Versions[row] = version
				}
			}
			return nil
		})
	}
}

func (r *oldReader) get(key credentials.Key) (credentials.Credential, error) {
	c, there := r.rows[key]
	if !there {
		return credentials.Credential{}, fmt.Errorf("%w: %s", credentials.ErrNotFound, key)
	}
	passed := time.Since(r.since)
	for _, left := range []*time.Duration{&c.ExpiresIn, &c.DueIn, &c.Lease.EndsIn, &c.Failure.RetryIn} {
		if *left != credentials.Never {
			*left -= passed
		}
	}
	for _, ago := range []*time.Duration{
		&c.Lease.Age, &c.Failure.Ago, &c.Interrupted.Ago, &c.Refreshed.Ago,
	} {
		*ago += passed
	}
	return c, nil
}

// claimed has a holder claim alice's credential, and returns the fence.
func (w *world) claimed(name string, unused string) credentials.Credential {
	w.Helper()
	c, err := w.db.Claim(w.Context(), alice,
		credentials.Claim{ID: name, Holder: name, Lease: credentials.DefaultLease, Unused: unused})
	if err != nil || c.Lease.ID != name {
		w.Fatalf("the claim of %s: %+v, %v", name, c.Lease, err)
	}
	return c
}

// fails has a holder's exchange of alice's credential fail.
func (w *world) fails(c credentials.Credential, f credentials.Failure) {
	w.Helper()
	if err := w.db.Fail(w.Context(), c.Fence(), f); err != nil {
		w.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// refusals are the ways in which a row of alice leads to an error, and what a server that is behind
// shows no longer: after it, there is a token.
var refusals = []struct {
	name          string
	refuse, mends func(w *world)
	want          error // nil: a RefreshError that is transient
}{
	{
		"not there",
		func(*world) {},
		func(w *world) { w.anHour(alice) },
		credentials.ErrNotFound,
	},
	{
		"dead",
		func(w *world) {
			w.seed(alice)
			w.fails(w.claimed("holder", ""), credentials.Failure{Class: credentials.ClassDead})
		},
		func(w *world) { w.anHour(alice) },
		credentials.ErrGrantDead,
	},
	{
		"backing off, with a late success",
		func(w *world) {
			w.seed(alice)
			late := w.claimed("late", "")
			w.fails(w.claimed("holder", late.Lease.ID),
				credentials.Failure{Class: credentials.ClassTransient, RetryIn: time.Hour})
		},
		func(w *world) {
			w.must(w.db.Save(w.Context(),
				credentials.Fence{Key: alice, Row: w.row(alice).Row, Claim: "late", Version: 2},
				credentials.Renewal{
					Grant: credentials.Grant{
						AccessToken: secret("put-alice"), RefreshToken: secret("r"), Lifetime: time.Hour,
						RefreshLifetime: credentials.Never,
					},
					DueIn: 50 * time.Minute,
				}))
		},
		nil,
	},
	{
		"disabled",
		func(w *world) {
			w.anHour(alice)
			w.must(w.db.Disable(w.Context(), credentials.Change{Key: alice, By: "ann"}))
		},
		func(w *world) {
			w.must(w.db.Enable(w.Context(), credentials.Change{Key: alice, By: "ann"}))
		},
		credentials.ErrDisabled,
	},
}

// No caller gets an error from a row, or from the lack of one, that was another by then: a claim
// looks first.
func TestErrorsAreConfirmed(t *testing.T) {
	for _, test := range refusals {
		inWorldOf(t, test.name, func(w *world) {
			test.refuse(w)
			p := w.start("P")
			w.readsFrom(p)
			test.mends(w)
			a := p.ask(alice)
			a.is("put-alice")
			a.within(0)
		})
	}
}

// An error that is asked for again and again costs one claim a second, whether the reader is behind
// or not.
func TestErrorsAreConfirmedOnceASecond(t *testing.T) {
	for _, behind := range []bool{false, true} {
		for _, test := range refusals {
			inWorldOf(t, fmt.Sprintf("%s, behind: %t", test.name, behind), func(w *world) {
				p := w.start("P")
				if behind { // by all that makes the error
					w.readsFrom(p)
				}
				test.refuse(w)
				const lasts, pause = 10 * time.Second, 10 * time.Millisecond
				n := 0
				for ; time.Since(w.began) < lasts; n++ {
					_, err := p.Token(w.Context(), alice)
					var refused *credentials.RefreshError
					if test.want == nil && !errors.As(err, &refused) || test.want != nil && !errors.Is(err, test.want) {
						w.Fatalf("got error %v, want %v", err, test.want)
					}
					time.Sleep(pause)
				}
				claims := p.store.Count(testkit.Claim, testkit.ClaimAll)
				w.Logf("%d calls, %d claims, %d reads", n, claims, p.store.Count(testkit.Get))
				if most := int(lasts/aConfirmation) + 1; claims > most {
					w.Errorf("%d claims in %v, want at most %d", claims, lasts, most)
				}
				if !behind && n < int(lasts/pause) {
					w.Errorf("%d calls in %v", n, lasts)
				}
				w.presented(0)
			})
		}
	}
}

// A token that was turned down is replaced by the one that stands in the store, though a reader
// shows that it is too young to be exchanged.
func TestTooYoungIsConfirmed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		token := p.mustGet(alice)
		w.readsFrom(p)
		w.anHour(alice)
		p.report(alice, token).is("put-alice")
		w.presented(1)
	})
}

// Many keys that are not there are confirmed together.
func TestAbsentKeysAreConfirmedTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		for _, method := range []testkit.Method{testkit.Get, testkit.GetAll, testkit.ClaimAll} {
			p.store.Before(method, testkit.Delay(time.Millisecond))
		}
		const keys = 1000
		var callers []*answer
		for i := range keys {
			callers = append(callers, p.ask(credentials.Key{Service: alice.Service, Account: fmt.Sprint(i)}))
		}
		for _, a := range callers {
			a.fails(credentials.ErrNotFound)
		}
		if n := p.store.Count(); n > 20 {
			w.Errorf("%d calls of the store for %d keys", n, keys)
		}
	})
}

// Where the store takes no writes, nobody can tell whether an error is out of date.
func TestErrorsThatCannotBeConfirmed(t *testing.T) {
	for _, test := range refusals {
		inWorldOf(t, test.name, func(w *world) {
			test.refuse(w)
			p := w.start("P")
			p.store.Before(testkit.ClaimAll, testkit.Refuse)
			p.ask(alice).fails(credentials.ErrUnavailable)
			p.store.Heal()
			time.Sleep(time.Second)
			if _, err := p.Token(w.Context(), alice); errors.Is(err, credentials.ErrUnavailable) {
				w.Errorf("got error %v", err)
			}
		})
	}
}

// A claim that was to confirm an error finds that there is something to exchange, in a process that
// does not know the service: its lease is given up.
func TestConfirmationInAForeignProcess(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.fails(w.claimed("holder", ""), credentials.Failure{Class: credentials.ClassDead})
		p := w.start("P", finding(func(context.Context, string) (credentials.Service, error) {
			return credentials.Service{}, credentials.ErrUnknownService
		}))
		p.ask(alice).fails(credentials.ErrGrantDead)
		w.readsFrom(p)
		w.seed(alice)
		time.Sleep(aConfirmation)
		p.ask(alice).fails(credentials.ErrUnknownService)
		w.clean(alice)
		w.presented(0)
	})
}

// Those who wait learn of the result though their reader shows none, within a second, at a claim a
// second.
func TestWaitersBehindAReader(t *testing.T) {
	for _, took := range []time.Duration{200 * time.Millisecond, 5 * time.Second} {
		inWorldOf(t, took.String(), func(w *world) {
			w.seed(alice)
			w.provider.latency = took
			all := w.starts(3)
			w.readsFrom(all...)
			callers := each(all).ask(alice)
			callers.are("access-alice-1")
			for _, a := range callers {
				a.within(took + aConfirmation + soon)
			}
			for _, p := range all {
				if n, most := p.store.Count(), 30*int(took/time.Second)+20; n > most {
					w.Errorf("process %s made %d calls of its store, want at most %d", p.name, n, most)
				}
				claims := p.store.Count(testkit.Claim, testkit.ClaimAll)
				if most := int(took/aConfirmation) + 2; claims > most {
					w.Errorf("process %s made %d claims, want at most %d", p.name, claims, most)
				}
			}
			w.presented(1)
		})
	}
}

// A reader that is up to date costs those who wait no claim, unless the exchange takes longer than
// the one before by a second.
func TestWaitersMakeNoClaims(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 3 * time.Second
		p, q := w.start("P"), w.start("Q")
		p.mustGet(alice)
		time.Sleep(2 * time.Hour)
		p.begins(alice)
		claims := q.store.Count(testkit.Claim, testkit.ClaimAll)
		q.ask(alice).is("access-alice-2")
		if n := q.store.Count(testkit.Claim, testkit.ClaimAll) - claims; n != 0 {
			w.Errorf("%d claims", n)
		}
	})
}

// A dead holder's lease is taken over by a process whose reader never shows it.
func TestTakeoverBehindAReader(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		w.readsFrom(p)
		w.dies("dead", alice, false)
		p.ask(alice).is("access-alice-1")
		w.within(credentials.DefaultLease + 2*grace + w.provider.latency + 3*time.Second)
		w.presentedOnce("dead")
	})
}

// A holder saves its result while the process that took its lease over lets it, whose reader does
// not show that: nothing is presented again.
func TestHolderThatSavesBehindAReader(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		holder, p := w.start("holder"), w.start("P")
		saves := testkit.NewGate()
		holder.store.Before(testkit.Save, saves.Wait)
		first := holder.begins(alice)
		a := p.begins(alice)
		w.readsFrom(p)
		took := testkit.NewGate()
		p.store.After(testkit.Claim, func(_ context.Context, call *testkit.Call) error {
			if call.Won() && call.Claim.TakeOver != "" {
				return took.Wait(w.Context(), call)
			}
			return nil
		})
		<-took.Reached
		took.Open()
		time.Sleep(time.Second)
		synctest.Wait()
		saves.Open()
		first.is("access-alice-1")
		a.is("access-alice-1")
		w.presented(1)
		w.unleased(alice)
	})
}

// A claim that only was to confirm an error finds a row whose holder died, and whose next holder
// gave up: there is room in the lease for the grace that the first one gets, and for the exchange.
func TestConfirmingClaimThatAwaitsAHolder(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P", func(s *setup) {
			s.options.Lease, s.options.ExchangeTimeout = 14*time.Second, 8*time.Second
		})
		w.readsFrom(p)
		w.seed(alice)
		w.dies("died", alice, false)
		w.reaches(credentials.DefaultLease + time.Second)
		w.takesOver("second", alice)
		w.must(w.db.Release(w.Context(), w.row(alice).Fence()))
		p.ask(alice).is("access-alice-1")
		w.presentedOnce("died")
	})
}
