package credentials

import (
	"math/rand/v2"
	"time"
)

// Back-off after a failure whose provider named no time: exponential, with full jitter.
const (
	firstBackOff = time.Second
	maxBackOff   = 5 * time.Minute

	// maxRetryAfter bounds the time that a provider may ask for.
	maxRetryAfter = 24 * time.Hour
)

// retryIn is how long no process may call the provider after a failure that follows on count
// others.
func retryIn(retryAt time.Time, count int) time.Duration {
	pause := backOff(firstBackOff, maxBackOff, count)
	if retryAt.IsZero() {
		return pause
	}
	// Processes that were told the same time come apart. A provider that says "in a second" for
	// ever is not asked each second: its Retry-After makes the pause longer only.
	asked := min(time.Until(retryAt), maxRetryAfter)
	return max(pause, asked+rand.N(max(asked, 0)/10+firstBackOff/10))
}

// backOff is the pause after failure number count, counted from zero: between first and, with full
// jitter, first doubled each time, at most.
func backOff(first, most time.Duration, count int) time.Duration {
	return first + rand.N(doubled(first, most, count))
}

// doubled returns first doubled count times, at most.
func doubled(first, most time.Duration, count int) time.Duration {
	if count < 20 {
		return min(first<<count, most)
	}
	return most
}

// Pauses between two tries of a call of the store. The longest is part of the grace that holders
// are given to save when a store is back (see Options.grace), so it is short.
const (
	firstStorePause = 50 * time.Millisecond
	maxStorePause   = margin / 2
)

// storePause is the pause after try number attempt, counted from zero, jittered by a half.
func storePause(attempt int, most time.Duration) time.Duration {
	pause := most
	if attempt < 10 {
		pause = min(firstStorePause<<attempt, most)
	}
	return pause/2 + rand.N(pause/2+1)
}
