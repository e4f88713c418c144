package credentials_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// A provider says when to come back: nobody comes earlier, and not all at that moment.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name         string
		after        time.Duration
		least, below time.Duration
	}{
		{"a minute", time.Minute, time.Minute, 66*time.Second + 100*time.Millisecond},
		{"in the past", -time.Hour, time.Second, 2 * time.Second},
		{"next year", 366 * 24 * time.Hour, 24 * time.Hour, 27 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := make(map[time.Duration]bool)
			for range 20 {
				inWorld(t, func(w *world) {
					w.seed(alice)
					w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
						return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, RetryAt: time.Now().Add(test.after)}
					}
					in := time.Until(w.start("P").ask(alice).failed(credentials.ClassTransient).RetryAt)
					if in < test.least || in >= test.below {
						w.Errorf("RetryAt is in %v, want %v to %v", in, test.least, test.below)
					}
					if row := w.row(alice); row.Failure.RetryIn != in || row.DueIn != in {
						w.Errorf("the row's back-off ends in %v, it is due in %v; want %v", row.Failure.RetryIn, row.DueIn, in)
					}
					seen[in] = true
				})
			}
			if len(seen) < 10 {
				t.Errorf("there is no jitter: %v", seen)
			}
		})
	}
}

// Failures in a row: the pause grows up to its bound, over whichever processes make them, and one
// success resets it.
func TestBackOffGrows(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		failing := true
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			if failing {
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient}
			}
			return credentials.Grant{}, errOrdinary
		}
		processes := w.starts(3)
		var longest time.Duration
		for i := range 40 {
			in := time.Until(processes[i%3].ask(alice).failed(credentials.ClassTransient).RetryAt)
			if most := time.Second + min(time.Second<<min(i, 20), 5*time.Minute); in < time.Second || in > most {
				w.Errorf("failure %d: the back-off is %v, want 1 s to %v", i, in, most)
			}
			if count := w.row(alice).Failure.Count; count != i+1 {
				w.Errorf("failure %d is counted as %d", i, count)
			}
			longest = max(longest, in)
			time.Sleep(in)
		}
		if longest < time.Minute {
			w.Errorf("the longest back-off was %v", longest)
		}
		failing = false
		processes[0].ask(alice).is("access-alice-1")
		failing = true
		time.Sleep(time.Hour)
		if in := time.Until(processes[1].ask(alice).failed(credentials.ClassTransient).RetryAt); in > 2*time.Second {
			w.Errorf("after a success the back-off is %v", in)
		}
	})
}
