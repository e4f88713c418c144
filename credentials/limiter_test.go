package credentials

import (
	"testing"
	"time"
)

// Exchanges begin at no more than the rate, and a burst at once, over every stretch of time,
// however long a claim takes.
func TestLimiterKeepsItsRateOverSlowClaims(t *testing.T) {
	for _, rate := range []float64{0.02, 0.5, 3, 40, 1000} {
		for _, claim := range []time.Duration{0, time.Millisecond, 5 * time.Second} {
			l := limiter{parallel: 64, rate: rate}
			var begins []moment
			now := moment(0)
			for range 500 {
				n, wait := l.available(now)
				for ; n == 0; n, wait = l.available(now) {
					now = now.add(wait)
				}
				l.acquire(n, now)
				now = now.add(claim)
				l.claimed(n/3, now) // found less than there was room for
				for range n - n/3 {
					begins = append(begins, now)
					l.release()
				}
			}
			for i, from := range begins {
				for j := i; j < min(i+300, len(begins)); j++ {
					if n, most := float64(j-i+1), l.burst()+rate*begins[j].sub(from).Seconds()+0.01; n > most {
						t.Fatalf("rate %v, claims of %v: %v exchanges begin within %v, want at most %.2f", rate, claim, n, begins[j].sub(from), most)
					}
				}
			}
			if l.inUse != 0 {
				t.Errorf("rate %v, claims of %v: %d permits are left in use", rate, claim, l.inUse)
			}
		}
	}
}

// With claims that take no time, the rate is reached.
func TestLimiterReachesItsRate(t *testing.T) {
	for _, rate := range []float64{0.02, 0.5, 3, 40, 1000} {
		l := limiter{parallel: 64, rate: rate}
		begun, now := 0, moment(0)
		for begun < 1000 {
			n, wait := l.available(now)
			if n == 0 {
				now = now.add(wait)
				continue
			}
			l.acquire(n, now)
			for range n {
				l.release()
			}
			begun += n
		}
		if got := float64(begun) / now.sub(0).Seconds(); got < 0.99*rate {
			t.Errorf("%.3f exchanges per second, want %v", got, rate)
		}
	}
}

// One claim is worth half of the permits, so that exchanges do not cost a transaction each.
func TestLimiterWaitsForHalfOfItsSlots(t *testing.T) {
	for _, test := range []struct{ parallel, inUse, want int }{
		{16, 0, 16}, {16, 8, 8}, {16, 9, 0}, {1, 0, 1}, {1, 1, 0}, {3, 1, 2}, {3, 2, 0}, {2, 1, 1}, {16, 17, 0},
	} {
		l := limiter{parallel: test.parallel, inUse: test.inUse}
		if n, wait := l.available(0); n != test.want || n == 0 && wait != Never {
			t.Errorf("%d of %d permits in use: %d available, wait %v; want %d", test.inUse, test.parallel, n, wait, test.want)
		}
	}
}
