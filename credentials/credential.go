package credentials

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Credential is one row as a store gives it, the refresh token included. All its durations were
// computed by the store's clock while the row was read, at ReadAt; none is a wall-clock time of
// this host.
type Credential struct {
	Key    Key
	ReadAt Instant // never zero

	// Row identifies the row: a credential that was deleted and made again has another. Version
	// counts the writes to it; TokenVersion is the version of the claim or put that the token came
	// from.
	Row, Version, TokenVersion uint64

	AccessToken, RefreshToken Secret
	Extra                     map[string]Secret

	// ExpiresIn is the token's remaining life: zero or less if it has expired, Never if it does
	// not.
	ExpiresIn time.Duration

	// RefreshExpiresIn is the refresh token's remaining life, Never if it is not known to end.
	RefreshExpiresIn time.Duration

	// DueIn is when the credential should next be renewed: ahead of the token's expiration; after a
	// failure, when the back-off is over; under a lease, when that ends. Never: not before someone
	// asks for it, or not at all while the credential is disabled.
	DueIn time.Duration

	Lease       Lease        // zero: none
	TookOver    bool         // set in a claim's answer: the lease took another's place
	Failure     Failure      // the last exchange's failure; zero: it succeeded
	Interrupted Interruption // an exchange of unknown outcome since the last success
	Refreshed   Refreshed    // the exchange that brought the token

	// Survived is the interruption before the last success. The provider may still be at work on
	// that exchange's request when the success is stored, and revoke the grant for it afterwards.
	Survived Interruption

	// Disabled is an operator's mark: nobody gets the token, and no claim is made. Every write
	// keeps it but the one that enables the credential.
	Disabled Mark
}

// Mark names an operator who has marked a credential.
type Mark struct {
	By  string        // "" for no mark
	Ago time.Duration // the time since, by the store's clock
}

// Lease is a committed claim on a credential. A lease that has ended stays visible until the next
// claim: its holder died, or could not write, and the outcome of its exchange is unknown.
type Lease struct {
	// ID is the claim's random name, "" for none.
	ID string

	// Holder says for people who holds it.
	Holder string

	// Version is the credential's version that the claim made, its fencing version. The
	// credential's own has moved on beyond it if an earlier holder's success was saved under this
	// lease.
	Version uint64

	// Age is the time since the claim; EndsIn the time until the lease ends, zero or less when it
	// has.
	Age, EndsIn time.Duration
}

// Live reports whether the lease has not ended.
func (l Lease) Live() bool { return l.ID != "" && l.EndsIn > 0 }

// Refreshed describes the exchange that brought the token.
type Refreshed struct {
	By   string        // its holder; "": the token was put, or there is none yet
	Ago  time.Duration // the time since its result was saved; zero where By is ""
	Took time.Duration // how long the provider took; of an exchange before the put where By is ""
}

// within reports whether the exchange was less than d ago, in whole microseconds, as stores count.
// By a clock that was set back the exchange may lie in the future: one that is further away than d
// is taken for old, so that no clock makes a token too young for longer than twice d.
func (r Refreshed) within(d time.Duration) bool {
	return r.By != "" && r.Ago.Abs() < d.Truncate(time.Microsecond)
}

// Failure is a failed exchange as the row keeps it.
type Failure struct {
	Class  Class  // "" for none
	Code   string // the provider's, such as "invalid_grant" (RFC 6749 section 5.2); "" if it gave none
	Reason string // for people; printable ASCII, no secret, no response body

	// RetryIn is the time until the back-off is over; zero or less when it is, and for ClassDead.
	RetryIn time.Duration

	// Count is the number of failures since the last success. Stores count it; Fail ignores it.
	Count int

	// Refusals is how many unclassified refusals in a row there were, with this failure (see
	// [RefreshError].Unclassified), and RefusedFor the time since the first. Fail takes Refusals,
	// and ignores RefusedFor: the first refusal begins the count, and zero ends it.
	Refusals   int
	RefusedFor time.Duration

	// By is the holder whose exchange failed, Ago the time since. Fail ignores them: it takes the
	// lease's.
	By  string
	Ago time.Duration
}

