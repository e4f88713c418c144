package credentials

import "time"

// A circuit keeps the keeper from calling a provider that is down: of a backlog of credentials that are due, each would
// be presented in vain, and all of them at once when it is back.
const (
	// circuitOpens is after how many failures in a row, with no answer in between, a provider is taken for down.
	circuitOpens = 5

	// One exchange at a time is tried after pauses that are drawn at random: at least the first of these, and up to as
	// much more, doubling until that is the second.
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

	// mostStep bounds what of the backlog is taken up at once after a stall, of this process or of the store.
	mostStep = time.Second
)

// circuit is closed, open, or closed again and catching up. Its zero value is closed. Times are those of Manager.now.
type circuit struct {
	failures int           // in a row
	open     bool          // the provider is taken for down
	opened   time.Duration // since when
	probes   int           // that failed since then
	probeAt  time.Duration // when the next one may start

	since    time.Duration // where the backlog begins: what became due before was taken up
	returned bool          // it has just closed, and what is the backlog is not known yet
	behind   bool          // it has not caught up
	until    time.Duration // where the backlog ends
	old, new time.Duration // of the backlog and of the rest, what became due before that is taken up
	pace     float64       // at which old moves on
	looked   time.Duration // when old and new last did
}

// answered notes that the provider answered: with a token, or with the word that a grant is dead.
func (c *circuit) answered() {
	c.failures = 0
	if c.open {
		*c = circuit{returned: true, since: c.since}
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
		*c = circuit{failures: c.failures, open: true, opened: now, since: c.backlog(now)}
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

// backlog returns where the backlog begins if the circuit opens now. That of an earlier outage is part of it.
func (c *circuit) backlog(now time.Duration) time.Duration {
	switch {
	case c.returned:
		return c.since
	case c.behind && c.old < c.until:
		return c.old
	case c.behind:
		return c.new
	}
	return now
}

// window is what may be claimed: credentials that became due between the two times. Never as before: all that are due.
type window struct{ after, before time.Duration }

// windowMargin is between the beginning of a window and the time at which the first credential became due: a write that
// was under way when that was asked may have made one due a moment before it.
const windowMargin = 10 * time.Second

// longAgo is before anything became due, and can still be reckoned with.
const longAgo = -100 * 365 * 24 * time.Hour

// windows returns what may be claimed now, given when the first credential became due: all that is due, or, while there
// is a backlog, a part of what has become due since the provider is back and, when that is done, a part of the backlog.
func (c *circuit) windows(first, now time.Duration) []window {
	first = min(max(first, longAgo), now)
	if c.returned {
		c.returned, c.behind = false, true
		c.old, c.new, c.until, c.looked = max(first, c.since), now, now, now
		c.pace = max(catchUpPace, float64(c.until-c.old)/float64(mostCatchUp))
	}
	all := window{first - windowMargin, Never}
	if !c.behind {
		return []window{all}
	}
	elapsed := now - c.looked
	c.old = min(c.old+time.Duration(c.pace*float64(min(elapsed, mostStep))), c.until)
	c.new = min(c.new+time.Duration(newPace*float64(elapsed)), now)
	c.looked = now
	if c.old == c.until {
		c.behind = c.new < now
		return []window{{all.after, c.new}}
	}
	return []window{{c.until, c.new}, {all.after, c.old}}
}
