package credentials

import "time"

// Status is a credential as people and programs look at it, without its secrets. Its durations were
// computed by the store's clock while the row was read.
type Status struct {
	Key       Key
	Condition Condition

	// ExpiresIn says for how long the access token is good, whatever the condition: zero or less if
	// it has expired, Never if it does not expire, zero if there is no token.
	ExpiresIn time.Duration

	// RefreshExpiresIn, DueIn, Row, Version, Lease, Failure, Interrupted, Survived, Refreshed and
	// Disabled are those of the [Credential].
	RefreshExpiresIn, DueIn time.Duration

	Row, Version uint64

	Lease       Lease
	Failure     Failure
	Interrupted Interruption
	Survived    Interruption
	Refreshed   Refreshed
	Disabled    Mark
}

// Condition says in a word how a credential stands. (A [State] says how a claim may treat it.)
type Condition string

// The conditions. A credential is in one of them: in the first whose comment is true of it.
const (
	// ConditionDisabled: an operator has disabled the credential. An exchange that was under way
	// then may still be.
	ConditionDisabled Condition = "disabled"

	// ConditionRefreshing: a live lease stands in the row, so that an exchange is under way.
	ConditionRefreshing Condition = "being refreshed"

	// ConditionDead: the grant is dead, and a person has to authorize again. The token may still be
	// good.
	ConditionDead Condition = "dead"

	// ConditionFresh: the token is good and not due. A renewal ahead of expiry may have failed, and
	// is then due again after the back-off.
	ConditionFresh Condition = "fresh"

	// ConditionInterrupted: a lease has ended with nothing saved, and no later claim was made; the
	// outcome of its exchange is unknown.
	ConditionInterrupted Condition = "interrupted"

	// ConditionBackingOff: the last exchange failed, and none begins before the back-off is over.
	ConditionBackingOff Condition = "backing off"

	// ConditionNoToken: the grant came without access token, and no exchange has brought one.
	ConditionNoToken Condition = "no token yet"

	// ConditionExpired: the token has expired.
	ConditionExpired Condition = "expired"

	// ConditionDue: the token is good, and due.
	ConditionDue Condition = "due"
)

// Status returns the credential without its secrets, and its condition.
func (c Credential) Status() Status {
	s := Status{
		Key: c.Key, Condition: c.condition(), ExpiresIn: c.ExpiresIn,
		RefreshExpiresIn: c.RefreshExpiresIn, DueIn: c.DueIn, Row: c.Row, Version: c.Version,
		Lease: c.Lease, Failure: c.Failure,
		Interrupted: c.Interrupted, Survived: c.Survived, Refreshed: c.Refreshed, Disabled: c.Disabled,
	}
	if c.AccessToken.IsZero() {
		s.ExpiresIn = 0
	}
	return s
}

// condition decides in the order of the constants.
func (c Credential) condition() Condition {
	switch {
	case c.Disabled.By != "":
		return ConditionDisabled
	case c.Lease.Live():
		return ConditionRefreshing
	case c.Failure.Class == ClassDead:
		return ConditionDead
	}
	switch c.State(Claim{}) {
	case StateFresh:
		return ConditionFresh
	case StateLeased:
		return ConditionInterrupted
	case StateBackingOff:
		return ConditionBackingOff
	}
	switch {
	case c.AccessToken.IsZero():
		return ConditionNoToken
	case c.expired():
		return ConditionExpired
	}
	return ConditionDue
}
