package wire_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// In a record, the empty class is a success.
func TestEveryErrorHasAClass(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"dead grant":            {credentials.ErrGrantDead, "dead"},
		"exchange":              {&credentials.RefreshError{Class: credentials.ClassUnknown}, "unknown"},
		"exchange of no class":  {new(credentials.RefreshError), "untyped"},
		"store":                 {credentials.ErrUnavailable, "unavailable"},
		"the caller's own end":  {context.Canceled, "deadline"},
		"nothing that is known": {errors.New("out of luck"), "untyped"},
	} {
		if got := wire.ErrorClass(over, test.err); got != test.want {
			t.Errorf("%s: class %q, want %q", name, got, test.want)
		}
	}
}

// The record of a storm's calls must not grow with the calls, of which a storm makes millions.
func TestCallsAreBounded(t *testing.T) {
	const threads = 8
	var calls wire.AccountCalls
	for i := range 10_000 {
		start := int64(i / threads * 10)
		calls.Add(wire.EndedCall{Token: "t", Start: start + 1, End: start + 10})
	}
	if got := len(calls.Tokens["t"].Early); got != threads {
		t.Errorf("the starts of %d calls of %d threads are kept, want %d", got, threads, threads)
	}
}

// bucket returns the bucket of d, and the longest duration in the bucket.
func bucket(d time.Duration) (int, time.Duration) {
	var h wire.Histogram
	h.Add(d)
	n := slices.Collect(maps.Keys(h.Counts))[0]
	h.Max = math.MaxInt64
	return n, h.Quantile(1)
}

func TestHistogram(t *testing.T) {
	for d := time.Duration(0); d < math.MaxInt64/2; d += d/37 + 1 {
		n, end := bucket(d)
		next, _ := bucket(end + 1)
		if end < d || end-d > d/16 || next != n+1 {
			t.Fatalf("%d ns is in bucket %d, which ends at %d and has bucket %d behind it", d, n, end, next)
		}
	}
	var halves [2]wire.Histogram
	for i := range 1000 {
		halves[i/500].Add(time.Duration(i+1) * time.Microsecond)
	}
	halves[0].Merge(halves[1])
	for q, want := range map[float64]time.Duration{0.5: 500, 0.99: 990, 1: 1000} {
		want *= time.Microsecond
		if got := halves[0].Quantile(q); got < want || got > want*17/16 || q == 1 && got != want {
			t.Errorf("Quantile(%v) of 1 to 1000 µs = %v", q, got)
		}
	}
	if got := (wire.Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("Quantile without durations = %v", got)
	}
}
