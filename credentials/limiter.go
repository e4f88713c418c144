package credentials

import (
	"math"
	"time"
)

// limiter bounds the exchanges of one service: how many there are at a time, by a semaphore, and
// how many begin per second, by a token bucket. The bucket holds a tenth of a second's worth, one
// at least, so that all that one batch claims is presented at once: no claim waits for a token of
// the bucket. The zero value has taken nothing. All times are those of the manager.
type limiter struct {
	parallel int     // Service.KeepParallel
	rate     float64 // Service.KeepRate; zero: no limit

	inUse   int     // permits taken, by exchanges under way or about to be claimed
	missing float64 // tokens that the bucket lacked at counted
	counted moment  // when missing was counted
}

// burst is how many tokens the bucket holds.
func (l *limiter) burst() float64 { return max(1, l.rate/10) }

// lacks returns how many tokens the bucket lacks now.
func (l *limiter) lacks(now moment) float64 {
	return max(l.missing-l.rate*now.sub(l.counted).Seconds(), 0)
}

// available returns for how many exchanges there is room; if for too few, how long to wait unless
// one ends before. Half of the permits, or a full bucket, are worth a claim: one by one, exchanges
// would cost a transaction each.
func (l *limiter) available(now moment) (n int, wait time.Duration) {
	n = l.parallel - l.inUse
	worth := (l.parallel + 1) / 2
	if n < worth {
		return 0, Never
	}
	if l.rate == 0 {
		return n, 0
	}
	const dust = 1e-6 // the rest that sums of fractions leave of a token
	tokens := l.burst() - l.lacks(now) + dust
	if short := min(float64(worth), math.Floor(l.burst())) - tokens; short > 0 {
		seconds := min(short/l.rate, MaxLease.Seconds())
		return 0, time.Duration(seconds*float64(time.Second)) + 1
	}
	return min(n, int(tokens)), 0
}

// acquire takes n permits and tokens, of those that are available.
func (l *limiter) acquire(n int, now moment) {
	l.inUse += n
	l.missing, l.counted = l.lacks(now)+float64(n), now
}

// claimed gives back the permits and tokens for which a claim found nothing. The bucket fills only
// from here on, since the exchanges begin only now: a claim that took long has saved up no tokens.
func (l *limiter) claimed(unused int, now moment) {
	l.inUse -= unused
	l.missing, l.counted = max(l.missing-float64(unused), 0), now
}

// release gives back a permit.
func (l *limiter) release() { l.inUse-- }
