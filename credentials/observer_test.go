package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// events are what one process's observer was told, a line for each.
type events struct {
	w    *world
	hook func() // if set, called in each function of the observer

	mu    sync.Mutex
	lines []string
}

// observed has a process tell its events.
func (w *world) observed() (*events, func(*setup)) {
	e := &events{w: w}
	return e, func(s *setup) { s.options.Observer = e.observer() }
}

func (e *events) observer() *credentials.Observer {
	return &credentials.Observer{
		ExchangeBegan: func(ctx context.Context, x credentials.ExchangeInfo) context.Context {
			if x.Outcome != "" || x.Class != "" || x.Err != nil || x.Took != 0 || !x.Ended.IsZero() {
				e.w.Errorf("at its beginning the exchange has an end: %+v", x)
			}
			e.add("began %s", exchange(x))
			return ctx
		},
		ExchangeEnded: func(_ context.Context, x credentials.ExchangeInfo) {
			e.add("ended %s: %s", exchange(x), end(x))
			if x.Ended.Before(x.Began.Add(x.Took)) || x.Ended.After(time.Now()) {
				e.w.Errorf("it began at %v, took %v and ended at %v", x.Began, x.Took, x.Ended)
			}
			if x.Err != nil {
				e.w.silent(x.Err)
			}
		},
		SavedLate: func(_ context.Context, x credentials.ExchangeInfo) { e.add("late %s: %s", exchange(x), end(x)) },
		CallWaited: func(_ context.Context, c credentials.CallInfo) {
			e.add("%d waited for %s by %s for %v: error %t",
				c.Callers, c.Key.Account, c.Holder, c.Took.Round(time.Second/10), c.Err != nil)
		},
		StoreDown: func(err error) { e.add("store down: %t", errors.Is(err, credentials.ErrUnavailable)) },
		StoreUp:   func(after time.Duration) { e.add("store up after %v", after.Round(time.Second)) },
	}
}

func exchange(x credentials.ExchangeInfo) string {
	if x.Fence.Claim == "" || x.Fence.Row == 0 || x.Fence.Version == 0 {
		return fmt.Sprintf("without fence: %+v", x)
	}
	text := fmt.Sprintf("%s by %s, %s", x.Key.Account, x.Holder, x.Trigger)
	if x.TookOver != (credentials.Interruption{}) {
		text += fmt.Sprintf(", took over from %s after %v", x.TookOver.By, x.TookOver.Ago.Round(time.Second))
	}
	return text
}

func end(x credentials.ExchangeInfo) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", x.Outcome, x.Class)) + fmt.Sprintf(" %v", x.Took.Round(time.Second/10))
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
	e.mu.Unlock()
	if e.hook != nil {
		e.hook()
	}
}

// told returns the lines since it was called last.
func (e *events) told() []string {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	lines := e.lines
	e.lines = nil
	return lines
}

// are fails the test unless those are the events since they were looked at last.
func (e *events) are(want ...string) {
	e.w.Helper()
	if got := e.told(); !slices.Equal(got, want) {
		e.w.Errorf("the observer was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// pair is the two events of an exchange.
func pair(exchange, end string) []string {
	return []string{"began " + exchange, "ended " + exchange + ": " + end}
}

// Each exchange is told of once, in the process that makes it, with the reason why; the waits in
// each process that has callers who waited.
func TestObserverIsToldOfExchanges(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = 100 * time.Minute
		ofP, observesP := w.observed()
		ofQ, observesQ := w.observed()
		p, q := w.start("P", observesP, anyAge), w.start("Q", observesQ, anyAge)

		callers := []*answer{p.begins(alice), p.ask(alice), q.ask(alice)}
		all(callers).are("access-alice-1")
		ofP.are(append(pair("alice by P, expired", "saved 200ms"), "2 waited for alice by P for 200ms: error false")...)
		ofQ.are("1 waited for alice by P for 200ms: error false")

		w.reaches(99 * time.Minute) // it is due
		p.ask(alice).is("access-alice-1")
		time.Sleep(time.Minute / 2)
		ofP.are(pair("alice by P, due", "saved 200ms")...)

		q.report(alice, q.mustGet(alice)).is("access-alice-3")
		ofQ.are(append(pair("alice by Q, invalidated", "saved 200ms"), "1 waited for alice by Q for 200ms: error false")...)

		time.Sleep(20 * time.Minute)
		if _, err := q.TokenFor(w.Context(), alice, 90*time.Minute); err != nil {
			w.Error(err)
		}
		ofQ.are(append(pair("alice by Q, early", "saved 200ms"), "1 waited for alice by Q for 200ms: error false")...)

		stop := q.keeps()
		time.Sleep(100 * time.Minute)
		stop()
		ofQ.are(pair("alice by Q, keeper", "saved 200ms")...)
		ofP.are()
	})
}

// A process that finds what it needs in the store tells of nothing.
func TestObserverIsToldOfNoReads(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("access"), Lifetime: time.Hour})
		of, observes := w.observed()
		p := w.start("P", observes)
		p.ask(alice).is("access")
		p.ask(bob).fails(credentials.ErrNotFound)
		w.reaches(10 * time.Minute)
		p.ask(alice).is("access")
		of.are()
	})
}