// TokenID names the token that the credential holds.
func (c Credential) TokenID() TokenID { return TokenID{Row: c.Row, Version: c.TokenVersion} }

// lifetime is the whole life of a token that an exchange brought, less the time that the exchange
// took; Never if it does not end, or nobody knows.
func (c Credential) lifetime() time.Duration {
	if c.Refreshed.By == "" || c.ExpiresIn == Never {
		return Never
	}
	return c.Refreshed.Ago + c.ExpiresIn
}

// expired reports whether the access token can no longer be used.
func (c Credential) expired() bool { return c.AccessToken.IsZero() || c.ExpiresIn <= 0 }

// ofOneToken are entries that belong to the token beside which they came, and go with it: OpenID
// Connect's, Salesforce's and those of time.
var ofOneToken = []string{
	"id_token", "at_hash", "signature", "issued_at", "created_at", "expires_at", "expires_on", "expires",
	".expires", ".issued", "ext_expires_in", "not_before",
}

// merge returns g as it is to be saved over c: the refresh token and the entries that the provider
// did not send again are kept, but for those of the token before.
func (c Credential) merge(g Grant) Grant {
	if g.RefreshToken.IsZero() {
		g.RefreshToken = c.RefreshToken
		if g.RefreshLifetime == 0 && c.RefreshExpiresIn != Never {
			g.RefreshLifetime = max(c.RefreshExpiresIn, 1)
		}
	}
	// A row has to take the grant, or the grant is lost: entries that do not fit are left out, the
	// older first.
	extra := make(map[string]Secret, len(g.Extra)+len(c.Extra))
	room := MaxExtraSize
	for _, entries := range []map[string]Secret{g.Extra, c.Extra} {
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if _, newer := extra[name]; newer {
				continue
			}
			if _, sent := g.Extra[name]; !sent && slices.Contains(ofOneToken, name) {
				continue
			}
			if size := extraSize(name, entries[name]); size <= room {
				extra[name] = entries[name]
				room -= size
			}
		}
	}
	g.Extra = extra
	return g
}

// refreshError makes the error that callers get from the failure in the row.
func (c Credential) refreshError(by string, cause error) *RefreshError {
	e := &RefreshError{
		Key: c.Key, Class: c.Failure.Class, Code: c.Failure.Code, Reason: c.Failure.Reason,
		By: by, Ago: c.Failure.Ago, Err: cause,
	}
	if c.Failure.Class == ClassDead {
		e.Interrupted = cmp.Or(c.Interrupted, c.Survived)
	}
	if c.Failure.RetryIn > 0 {
		e.RetryAt = time.Now().Add(c.Failure.RetryIn)
	}
	return e
}

// disabled makes the error that callers get while the credential is disabled.
func (c Credential) disabled() error {
	return fmt.Errorf("token of %s: %w: %s did so %v ago; enable it to have tokens again",
		c.Key, ErrDisabled, c.Disabled.By, c.Disabled.Ago.Round(time.Second))
}

// tooYoung makes the error that callers get who report a token in StateTooYoung.
func (c Credential) tooYoung(minAge time.Duration) *RefreshError {
	// The token may be due, or expire, before it is old enough.
	wait := min(minAge-c.Refreshed.Ago, c.DueIn, c.ExpiresIn)
	return &RefreshError{
		Key: c.Key, Class: ClassTransient, Code: "too_young", By: c.Refreshed.By, Ago: c.Refreshed.Ago,
		Reason:  fmt.Sprintf("the token was turned down, but is not exchanged again within %v", minAge),
		RetryAt: time.Now().Add(wait), Err: errTooYoung,
	}
}

// Instant is a moment by a store's own clock, in nanoseconds since a time that the store chose. No
// other clock can be compared with it.
type Instant int64

// Add returns the moment d later, which this process has counted.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }
