package credentials_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// Twelve callers, four for each of three accounts, start at once: three exchanges that overlap.
func TestTwelveCallersOfThreeAccounts(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := []credentials.Key{alice, bob, carol}
		w.seed(keys...)
		p := w.start("A")
		callers := make(map[credentials.Key][]*answer)
		for range 4 {
			for _, key := range keys {
				callers[key] = append(callers[key], p.ask(key))
			}
		}
		w.reaches(100 * time.Millisecond)
		for _, key := range keys { // late callers join
			callers[key] = append(callers[key], p.ask(key))
			callers[key][0].waits()
		}
		for _, key := range keys {
			for i, a := range callers[key] {
				a.is("access-" + key.Account + "-1")
				if want := 200 * time.Millisecond; i < 4 && a.took != want || i == 4 && a.took != want/2 {
					w.Errorf("%s, caller %d: took %v", key, i, a.took)
				}
				if got := a.token.Extra("tenant").Reveal(); got != mark+"-tenant of "+key.Account {
					w.Errorf("%s: got extra %q", key, got)
				}
				if got := time.Until(a.token.Expiry); got != time.Hour-200*time.Millisecond {
					w.Errorf("%s: expires in %v", key, got)
				}
			}
		}
		calls := w.presented(3)
		for _, c := range calls {
			for _, other := range calls {
				if !c.Began.Before(other.Ended) {
					w.Errorf("the exchange of %s began after that of %s had ended", c.Key, other.Key)
				}
			}
		}
		before := p.store.Count()
		for _, key := range keys { // callers after it get the stored token
			p.ask(key).is("access-" + key.Account + "-1")
		}
		if after := p.store.Count(); after != before {
			w.Errorf("callers of cached tokens cost %d calls of the store", after-before)
		}
		for _, key := range keys { // in other processes, too
			w.start("B").ask(key).is("access-" + key.Account + "-1")
		}
		w.presented(3)
	})
}

func TestFailureReachesEveryCallerThatWaited(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		cause := errors.New(mark + " in a foreign error's text")
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			time.Sleep(200 * time.Millisecond)
			return credentials.Grant{}, &credentials.RefreshError{
				Class: credentials.ClassTransient, Code: "temporarily_unavailable", Reason: "quoting " + in.RefreshToken.Reveal(), Err: cause,
			}
		}
		p := w.start("A")
		first := []*answer{p.ask(alice), p.ask(alice), p.ask(alice)}
		w.reaches(100 * time.Millisecond)
		for _, a := range append(first, p.ask(alice)) {
			e := a.failed(credentials.ClassTransient)
			if e.Code != "temporarily_unavailable" || e.Reason != "quoting [redacted]" || e.By != "A" {
				w.Errorf("got code %q, reason %q, by %q", e.Code, e.Reason, e.By)
			}
			if !errors.Is(a.err, cause) {
				w.Errorf("the cause is not to be found in %v", a.err)
			}
			if in := time.Until(e.RetryAt); in < time.Second || in > 2*time.Second {
				w.Errorf("RetryAt is in %v, want 1 to 2 s", in)
			}
		}
		w.presented(1)
	})
}

// The callers of a call that could not save yet are told so, and the end of that call is not taken
// for the end of the one that later callers have joined.
func TestCallIsClearedByItsOwn(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("A")
		p.store.Before(testkit.Save, testkit.Refuse)
		first := p.ask(alice)
		first.fails(credentials.ErrUnavailable)
		second := p.ask(alice)
		second.waits()
		p.store.Heal(testkit.Save)
		third := p.ask(alice)
		second.is("access-alice-1")
		third.is("access-alice-1")
		w.presented(1)

		w.delete(alice) // and nothing is left over
		time.Sleep(2 * time.Hour)
		p.ask(alice).fails(credentials.ErrNotFound)
		w.seed(alice)
		p.ask(alice).is("access-alice-2")
	})
}

