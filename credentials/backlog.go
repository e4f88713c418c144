package credentials

import "time"

const (
	// minCatchUp is the least speed of the cursor, as a part of real time. Credentials that become
	// due meanwhile are renewed beside the backlog, so that the provider gets half as much again as
	// in peace.
	minCatchUp = 0.5

	// maxCatchUp is how long a backlog takes: its speed is higher where it would take longer.
	maxCatchUp = 30 * time.Minute

	// minBacklog is the longest outage that leaves no backlog. The rows that became due in it are
	// few, and where accounts that failed by themselves opened the breaker, the others among the
	// rows are late enough.
	minBacklog = time.Minute

	// windowMargin is between the beginning of a window and the time at which the first credential
	// became due: a write that was under way when that was asked may have made one due a moment
	// before it.
	windowMargin = 10 * time.Second

	// longAgo is before anything became due, and can still be reckoned with.
	longAgo = moment(-100 * 365 * 24 * time.Hour)
)

// backlog is the set of credentials that became due while the breaker was open. After the outage, a
// cursor moves back from to to from at speed times real time, and the credentials that became due
// since the cursor are claimed: those first whose tokens have longest to live, since the others
// have mostly expired. Nothing but time moves the cursor: neither how long the exchanges take, nor
// how often the keeper looks. Rows that have become due since the outage do not queue behind the
// backlog, also where exchanges are too slow to follow the cursor. The zero value is that of a
// service whose provider was never down. All times are those of Manager.now.
type backlog struct {
	phase     backlogPhase
	from, to  moment // credentials that became due in between are the backlog
	speed     float64
	startedAt moment // when the cursor stood at to
}

type backlogPhase int

const (
	noBacklog      backlogPhase = iota
	backlogGrows                // the breaker is open
	backlogUnread               // the breaker has closed; the first row is not known yet
	backlogIsTaken              // the cursor moves
)

// opens notes that the breaker has opened. The rest of an earlier backlog is part of the new one.
func (b *backlog) opens(now moment) {
	from := now
	if b.moving(now) {
		from = b.from
	}
	*b = backlog{phase: backlogGrows, from: from}
}

// closes notes that the breaker has closed.
func (b *backlog) closes(now moment) {
	switch {
	case b.phase != backlogGrows:
	case now.sub(b.from) <= minBacklog:
		*b = backlog{}
	default:
		b.phase, b.to = backlogUnread, now
	}
}

// unread reports whether the keeper has to read the first due time before anything of the backlog
// is claimed.
func (b *backlog) unread() bool { return b.phase == backlogUnread }

// moving reports whether the cursor is about to move on.
func (b *backlog) moving(now moment) bool {
	return b.phase == backlogUnread || b.phase == backlogIsTaken && b.cursor(now) > b.from
}

func (b *backlog) cursor(now moment) moment {
	return max(b.to.add(-time.Duration(b.speed*float64(now.sub(b.startedAt)))), b.from)
}

// window bounds a claim to the credentials that became due between the two moments. Where before is
// never, the window has all that are due.
type window struct {
	after, before moment
	probe         bool // asks for the credentials that say most about the provider; see Batch.Probe
}

// windows returns the windows that may be claimed now, the most urgent first, given when the first
// of all due credentials became due.
func (b *backlog) windows(first, now moment) []window {
	first = min(max(first, longAgo), now)
	if b.phase == backlogUnread {
		b.phase, b.from, b.startedAt = backlogIsTaken, min(max(b.from, first), b.to), now
		b.speed = max(minCatchUp, float64(b.to.sub(b.from))/float64(maxCatchUp))
	}
	if b.phase == backlogIsTaken && first > b.to {
		*b = backlog{} // nothing of it is left
	}
	after := first.add(-windowMargin)
	if b.phase != backlogIsTaken {
		return []window{{after: after, before: never}}
	}
	present := window{after: b.to, before: never}
	if !b.moving(now) {
		return []window{present, {after: after, before: b.to}}
	}
	windows := []window{present, {after: b.cursor(now), before: b.to}}
	if first < b.from { // due before the outage, and not claimed by then
		windows = append(windows, window{after: after, before: b.from})
	}
	return windows
}
