package credentials

import "time"

// snapshot is a committed token as a process holds it; never changed after it was offered. Times
// are those of the process's clock.
type snapshot struct {
	token   Token     // which names its row and version
	version uint64    // of the row, when it was read
	quiet   moment    // until then no renewal is due
	expires moment    // until then it is served at all
	latest  moment    // no later than that, it ends
	asked   time.Time // when the store was asked for it, by the wall clock and the monotonic one
}

// snapshot returns the token that was read; nil if there is none, it has expired or the credential
// is disabled. The snapshot ends no later than r.at says, and no earlier than it would if it had
// been read when the answer came. A server whose clock is behind that of the primary which saved
// the token counts a longer life than the token's whole.
func (e *engine) snapshot(r reading) *snapshot {
	life := min(r.ExpiresIn, r.lifetime())
	now, expires := e.now(), r.at.add(life)
	if r.AccessToken.IsZero() || now >= expires || r.Disabled.By != "" {
		return nil
	}
	due := r.DueIn
	if r.Lease.ID != "" {
		due = 0 // a holder renews the token, or was about to
	}
	next := &snapshot{
		token:   Token{Value: r.AccessToken, extra: r.Extra, id: r.TokenID()},
		version: r.Version,
		quiet:   min(r.at.add(due), expires),
		expires: expires,
		latest:  r.answered.add(life),
		asked:   r.asked,
	}
	next.token.Expiry = e.wall(expires)
	return next
}

// after returns the snapshot to hold after the row was read as c, with that token: nil if there is
// none that may be used, and c is later than what is held.
func (held *snapshot) after(c reading, next *snapshot, clock clock) *snapshot {
	if next != nil {
		return held.merge(next, clock)
	}
	one, other := held.token.id, c.TokenID()
	switch {
	case one.Row == other.Row && one.Version < other.Version,
		one.Row == other.Row && c.Disabled.By != "" && held.version <= c.Version,
		one.Row < other.Row && held.asked.Before(c.asked): // a node that is behind may show an older row
		return nil
	}
	return held
}

// merge returns the snapshot to hold of the two. Knowledge of the end of one version only ever
// becomes more precise: a slow answer makes the token end no sooner, and a store whose clock was
// set back makes it live no longer.
func (held *snapshot) merge(next *snapshot, c clock) *snapshot {
	if held == nil {
		return next
	}
	one, other := held.token.id, next.token.id
	switch {
	case one == other && held.token.Value.Equal(next.token.Value):
		merged := *next
		merged.latest = min(held.latest, next.latest)
		merged.expires = min(max(held.expires, next.expires), merged.latest)
		merged.quiet = min(next.quiet, merged.expires)
		if held.expires > next.expires { // its end counts from when that was asked for
			merged.asked = held.asked
		}
		merged.token.Expiry = c.wall(merged.expires)
		return &merged
	case held.expires <= c.now():
		return next
	case one.Row == other.Row && one.Version > other.Version,
		one.Row != other.Row && held.asked.After(next.asked):
		kept := *held
		kept.quiet = min(max(held.quiet, next.quiet), held.expires)
		return &kept
	}
	return next
}