// Of all processes, the one that recorded it is told that a grant died, also where the reply to
// that was lost, and nobody where it was not recorded.
func TestObserverIsToldOnceThatAGrantDied(t *testing.T) {
	for name, after := range map[string]testkit.Hook{
		"recorded": nil, "reply lost": testkit.Once(testkit.Refuse),
	} {
		inWorldOf(t, name, func(w *world) {
			w.seed(alice)
			w.provider.authorized(alice, "another")
			ofP, observesP := w.observed()
			ofQ, observesQ := w.observed()
			p, q := w.start("P", observesP), w.start("Q", observesQ)
			p.store.After(testkit.Fail, after)
			p.begins(alice)
			q.ask(alice).failed(credentials.ClassDead)
			time.Sleep(time.Minute)
			each{p, q}.fail(alice)
			ended := slices.DeleteFunc(append(ofP.told(), ofQ.told()...), func(line string) bool {
				return !strings.HasPrefix(line, "ended")
			})
			if want := []string{"ended alice by P, expired: failed dead 200ms"}; !slices.Equal(ended, want) {
				w.Errorf("the observers were told %q, want %q", ended, want)
			}
			if stats := p.Stats(); stats.Dead != 1 || stats.Failed != 0 || q.Stats().Dead != 0 {
				w.Errorf("P has %+v, Q %+v", stats, q.Stats())
			}
		})
	}
	inWorldOf(t, "not recorded", func(w *world) {
		w.seed(alice)
		w.provider.authorized(alice, "another")
		of, observes := w.observed()
		p := w.start("P", observes)
		p.store.Before(testkit.Fail, testkit.Refuse)
		p.begins(alice)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := p.Close(ctx); err == nil {
			w.Error("Close: no error")
		}
		of.are(append(pair("alice by P, expired", "unsaved dead 200ms"), "1 waited for alice by P for 2s: error true")...)
		if stats := p.Stats(); stats.Dead != 0 || stats.Failed != 1 {
			w.Errorf("got %+v", stats)
		}
	})
}

// fail fails the test unless each process says that the grant is dead.
func (processes each) fail(key credentials.Key) {
	for _, p := range processes {
		p.ask(key).failed(credentials.ClassDead)
	}
}

// A takeover names the holder that died, and since when its claim was; the callers waited for that
// one first.
func TestObserverIsToldOfATakeover(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.abandons(alice)
		of, observes := w.observed()
		p := w.start("P", observes)
		p.ask(alice).is("access-alice-1")
		lines := of.told()
		want := append(pair("alice by P, expired, took over from died after 30s", "saved 200ms"),
			"1 waited for alice by died for 36.2s: error false")
		if !slices.Equal(lines, want) {
			w.Errorf("got\n%s", strings.Join(lines, "\n"))
		}
		if stats := p.Stats(); stats.TookOver != 1 || stats.Renewed != 1 {
			w.Errorf("got %+v", stats)
		}
	})
}

// A holder that was paused past its lease, and whose success is kept, tells so, and the one whose
// failure would have covered it that it was superseded.
func TestObserverIsToldOfALateSuccess(t *testing.T) {
	inWorldOf(t, "paused", func(w *world) {
		w.seed(alice)
		w.provider.Lenient = true
		w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
			if n == 2 {
				time.Sleep(5 * time.Second)
			}
			return credentials.Grant{}, errOrdinary
		}
		ofPaused, observesPaused := w.observed()
		ofNext, observesNext := w.observed()
		paused, next := w.start("paused", observesPaused), w.start("next", observesNext)
		pause := testkit.NewGate()
		paused.store.Before(testkit.Save, pause.Wait)
		first := paused.ask(alice)
		<-pause.Reached
		second := next.ask(alice)
		w.reaches(credentials.DefaultLease + 7*time.Second)
		pause.Open()
		first.is("access-alice-1")
		second.is("access-alice-1")
		lines := ofPaused.told()
		want := []string{
			"began alice by paused, expired",
			"late alice by paused, expired: saved 200ms",
			"ended alice by paused, expired: saved 200ms",
		}
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "waited") })
		if !slices.Equal(lines, want) {
			w.Errorf("got\n%s", strings.Join(lines, "\n"))
		}
		if lines := ofNext.told(); len(lines) < 2 || !strings.Contains(lines[1], ": superseded 5.2s") {
			w.Errorf("the next one was told\n%s", strings.Join(lines, "\n"))
		}
		if stats := paused.Stats(); stats.SavedLate != 1 || stats.Renewed != 1 {
			w.Errorf("got %+v", stats)
		}
	})
	inWorldOf(t, "given up", func(w *world) {
		w.seed(alice)
		w.provider.script = first(func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
			time.Sleep(18 * time.Second)
			return w.provider.exchange(in)
		})
		of, observes := w.observed()
		p := w.start("P", observes)
		p.ask(alice).failed(credentials.ClassUnknown)
		of.are(append(pair("alice by P, expired", "failed unknown 15.5s"), "1 waited for alice by P for 15.5s: error true")...)
		w.reaches(20 * time.Second)
		of.are("late alice by P, expired: saved 18s")
		if stats := p.Stats(); stats.SavedLate != 1 || stats.Failed != 1 || stats.Renewed != 0 {
			w.Errorf("got %+v", stats)
		}
	})
}

