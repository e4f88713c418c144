package credentials

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("away")

// newTestHealth returns the health of a store at the default options.
func newTestHealth(t *testing.T) *health {
	t.Helper()
	var o Options
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	return newHealth(clock{epoch: time.Now()}, &o, newEvents(&o, nil))
}

func (h *health) call(t *testing.T, k kind, cause error) {
	t.Helper()
	probe, err := h.enter()
	switch {
	case err != nil:
		t.Errorf("the call is not made: %v", err)
	case cause != nil:
		h.failed(probe, k, h.now(), cause)
	default:
		h.succeeded(probe, k)
	}
}

func TestBreakerOpensForReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHealth(t)
		h.call(t, writes, errAway)
		h.call(t, reads, nil) // it has not opened
		began := h.now()
		time.Sleep(time.Second)
		h.call(t, reads, nil)
		h.failed(false, reads, began, errAway) // it began before the last answer
		h.call(t, reads, nil)
		time.Sleep(time.Second)
		h.call(t, reads, errAway)
		if _, err := h.enter(); !errors.Is(err, errNotAsked) || !errors.Is(err, ErrUnavailable) || !errors.Is(err, errAway) {
			t.Errorf("after a read that failed: got error %v", err)
		}
	})
}

func TestBreakerHasOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHealth(t)
		h.call(t, reads, errAway)
		for range 20 {
			time.Sleep(maxStorePause)
			probe, err := h.enter()
			if !probe || err != nil {
				t.Fatalf("after the pause: probe %t, error %v", probe, err)
			}
			if _, err := h.enter(); !errors.Is(err, errNotAsked) {
				t.Errorf("beside a probe: got error %v", err)
			}
			h.failed(probe, writes, h.now(), errAway) // a probe that writes counts, too
			if _, err := h.enter(); !errors.Is(err, errNotAsked) {
				t.Errorf("right after a probe that failed: got error %v", err)
			}
		}
		time.Sleep(maxStorePause)
		probe, _ := h.enter()
		h.left(probe) // its caller gave up: the next one may follow at once
		h.call(t, reads, nil)
		for range 3 { // closed
			h.call(t, reads, nil)
		}
	})
}

// A store may answer reads and no writes: a read that is answered wakes no write that waits for the
// store.
func TestHealthWakesWaiters(t *testing.T) {
	woken := func(waiter <-chan struct{}) bool {
		select {
		case <-waiter:
			return true
		default:
			return false
		}
	}
	for _, test := range []struct {
		failed, answered kind
		want             bool
	}{{reads, reads, true}, {reads, writes, true}, {writes, writes, true}, {writes, reads, false}} {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHealth(t)
			h.call(t, test.failed, errAway)
			waiter := h.returns()
			time.Sleep(maxStorePause)
			h.call(t, test.answered, nil)
			if got := woken(waiter); got != test.want {
				t.Errorf("failed: read %t; answered: read %t: woken is %t, want %t", test.failed, test.answered, got, test.want)
			}
			if woken(h.returns()) {
				t.Error("those who wait from now on are woken at once")
			}
		})
	}
}

func TestHealthIsSteadyAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHealth(t)
		steady := func(want bool) {
			t.Helper()
			if got := h.steady(); got != want {
				t.Errorf("at %v steady is %t, want %t", h.now(), got, want)
			}
		}
		time.Sleep(time.Minute)
		steady(false) // never asked
		h.call(t, reads, nil)
		time.Sleep(h.grace - 1)
		steady(false)
		time.Sleep(time.Nanosecond)
		steady(true)
		h.call(t, writes, errAway) // of any kind
		steady(false)
		time.Sleep(time.Minute)
		steady(false)
		h.call(t, reads, nil)
		time.Sleep(h.grace)
		steady(true)
		h.call(t, reads, nil)
		time.Sleep(h.maxGap + 1) // silence is no evidence
		h.call(t, reads, nil)
		steady(false)
		time.Sleep(h.grace)
		steady(true)
	})
}