func TestInvariant07Detached(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("A")
		type name struct{}
		var lent any
		w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
			lent = ctx.Value(name{})
			return credentials.Grant{}, errOrdinary
		}
		// The one that starts the exchange has less time than it takes, and so has everyone else.
		short, cancel := context.WithTimeout(context.WithValue(w.Context(), name{}, "lent"), 150*time.Millisecond)
		defer cancel()
		first := p.askWith(short, alice)
		w.reaches(50 * time.Millisecond)
		given, giveUp := context.WithCancelCause(w.Context())
		second := p.askWith(given, alice)
		synctest.Wait()
		whim := errors.New("a whim")
		giveUp(whim)
		second.fails(whim)
		if second.took != 0 {
			w.Errorf("a caller that gave up stayed for %v", second.took)
		}
		first.fails(context.DeadlineExceeded)
		if first.took != 150*time.Millisecond {
			w.Errorf("a caller with 150 ms stayed for %v", first.took)
		}
		third := p.ask(alice)
		third.is("access-alice-1")
		if third.took != 50*time.Millisecond {
			w.Errorf("the caller that stayed waited for %v, want 50ms", third.took)
		}
		if lent != "lent" {
			w.Errorf("the exchange's context has the value %v of the first caller's", lent)
		}
		w.presented(1)

		over, cancel := context.WithCancel(w.Context())
		cancel()
		costs := p.costs()
		p.askWith(over, bob).fails(context.Canceled)
		synctest.Wait()
		costs(0)
		p.askWith(over, alice).is("access-alice-1") // what is cached is served all the same
	})
}

// With every caller gone, the exchange ends and its result is stored.
func TestInvariant07DetachedFromAll(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("A")
		for range 3 {
			ctx, cancel := context.WithTimeout(w.Context(), 50*time.Millisecond)
			p.askWith(ctx, alice).fails(context.DeadlineExceeded)
			cancel()
		}
		w.reaches(time.Second)
		w.start("B").ask(alice).is("access-alice-1")
		p.ask(alice).is("access-alice-1")
		w.presented(1)
	})
}

// The caller that began a call leaves while the call waits for another process, or for the store.
func TestInvariant07DetachedFromTheFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		holder := p.begins(alice)
		ctx, cancel := context.WithCancel(w.Context())
		first := q.askWith(ctx, alice)
		synctest.Wait()
		others := []*answer{q.ask(alice), q.ask(alice)}
		others[0].waits()
		cancel()
		first.fails(context.Canceled)
		all(append(others, holder)).are("access-alice-1")
		w.presented(1)
	})
}

// The callers of one credential wait for nothing but their own exchange, in whatever state another
// credential is.
func TestInvariant08Independent(t *testing.T) {
	for _, test := range []struct {
		name  string
		stick func(w *world, p, q *process)
	}{
		{"provider hangs", func(w *world, p, q *process) {
			w.provider.script = func(ctx context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
				if in.Key == bob {
					return credentials.Grant{}, testkit.Hang(ctx, nil)
				}
				return credentials.Grant{}, errOrdinary
			}
		}},
		{"claim hangs", func(w *world, p, q *process) { p.store.Before(testkit.Claim, testkit.Once(testkit.Hang)) }},
		{"read hangs", func(w *world, p, q *process) { p.store.Before(testkit.Get, testkit.Once(testkit.Hang)) }},
		{"save hangs", func(w *world, p, q *process) { p.store.Before(testkit.Save, testkit.Once(testkit.Hang)) }},
		{"another process holds it", func(w *world, p, q *process) {
			q.store.Before(testkit.Save, testkit.Once(testkit.Hang))
			q.ask(bob)
		}},
	} {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice, bob, carol)
			p, q := w.start("P"), w.start("Q")
			test.stick(w, p, q)
			synctest.Wait()
			stuck := p.ask(bob)
			w.reaches(time.Second)
			for _, key := range []credentials.Key{alice, carol} {
				a := p.ask(key)
				a.is("access-" + key.Account + "-1")
				if a.took > w.provider.latency+aBatch {
					w.Errorf("%s: took %v, want the exchange's %v", key, a.took, w.provider.latency)
				}
			}
			stuck.waits()
			<-stuck.done
		})
	}
}

// A caller that gave up finds both the context's error and its cause in the error.
func TestCallerThatGaveUp(t *testing.T) {
	cause := errors.New("the user left")
	for name, begin := range map[string]func(ctx context.Context) (context.Context, func()){
		"cancelled": func(ctx context.Context) (context.Context, func()) { return context.WithCancel(ctx) },
		"with a cause": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(cause) }
		},
	} {
		for _, early := range []bool{true, false} {
			inWorldOf(t, name, func(w *world) {
				w.seed(alice)
				ctx, cancel := begin(w.Context())
				if early {
					cancel()
				} else {
					time.AfterFunc(w.provider.latency/2, cancel)
				}
				err := w.start("P").askWith(ctx, alice).fails(context.Canceled)
				if name == "with a cause" && !errors.Is(err, cause) {
					w.Errorf("%v: does not wrap the cause", err)
				}
			})
		}
	}
}
