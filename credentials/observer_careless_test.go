package credentials_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// An observer that does not return delays an exchange by a tenth of a second, once, and nobody who
// needs none. Its events wait.
func TestObserverThatBlocks(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		of, observes := w.observed()
		p := w.start("P", observes)
		gate := make(chan struct{})
		of.hook = func() { <-gate }
		const patience = 100 * time.Millisecond
		first := p.begins(alice)
		p.ask(bob).within(w.provider.latency + patience)
		first.within(w.provider.latency + patience)
		p.ask(alice).within(0)
		if stats := p.Stats(); stats.Renewed != 2 || stats.Exchanging != 0 || stats.EventsLost != 0 {
			w.Errorf("got %+v", stats)
		}
		closed := p.close(w.Context())
		select {
		case err := <-closed:
			w.Errorf("Close has returned %v at once", err)
		default:
		}
		if err := <-closed; err != nil {
			w.Error(err)
		}
		w.within(w.provider.latency + patience + time.Second)
		close(gate)
		if lines := of.told(); len(lines) != 6 || lines[0] != "began alice by P, expired" {
			w.Errorf("got\n%s", strings.Join(lines, "\n"))
		}
	})
}

// Close waits for the last events.
func TestCloseTellsTheLastEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		of, observes := w.observed()
		p := w.start("P", observes)
		of.hook = func() { time.Sleep(50 * time.Millisecond) }
		p.ask(alice).is("access-alice-1")
		p.mustClose()
		of.mu.Lock()
		defer of.mu.Unlock()
		if len(of.lines) != 3 {
			w.Errorf("when Close has returned, the observer was told\n%s", strings.Join(of.lines, "\n"))
		}
	})
}

// An observer that panics, or ends its goroutine, harms no exchange and misses no other event.
func TestObserverThatFails(t *testing.T) {
	for name, hook := range map[string]func(){
		"panics":             func() { panic(mark) },
		"ends its goroutine": runtime.Goexit,
	} {
		inWorldOf(t, name, func(w *world) {
			w.seed(alice, bob)
			of, observes := w.observed()
			p := w.start("P", observes)
			of.hook = hook
			p.ask(alice).is("access-alice-1")
			of.are(append(pair("alice by P, expired", "saved 200ms"), "1 waited for alice by P for 200ms: error false")...)
			w.within(w.provider.latency)
			p.mustClose()
			logged := strings.Contains(w.logs.String(), "the observer panicked")
			if want := name == "panics"; logged != want {
				w.Errorf("a panic is logged: %t, want %t", logged, want)
			}
		})
	}
}

// An observer may call the manager: nothing is told under a lock.
func TestObserverThatCallsTheManager(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		of, observes := w.observed()
		p := w.start("P", observes)
		answers := 0
		of.hook = func() {
			p.Stats()
			p.keeper.Stats()
			if _, err := p.Token(w.Context(), bob); err == nil || errors.Is(err, credentials.ErrUnavailable) {
				answers++
			}
		}
		p.ask(alice).is("access-alice-1")
		w.within(w.provider.latency + 100*time.Millisecond)
		p.ask(bob).is("access-bob-1")
		time.Sleep(2 * time.Hour)
		p.store.Down(true)
		p.ask(alice).fails(credentials.ErrUnavailable)
		p.store.Down(false)
		time.Sleep(time.Second)
		p.ask(alice).is("access-alice-2")
		if lines := of.told(); !slices.Contains(lines, "store up after 1s") || answers != len(lines) {
			w.Errorf("%d calls of the manager were answered in\n%s", answers, strings.Join(lines, "\n"))
		}
	})
}
