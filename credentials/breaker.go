package credentials

import (
	"slices"
	"time"
)

// Probe interval of the open breaker: minProbe plus a random share of a window that doubles per
// failed probe up to maxProbe. The costly interval is for probes each of which may cost a grant:
// the outcome of an exchange is unknown and the service never replays, or its result cannot be
// stored.
const (
	minProbe       = time.Second
	maxProbe       = 30 * time.Second
	minCostlyProbe = time.Minute
	maxCostlyProbe = time.Hour

	// breakerThreshold is how many failures in a row, with no success in between, open a breaker.
	breakerThreshold = 5

	// massDeath is how many accounts that are declared dead in a row, with no success in between,
	// are an incident. People end grants one by one: where one exchange in a hundred finds a dead
	// grant, three in a row come by chance once in a million exchanges. A false alarm costs little,
	// since the next success ends it; and each process marks so many before it stops.
	massDeath = 3
)

// breaker is a circuit breaker. Closed, it lets everything through; open, nothing, until the next
// probe is due; half-open, that probe alone. Its zero value is closed. All times are those of
// Manager.now.
//
// A service has one for its provider, which a backlog of credentials would be presented to in vain,
// and one for the storing of results, without which each exchange uses up a refresh token.
type breaker struct {
	failures int           // in a row, of those that count
	wait     time.Duration // for which all of them were told to leave the provider alone
	dead     []string      // accounts declared dead in a row; massDeath at most
	open     bool          // half-open, where probeAt has come
	probes   int           // that failed since it opened
	probeAt  moment        // when the next probe may begin
}

// setback is a failure as the breaker counts it.
type setback struct {
	now    moment
	wait   time.Duration // for which the provider wants to be left alone
	probe  bool          // of an exchange that the open breaker let through
	known  bool          // of an account that had failed before: it says nothing of others
	costly bool          // the next one may cost a grant
}

// succeeded closes the breaker, and reports whether it was open.
func (b *breaker) succeeded() (closed bool) {
	closed = b.open
	*b = breaker{}
	return closed
}

// failed counts a failure, and reports whether the breaker has opened by it.
func (b *breaker) failed(f setback) (opened bool) {
	if !f.known || f.costly {
		if b.failures++; b.failures == 1 || f.wait < b.wait {
			b.wait = f.wait
		}
	}
	if !b.open && b.failures < breakerThreshold {
		return false
	}
	return b.holdBack(f)
}

// died counts an account whose grant the provider declared dead. It reports whether to believe
// that, and whether mass death begins by it: then the breaker is open, and until a success no death
// is believed.
func (b *breaker) died(account string, f setback) (believed, begins bool) {
	if b.massDeath() {
		b.holdBack(f)
		return false, false
	}
	if !slices.Contains(b.dead, account) {
		b.dead = append(b.dead, account)
	}
	begins = b.massDeath()
	if begins || b.open {
		b.holdBack(f)
	}
	return true, begins
}

// massDeath reports whether so many accounts were declared dead in a row that it is an incident.
func (b *breaker) massDeath() bool { return len(b.dead) >= massDeath }

// holdBack opens the breaker, which it reports, or makes the pause before the next probe longer.
func (b *breaker) holdBack(f setback) (opened bool) {
	switch {
	case !b.open:
		b.open, opened = true, true
	case f.probe:
		b.probes++
	default:
		return false // it was under way when the breaker opened
	}
	pause := backOff(minProbe, maxProbe, b.probes)
	if f.costly {
		pause = backOff(minCostlyProbe, maxCostlyProbe, b.probes)
	}
	// A Retry-After counts where all that failed got one, and the more of it the more they are: one
	// account may have been told for itself.
	heeded := min(b.wait, doubled(minProbe, maxBackOff, 2*b.probes))
	b.probeAt = f.now.add(max(pause, heeded))
	return opened
}

// allows returns how many of n exchanges may begin beside those in use; if none, how long until the
// next probe, Never where one of those under way decides.
func (b *breaker) allows(n, inUse int, now moment) (allowed int, wait time.Duration) {
	switch {
	case !b.open:
		return n, 0
	case inUse > 0:
		return 0, Never
	case b.probeAt > now:
		return 0, b.probeAt.sub(now)
	}
	return min(n, 1), 0
}
