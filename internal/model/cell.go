package model

import (
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// span is the stretch of time in which something happened once: from before a call to after it.
// Where time is fake and the call takes none, it is a moment.
type span struct{ from, to time.Time }

func (s span) plus(d time.Duration) span { return span{s.from.Add(d), s.to.Add(d)} }

// moment is when something ends; never, if it does not.
type moment struct {
	span
	never bool
}

func momentIn(at span, d time.Duration) moment {
	if d == credentials.Never {
		return moment{never: true}
	}
	return moment{span: at.plus(d)}
}

// reached says whether the moment may have come, and whether it may not have, for someone who
// looked at that time.
func (m moment) reached(at span) (mayHave, mayNotHave bool) {
	if m.never {
		return false, true
	}
	return !at.to.Before(m.from), at.from.Before(m.to)
}

// cell is what one credential must look like, going by the contract and by what was done to it. It
// is written from the contract's words and not from any store's code, and is a value: a copy of it
// can be tried out.
type cell struct {
	exists bool
	row    uint64 // 0: made, and not seen yet
	before uint64 // the row under this key that was deleted last

	version uint64 // that of the last write; 0: not seen yet
	tokenOf uint64 // the version of the claim or put that the token came from; 0: that of a put not seen yet

	token, refresh string
	expires, due   moment
	broughtBy      string // whose exchange brought the token; "": it was put
	brought        span   // when

	lease       held
	failure     failed
	interrupted string // who was, since the last success
	survived    string // who was, before that
}

// held is a lease, which stays until it is given up or replaced, also when it has ended.
type held struct {
	id, holder string
	version    uint64 // that the claim made
	ends       moment
	overtaken  bool // another's success was saved under it
}

// failed is a failure as it was recorded.
type failed struct {
	class credentials.Class
	code  string
	count int
	by    string
	retry moment
}

// states is a set of credentials.State: more than one only while a clock that is not ours decides.
type states uint

func (s states) has(state credentials.State) bool { return s&(1<<state) != 0 }

func only(list ...credentials.State) (s states) {
	for _, state := range list {
		s |= 1 << state
	}
	return s
}

// takeOver says whether the claim may, and may not, have been entitled to the lease at that time.
func (c cell) takeOver(at span, claim credentials.Claim) (may, mayNot bool) {
	switch {
	case c.lease.id == "", c.lease.id == claim.ID, c.lease.id == claim.TakeOver, c.lease.id == claim.Unused:
		return true, false
	case claim.Lapsed <= 0:
		return false, true
	}
	return c.lease.ends.reached(at.plus(-claim.Lapsed))
}

// tooYoung says whether the token may be, and may not be, too young for the claim at that time. A
// clock that was set back may have it brought in the future.
func (c cell) tooYoung(at span, claim credentials.Claim) (may, mayNot bool) {
	if c.broughtBy == "" {
		return false, true
	}
	least, most := at.from.Sub(c.brought.to), at.to.Sub(c.brought.from)
	return max(least, -most, 0) < claim.MinTokenAge, max(-least, most) >= claim.MinTokenAge
}

// states are those in which the credential may have been at that time, for that claim.
func (c cell) states(at span, claim credentials.Claim) (s states) {
	may, mayNot := c.takeOver(at, claim)
	if c.lease.id != "" && mayNot {
		ended, live := c.lease.ends.reached(at)
		if live {
			s |= only(credentials.StateLeased)
		}
		if !ended && !may {
			return s
		}
	}
	turnedDown := claim.Invalidated != credentials.TokenID{} && claim.Invalidated == credentials.TokenID{Row: c.row, Version: c.tokenOf}
	good, stale := false, true // which it may be
	if c.token != "" {
		expired, lives := c.expires.reached(at)
		due, early := c.due.reached(at)
		good, stale = lives && early, expired || due
	}
	if !turnedDown {
		if good {
			s |= only(credentials.StateFresh)
		}
		if !stale {
			return s
		}
	}
	if mayNot {
		s |= only(credentials.StateLeased)
	}
	if !may {
		return s
	}
	if c.failure.class == credentials.ClassDead {
		return s | only(credentials.StateDead)
	}
	over := true
	if c.failure.class != "" {
		var waits bool
		over, waits = c.failure.retry.reached(at)
		if waits {
			s |= only(credentials.StateBackingOff)
		}
	}
	if !over {
		return s
	}
	young, old := c.tooYoung(at, claim)
	if turnedDown && good && young {
		s |= only(credentials.StateTooYoung)
	}
	if stale || turnedDown && old {
		s |= only(credentials.StateClaimable)
	}
	return s
}

// tolerance is how far a lifetime may differ from what is expected: stores round, and real ones
// take their time.
const tolerance = time.Second

// match holds the credential that a store returned at that time against the cell, and learns from
// it what only the store could know.
func (c cell) match(got credentials.Credential, at span) (cell, *Violation) {
	if c.row == 0 {
		if got.Row == 0 || got.Row == c.before {
			return c, broken("a credential made again is another row", "row %d, the one before was %d", got.Row, c.before)
		}
		c.row = got.Row
	}
	if c.version == 0 {
		c.version = got.Version
	}
	if c.tokenOf == 0 {
		c.tokenOf = got.TokenVersion
	}
	for _, field := range []struct {
		name      string
		got, want any
	}{
		{"Row", got.Row, c.row},
		{"Version", got.Version, c.version},
		{"TokenVersion", got.TokenVersion, c.tokenOf},
		{"Token", got.AccessToken.Reveal(), c.token},
		{"RefreshToken", got.RefreshToken.Reveal(), c.refresh},
		{"Lease.ID", got.Lease.ID, c.lease.id},
		{"Lease.Version", got.Lease.Version, c.lease.version},
		{"Lease.Holder", got.Lease.Holder, c.lease.holder},
		{"Failure.Class", got.Failure.Class, c.failure.class},
		{"Failure.Code", got.Failure.Code, c.failure.code},
		{"Failure.Count", got.Failure.Count, c.failure.count},
		{"Failure.By", got.Failure.By, c.failure.by},
		{"Interrupted.By", got.Interrupted.By, c.interrupted},
		{"Survived.By", got.Survived.By, c.survived},
		{"Refreshed.By", got.Refreshed.By, c.broughtBy},
	} {
		if field.got != field.want {
			return c, broken("the row is what was done to it", "%s: got %v, want %v", field.name, field.got, field.want)
		}
	}
	if got.TokenVersion > got.Version {
		return c, broken("invariant 4: version never falls behind token_version", "%d is behind %d", got.Version, got.TokenVersion)
	}
	if c.lease.id != "" && !c.lease.ends.leaves(got.Lease.EndsIn, at) {
		return c, broken("the lease ends when it should", "in %v, want %v", got.Lease.EndsIn, c.lease.ends)
	}
	if c.token != "" && !c.expires.leaves(got.ExpiresIn, at) {
		return c, broken("the token expires when it should", "in %v, want %v", got.ExpiresIn, c.expires)
	}
	if state := got.State(credentials.Claim{}); !c.states(at, credentials.Claim{}).has(state) {
		return c, broken("the row is what was done to it", "its state is %d, want one of the set %b", state, c.states(at, credentials.Claim{}))
	}
	return c, nil
}

// leaves reports whether someone who looked at that time may have seen that much time left.
func (m moment) leaves(got time.Duration, at span) bool {
	if m.never || got == credentials.Never {
		return m.never == (got == credentials.Never)
	}
	// A store may take what ended a while ago as ended now.
	least, most := m.from.Sub(at.to)-tolerance, max(m.to.Sub(at.from), 0)+tolerance
	return got >= least && got <= most
}

// Violation is a broken rule.
type Violation struct {
	Rule   string // which one; the same words whatever the case, so that a case can be shrunk by it
	Detail string // for people
}

func (v *Violation) Error() string { return v.Rule + ": " + v.Detail }

func broken(rule, format string, args ...any) *Violation {
	return &Violation{Rule: rule, Detail: fmt.Sprintf(format, args...)}
}
