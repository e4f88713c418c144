package memstore

import (
	"maps"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// row is one credential. table.mu guards its fields. The times carry the monotonic clock; zero
// stands for never.
type row struct {
	key                       credentials.Key
	epoch                     time.Time // the store's
	id, version, tokenVersion uint64

	accessToken, refreshToken    credentials.Secret
	extra                        map[string]credentials.Secret
	expires, refreshExpires, due time.Time

	lease       lease
	failure     failure
	interrupted interruption
	survived    interruption
	refreshed   refreshed
	disabled    mark
}

type lease struct {
	id, holder  string
	version     uint64 // the row's, when the claim was made
	since, ends time.Time
}

type failure struct {
	class        credentials.Class // "" for none
	code, reason string
	count        int
	refusals     int
	refused      time.Time // the first of them
	by           string
	since, retry time.Time
}

type interruption struct {
	by    string
	since time.Time
}

type mark struct {
	by    string // "" for none
	since time.Time
}

type refreshed struct {
	by    string
	since time.Time // zero: the token is from no exchange
	took  time.Duration
}

// at returns the row as it is at that moment.
func (r *row) at(now time.Time) credentials.Credential {
	c := credentials.Credential{
		Key: r.key, ReadAt: r.instant(now), Row: r.id, Version: r.version, TokenVersion: r.tokenVersion,
		AccessToken: r.accessToken, RefreshToken: r.refreshToken, Extra: maps.Clone(r.extra),
		ExpiresIn:        until(now, r.expires),
		RefreshExpiresIn: until(now, r.refreshExpires),
		DueIn:            until(now, r.due),
	}
	if l := r.lease; l.id != "" {
		c.Lease = credentials.Lease{
			ID: l.id, Holder: l.holder, Version: l.version, Age: now.Sub(l.since), EndsIn: until(now, l.ends),
		}
	}
	if f := r.failure; f.class != "" {
		c.Failure = credentials.Failure{
			Class: f.class, Code: f.code, Reason: f.reason, Count: f.count, By: f.by, Ago: now.Sub(f.since),
			Refusals: f.refusals,
		}
		if f.refusals > 0 {
			c.Failure.RefusedFor = now.Sub(f.refused)
		}
		if f.class != credentials.ClassDead {
			c.Failure.RetryIn = until(now, f.retry)
		}
	}
	c.Interrupted, c.Survived = r.interrupted.at(now), r.survived.at(now)
	c.Refreshed = credentials.Refreshed{By: r.refreshed.by, Took: r.refreshed.took}
	if since := r.refreshed.since; !since.IsZero() {
		c.Refreshed.Ago = now.Sub(since)
	}
	if m := r.disabled; m.by != "" {
		c.Disabled = credentials.Mark{By: m.by, Ago: now.Sub(m.since)}
	}
	return c
}

// setDue has the credential be due then, unless it is disabled, and so never due.
func (r *row) setDue(at time.Time) {
	if r.disabled.by != "" {
		at = time.Time{}
	}
	r.due = at
}

// marked notes a write of an operator's mark. The version of a lease moves on with the row's own: a
// mark is no write that the holder's failure could cover, nor one that overtakes the lease.
func (r *row) marked() {
	if r.lease.version == r.version {
		r.lease.version++
	}
	r.version++
}

// at returns the interruption as it is at that moment.
func (i interruption) at(now time.Time) credentials.Interruption {
	if i.by == "" {
		return credentials.Interruption{}
	}
	return credentials.Interruption{By: i.by, Ago: now.Sub(i.since)}
}

// set takes over a complete grant: Never is the lifetime of a token that does not end.
func (r *row) set(now time.Time, g credentials.Grant) {
	r.accessToken, r.refreshToken, r.extra = g.AccessToken, g.RefreshToken, maps.Clone(g.Extra)
	r.expires, r.refreshExpires = after(now, g.Lifetime), after(now, g.RefreshLifetime)
}

// decide makes the claim if the row's state allows it, and returns the credential as it then is.
func (r *row) decide(now time.Time, claim credentials.Claim) credentials.Credential {
	c := r.at(now)
	switch {
	case c.Lease.ID == claim.ID && c.Lease.Live():
		return c.FoundAgain() // made by an earlier call whose reply was lost
	case c.State(claim) == credentials.StateClaimable:
		return r.claim(now, claim)
	}
	return c
}

// claim makes the claim, which the row's state allows, and returns the credential under it.
func (r *row) claim(now time.Time, claim credentials.Claim) credentials.Credential {
	c := r.at(now)
	claimed := c.Claimed(claim)
	if claimed.Interrupted != c.Interrupted {
		r.interrupted = interruption{by: r.lease.holder, since: r.lease.since}
	}
	r.version = claimed.Version
	r.lease = lease{
		id: claim.ID, holder: claim.Holder, version: r.version, since: now, ends: after(now, claim.Lease),
	}
	r.due = r.lease.ends
	return claimed
}

// instant is that moment as processes get it, to give it back in a save; never zero.
func (r *row) instant(now time.Time) credentials.Instant {
	return credentials.Instant(now.Sub(r.epoch) + 1)
}

// lifetimeOrigin returns the moment from which a save's lifetimes count: now, or as long before as
// the process says.
func (r *row) lifetimeOrigin(now time.Time, told credentials.Instant) time.Time {
	if told == 0 {
		return now
	}
	return now.Add(-max(time.Duration(r.instant(now)-told), 0))
}

// after returns the moment that is d after now, zero for Never.
func after(now time.Time, d time.Duration) time.Time {
	if d == credentials.Never {
		return time.Time{}
	}
	return now.Add(d)
}

// until returns the time from now to t, Never if t is zero.
func until(now, t time.Time) time.Duration {
	if t.IsZero() {
		return credentials.Never
	}
	return t.Sub(now)
}
