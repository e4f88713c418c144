package credentials

import (
	"math"
	"time"
)

// moment is a point in time on this process's monotonic clock, in nanoseconds since its manager's
// epoch. Every deadline of a manager is a moment: two of them have a distance and no sum.
type moment int64

// never is the moment that does not come.
const never = moment(math.MaxInt64)

// add returns the moment d later, never if d is Never or reaches beyond it.
func (m moment) add(d time.Duration) moment {
	if d > 0 && m > never-moment(d) {
		return never
	}
	return m + moment(d)
}

// sub returns the time from earlier to m.
func (m moment) sub(earlier moment) time.Duration { return time.Duration(m - earlier) }

// clock is this host's monotonic clock.
type clock struct{ epoch time.Time }

func (c clock) now() moment { return moment(time.Since(c.epoch)) }

// until returns how long it is from now to m.
func (c clock) until(m moment) time.Duration { return m.sub(c.now()) }

// since returns how long ago m was.
func (c clock) since(m moment) time.Duration { return c.now().sub(m) }

// wall returns m by this host's wall clock; the zero time for never.
func (c clock) wall(m moment) time.Time {
	if m == never {
		return time.Time{}
	}
	return time.Now().Add(c.until(m))
}

// clockTolerance is how far the wall clock's advance may differ from the monotonic one's before a
// reading is distrusted. Slewing clocks differ by 0.05 %; a host that slept, whose monotonic clock
// stood still, by much more.
const clockTolerance = 2 * time.Second

// slept reports whether the host seems to have slept since that time, which carries both clocks:
// then every duration counted on the monotonic clock since is too short.
func slept(since time.Time) bool {
	now := time.Now()
	drift := now.Round(0).Sub(since.Round(0)) - now.Sub(since)
	return drift.Abs() > clockTolerance
}

// reading is a credential as the store answered with it, and when, by both clocks.
type reading struct {
	Credential
	asked    time.Time // before the call, by the wall clock and the monotonic one
	at       moment    // the same by the monotonic clock: a token's life counts from it, to end early
	answered moment    // when the answer was there: another's lease counts from it, to end late
}

// read makes a call of the store that returns a credential.
func (c clock) read(call func() (Credential, error)) (reading, error) {
	asked := time.Now()
	credential, err := call()
	at := moment(asked.Sub(c.epoch))
	return reading{Credential: credential, asked: asked, at: at, answered: c.now()}, err
}
