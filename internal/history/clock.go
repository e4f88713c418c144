package history

import "time"

// At returns t, which has a monotonic reading, by the clock of [Now].
func At(t time.Time) int64 {
	// The process may be interrupted between the readings of the two clocks. The closest of several
	// pairs of readings is the best.
	var now, closest int64 = 0, Forever
	var paired time.Time
	for range 10 {
		before, at, after := Now(), time.Now(), Now()
		if after-before < closest {
			now, paired, closest = before+(after-before)/2, at, after-before
		}
	}
	return now - int64(paired.Sub(t))
}
