package credentials

import "time"

// A circuit keeps the keeper from calling a provider that is down: of a backlog of credentials that are due, each would
// be presented in vain, and all of them at once when it is back.
const (
	// circuitOpens is after how many failures in a row, with no answer in between, a provider is taken for down.
	circuitOpens = 5

	// One exchange at a time is tried after pauses between these, doubling.
	firstProbe = time.Second
	mostProbe  = 30 * time.Second

	// The same where each one costs a grant, since its outcome is unknown and the service never replays.
	firstCostlyProbe = time.Minute
	mostCostlyProbe  = time.Hour

	// The backlog is taken up in the order in which it became due, at catchUpPace times the pace at which it did, and
	// faster only where that would take longer than mostCatchUp. What becomes due meanwhile does not queue behind it, and
	// where it has fallen behind is taken up at newPace.
	catchUpPace = 0.5
	newPace     = 1.1
	mostCatchUp = 30 * time.Minute

	// mostStep bounds what is taken up at once after a stall, of this process or of the store.
	mostStep = time.Second
)

// circuit is closed, open, or closed again and catching up. Its zero value is closed. Times are those of Manager.now.
type circuit struct {
	failures int           // in a row
	open     bool          // the provider is taken for down
	opened   time.Duration // since when, or last time
	probes   int           // that failed since then
	probeAt  time.Duration // when the next one may start

	returned bool          // it has just closed, and what is the backlog is not known yet
	behind   bool          // it has not caught up
	until    time.Duration // what became due since then is no backlog
	old, new time.Duration // of the backlog and of the rest, what became due before that is taken up
	pace     float64       // at which old moves on
	looked   time.Duration // when old and new last did
}

// answered notes that the provider answered: with a token, or with the word that a grant is dead.
func (c *circuit) answered() {
	c.failures = 0
	if c.open {
		*c = circuit{returned: true, opened: c.opened}
	}
}

// failed notes that an exchange failed which was begun at that time, and reports whether the circuit has opened by that.
// The provider may have said how long to wait; a costly failure was of unknown outcome where nothing is replayed.
func (c *circuit) failed(began, now, wait time.Duration, costly bool) (opens bool) {
	c.failures++
	switch {
	case c.open && began < c.opened:
		return false // it was under way, and no probe
	case c.open:
		c.probes++
	case c.failures >= circuitOpens:
		*c = circuit{failures: c.failures, open: true, opened: now}
		opens = true
	default:
		return false
	}
	pause := backOff(firstProbe, mostProbe, c.probes)
	if costly {
		pause = backOff(firstCostlyProbe, mostCostlyProbe, c.probes)
	}
	c.probeAt = later(now, max(pause, min(wait, mostBackOff)))
	return opens
}

// window is what may be claimed: credentials that have been due for overdue at least, and for longest, which is not zero,
// at most.
type window struct{ overdue, longest time.Duration }

// longestMargin is added to the time for which the first credential has been due: a write that was under way when that
// was asked may have made one due a moment before it.
const longestMargin = 10 * time.Second

// windows returns what may be claimed now, given when the first credential became due: all that is due, or, while there
// is a backlog, a part of that and of what has become due since the provider is back.
func (c *circuit) windows(first, now time.Duration) []window {
	if c.returned {
		c.returned, c.behind = false, true
		c.old, c.new, c.until, c.looked = max(min(first, now), c.opened), now, now, now
		c.pace = max(catchUpPace, float64(c.until-c.old)/float64(mostCatchUp))
	}
	longest := later(max(now-first, 0), longestMargin)
	if !c.behind {
		return []window{{0, longest}}
	}
	step := float64(min(now-c.looked, mostStep))
	c.old = min(c.old+time.Duration(c.pace*step), c.until)
	c.new = min(c.new+time.Duration(newPace*step), now)
	c.looked = now
	if c.old == c.until {
		c.behind = c.new < now
		return []window{{now - c.new, longest}}
	}
	return []window{{now - c.old, longest}, {now - c.new, max(now-c.until, 1)}}
}
