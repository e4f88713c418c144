package credentials

// takeover is a refresh's knowledge of the foreign lease in its row: whether, and from when, a
// claim may take the lease over.
//
// A lease ends by itself, so that one whose holder died keeps nobody for ever. But a holder that
// lives may come back with the only refresh token that works when its lease has long ended, since
// the store was away, or since a clock jumped. So a process takes a foreign lease over only if all
// of this holds:
//
//   - The lease is over on the process's own clock, from when it first saw that lease.
//   - It has watched the row bear that lease for the grace, with no silence longer than that.
//   - Every call of its store has been answered for the grace.
//
// A holder that reaches the store whenever this process does has had the grace to save its result:
// a try that began before the store was back has ended within StoreTimeout, and the next one
// follows within the rest. But a store may answer reads and no writes. So the process waits for the
// grace once more under its new claim, which is a write, before it presents anything
// (exchange.letHolderSave): a success that is saved meanwhile is kept.
type takeover struct {
	*engine
	lease   string // its claim's ID; "": the row bears none
	watched        // with that lease in the row
	over    moment // when the lease is over, as this process counts
}

// see notes the lease that the row bears.
func (t *takeover) see(c reading) {
	if c.Lease.ID != t.lease {
		t.lease, t.watched = c.Lease.ID, watched{c.answered, c.answered}
		// A lease that began in the future was set by a clock that is ahead, or has been set back
		// since.
		t.over = c.answered.add(max(c.Lease.EndsIn+min(c.Lease.Age, 0), 0))
	}
	t.answer(c.answered, t.opts.grace())
}

// from returns from when the lease may be taken over, if the store goes on answering.
func (t *takeover) from() moment {
	return max(t.over, t.first.add(t.opts.grace()), t.health.steadyFrom())
}

// entitled returns the ID of the lease if it may be taken over now.
func (t *takeover) entitled() string {
	if t.lease == "" || t.now() < t.from() {
		return ""
	}
	return t.lease
}

// fresh reports whether the row was looked at within the grace.
func (t *takeover) fresh() bool { return t.since(t.last) <= t.opts.grace() }