// Nothing was presented, since too little of the lease was left.
func TestObserverIsToldOfARelease(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		of, observes := w.observed()
		p := w.start("P", observes, func(s *setup) { s.options.StoreTimeout, s.options.Lease = 20*time.Second, 40*time.Second })
		p.store.After(testkit.Claim, testkit.Once(testkit.Delay(15*time.Second)))
		p.ask(alice).is("access-alice-1")
		of.are(slices.Concat(pair("alice by P, expired", "released 0s"), pair("alice by P, expired", "saved 200ms"),
			[]string{"1 waited for alice by P for 15.2s: error false"})...)
	})
}

// An outage of the store is told of when the breaker opens and when it closes.
func TestObserverIsToldOfTheStore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		of, observes := w.observed()
		p := w.start("P", observes)
		p.store.Down(true)
		for range 3 {
			p.ask(alice).fails(credentials.ErrUnavailable)
		}
		of.are("store down: true")
		if stats := p.Stats(); !stats.StoreDown || stats.StoreFailures == 0 || stats.Waits != 3 {
			w.Errorf("got %+v", stats)
		}
		w.reaches(10 * time.Second)
		p.store.Down(false)
		p.ask(alice).is("access-alice-1")
		lines := of.told()
		if len(lines) == 0 || lines[0] != "store up after 10s" {
			w.Errorf("got %q", lines)
		}
		if p.Stats().StoreDown {
			w.Error("the store is still down")
		}
	})
}

// The values of the caller's context reach the observer, and the observer's context the refresher,
// without its end, which would end a takeover's reads too.
func TestObserverHandsAContextOn(t *testing.T) {
	type own struct{}
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		w.abandons(alice)
		got := make(map[string]any)
		p := w.start("P", func(s *setup) {
			s.options.Observer = &credentials.Observer{
				ExchangeBegan: func(ctx context.Context, _ credentials.ExchangeInfo) context.Context {
					got["began"] = ctx.Value(own{})
					ctx, cancel := context.WithCancel(context.WithValue(ctx, own{}, "the observer's"))
					cancel()
					return ctx
				},
				ExchangeEnded: func(ctx context.Context, _ credentials.ExchangeInfo) { got["ended"] = ctx.Value(own{}) },
				CallWaited:    func(ctx context.Context, _ credentials.CallInfo) { got["waited"] = ctx.Value(own{}) },
			}
			s.service.Refresher = credentials.RefresherFunc(func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
				got["presented"] = ctx.Value(own{})
				return w.provider.Refresh(ctx, in)
			})
		})
		ctx, cancel := context.WithCancel(context.WithValue(w.Context(), own{}, "the caller's"))
		a := p.askWith(ctx, alice)
		synctest.Wait()
		cancel() // which nobody but the caller heeds
		a.fails(context.Canceled)
		p.ask(alice).is("access-alice-1")
		synctest.Wait()
		for at, want := range map[string]any{
			"began": "the caller's", "presented": "the observer's", "ended": "the observer's", "waited": "the caller's",
		} {
			if got[at] != want {
				w.Errorf("%s with the context of %v, want %v", at, got[at], want)
			}
		}
	})
	inWorldOf(t, "nil", func(w *world) {
		w.seed(alice)
		p := w.start("P", func(s *setup) {
			s.options.Observer = &credentials.Observer{
				ExchangeBegan: func(context.Context, credentials.ExchangeInfo) context.Context { return nil },
				ExchangeEnded: func(ctx context.Context, _ credentials.ExchangeInfo) { _ = ctx.Value(own{}) },
			}
		})
		p.ask(alice).is("access-alice-1")
	})
}
