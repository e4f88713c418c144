package credentials

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newTestEvents(observer *Observer) *events {
	o := Options{Observer: observer, Logger: slog.New(slog.DiscardHandler)}
	return newEvents(&o, &boundedLog{logger: o.Logger})
}

// While an observer does not return, a bounded number of events waits, which are told in their
// order when it does, and the rest is counted.
func TestEventsAreLostBeyondABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var told []time.Duration
		e := newTestEvents(&Observer{StoreUp: func(after time.Duration) {
			<-gate
			told = append(told, after)
		}})
		e.storeUp(0)
		synctest.Wait() // the first one is being told, and waits no more
		const lost = 7
		for i := range maxUntold + lost {
			e.storeUp(time.Duration(i + 1))
		}
		if got := e.figures().EventsLost; got != lost {
			t.Errorf("%d events are lost, want %d", got, lost)
		}
		close(gate)
		synctest.Wait()
		if len(told) != maxUntold+1 {
			t.Errorf("%d events were told, want %d", len(told), maxUntold+1)
		}
		for i, after := range told {
			if after != time.Duration(i) {
				t.Fatalf("event %d is the %dth that was told", after, i)
			}
		}
	})
}

// Events of any number of goroutines are told one at a time, each once.
func TestEventsAreToldOneAtATime(t *testing.T) {
	const goroutines, each = 8, 1000
	under, told := 0, 0 // unguarded: the race detector would see two at a time
	e := newTestEvents(&Observer{StoreDown: func(error) {
		if under++; under != 1 {
			t.Error("two events are told at the same time")
		}
		under--
		told++
	}})
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				e.storeDown(errors.New("down"))
			}
		})
	}
	all.Wait()
	e.mu.Lock()
	idle := e.idle
	e.mu.Unlock()
	if idle != nil {
		<-idle
	}
	if told != goroutines*each {
		t.Errorf("%d events were told, want %d", told, goroutines*each)
	}
}

// Without an observer nothing waits to be told.
func TestEventsWithoutObserver(t *testing.T) {
	e := newTestEvents(nil)
	ctx, ended := e.exchange(t.Context(), ExchangeInfo{})
	ended(ExchangeInfo{Outcome: OutcomeSaved})
	e.savedLate(ctx, ExchangeInfo{})
	e.callWaited(ctx, CallInfo{})
	e.storeDown(errors.New("down"))
	e.storeUp(time.Second)
	if e.queue != nil || e.idle != nil || ctx != t.Context() {
		t.Errorf("%d events wait", len(e.queue))
	}
	if got, want := e.figures(), (Stats{Renewed: 1, SavedLate: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
