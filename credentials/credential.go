package credentials

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Never is the duration of what does not end: a token without expiration, a credential that is never due.
const Never = time.Duration(math.MaxInt64)

// MaxTokenLength is the longest access or refresh token that stores keep, in bytes.
const MaxTokenLength = 65535

// MaxExtraSize is how much stores keep of what came beside a token, in bytes of JSON.
const MaxExtraSize = 60 << 10

// ErrInvalidGrant is wrapped by the errors of [Grant.Validate]. Nothing was written.
var ErrInvalidGrant = errors.New("invalid grant")

// Token is what callers get: an access token that is committed in the store, and what came beside it.
type Token struct {
	// Value is the access token.
	Value Secret

	// Expiry is when the token ends, by this host's clock; zero if it does not expire or nobody knows when.
	Expiry time.Time

	extra map[string]Secret
}

// Extra returns what the provider sent beside the token under that name, such as "scope", "token_type" or
// "instance_url" (RFC 6749 section 5.1 lets a provider send more than it lists); the zero Secret if it sent none.
func (t Token) Extra(name string) Secret { return t.extra[name] }

// Grant is what a provider answered, or what a person's authorization gave: tokens, and for how long. Lifetimes are
// durations from the moment at which the request was sent or, for a put, from now.
type Grant struct {
	// Token is the access token. It must be set in a [Refresher]'s answer. It may be empty in a put that seeds a
	// credential with a refresh token alone, or with nothing (client credentials): the first caller then exchanges.
	Token Secret

	// RefreshToken is what the next exchange presents. Zero in a Refresher's answer: the provider sent none, the one
	// in use stays (RFC 6749 section 6).
	RefreshToken Secret

	// Lifetime is the access token's ("expires_in"). Zero: the provider did not say; the service's DefaultLifetime
	// applies. Negative is refused in a put. In an answer, lifetimes below a second are taken as one second: the token
	// was issued just now, and providers round down.
	Lifetime time.Duration

	// RefreshLifetime is the refresh token's own. Zero: the provider did not say. The credential is due before it ends.
	RefreshLifetime time.Duration

	// Extra is what came beside the token and callers need with it, as secret as the token. An answer's entries are
	// laid over those in the store: providers leave out what did not change (RFC 6749 section 5.1, scope). At most
	// MaxExtraSize; of an answer, what does not fit is left out.
	Extra map[string]Secret
}

// Validate reports whether the grant can be put, in an error that wraps [ErrInvalidGrant] and contains no secret.
func (g Grant) Validate() error {
	size := 0
	for name, value := range g.Extra {
		size += extraSize(name, value)
	}
	switch {
	case g.Lifetime < 0:
		return fmt.Errorf("%w: the token expired %v ago; give its remaining lifetime, or leave the token out and have it refreshed",
			ErrInvalidGrant, -g.Lifetime)
	case g.RefreshLifetime < 0:
		return fmt.Errorf("%w: the refresh token expired %v ago; authorize the account again", ErrInvalidGrant, -g.RefreshLifetime)
	case g.Token.IsZero() && g.Lifetime > 0:
		return fmt.Errorf("%w: a lifetime of %v, but no token", ErrInvalidGrant, g.Lifetime)
	case size > MaxExtraSize:
		return fmt.Errorf("%w: what came beside the token takes %d bytes of JSON, at most %d are kept", ErrInvalidGrant, size, MaxExtraSize)
	case len(g.Token.Reveal()) > MaxTokenLength || len(g.RefreshToken.Reveal()) > MaxTokenLength:
		return fmt.Errorf("%w: a token of more than %d bytes", ErrInvalidGrant, MaxTokenLength)
	}
	return nil
}

// DueIn returns when the grant is due if it is put now: ahead of the end of its token and of its refresh token, by the
// default policy (see the function DueIn), since a put knows no service; at once if it has no token.
func (g Grant) DueIn() time.Duration {
	if g.Token.IsZero() {
		return 0
	}
	return min(DueIn(cmp.Or(g.Lifetime, Never)), DueIn(cmp.Or(g.RefreshLifetime, Never)))
}

// over returns the grant as it is to be saved on top of c: what the provider did not send again is kept.
func (g Grant) over(c Credential) Grant {
	if g.RefreshToken.IsZero() {
		g.RefreshToken = c.RefreshToken
		if g.RefreshLifetime == 0 && c.RefreshExpiresIn != Never {
			g.RefreshLifetime = max(c.RefreshExpiresIn, 1)
		}
	}
	// A row has to take it, or the grant is lost: what does not fit is left out, the older first.
	extra := make(map[string]Secret, len(g.Extra)+len(c.Extra))
	room := MaxExtraSize
	for _, entries := range []map[string]Secret{g.Extra, c.Extra} {
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if _, newer := extra[name]; newer {
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

// extraSize is what an entry of Extra takes: its JSON.
func extraSize(name string, value Secret) int {
	encoded, err := json.Marshal([]string{name, value.Reveal()})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return len(encoded)
}

// Credential is one row as a store gives it: what refreshers and operators see, the refresh token included. All its
// durations were computed by the store's clock while the row was read, at ReadAt; none is a wall-clock time of this host.
type Credential struct {
	Key    Key
	ReadAt Instant // never zero

	// Row identifies the row: a credential that was deleted and made again has another. Version counts the writes to
	// it; TokenVersion is the version of the claim or put that the token came from.
	Row, Version, TokenVersion uint64

	Token, RefreshToken Secret
	Extra               map[string]Secret

	// ExpiresIn is the token's remaining life: zero or less if it has expired, Never if it does not.
	ExpiresIn time.Duration

	// RefreshExpiresIn is the refresh token's remaining life, Never if it is not known to end.
	RefreshExpiresIn time.Duration

	// DueIn is when the credential should next be renewed: ahead of the token's expiration; after a failure, when the
	// back-off is over; under a lease, when that ends. Never: not before someone asks for it.
	DueIn time.Duration

	Lease       Lease        // who is exchanging it; zero: nobody
	Failure     Failure      // the last exchange's failure; zero: it succeeded
	Interrupted Interruption // an exchange since the last success whose outcome nobody knows; zero: none
	Refreshed   Refreshed    // the last success; zero: never refreshed
}

// Lease is a committed claim on a credential. A lease that has ended stays visible until the next claim: its holder
// died, or could not write, and the outcome of its exchange is unknown.
type Lease struct {
	// ID is the claim's random name, "" for none.
	ID string

	// Holder says for people who holds it.
	Holder string

	// Version is the credential's version that the claim made, its fencing version. The credential's own has moved on
	// beyond it if an earlier holder's success was saved under this lease.
	Version uint64

	// Age is the time since the claim; EndsIn the time until the lease ends, zero or less when it has.
	Age, EndsIn time.Duration
}

// Live reports whether the lease has not ended.
func (l Lease) Live() bool { return l.ID != "" && l.EndsIn > 0 }

// Interruption names an exchange that may or may not have used up the refresh token.
type Interruption struct {
	By  string        // its holder, "" for none
	Ago time.Duration // the time since its claim
}

// Refreshed describes the last successful exchange.
type Refreshed struct {
	By   string        // its holder, "" if there was none yet
	Ago  time.Duration // the time since its result was saved
	Took time.Duration // how long the provider took
}

// expired reports whether the access token can no longer be used.
func (c Credential) expired() bool { return c.Token.IsZero() || c.ExpiresIn <= 0 }

// State is what may be done with a credential now.
type State int

// The states, in the order in which they are decided.
const (
	Leased     State = iota + 1 // an exchange is under way; wait for it
	Fresh                       // the token is good and not due
	Dead                        // the provider rejected the grant; a person has to authorize again
	BackingOff                  // an exchange failed a short time ago; not before Failure.RetryIn
	Claimable                   // due, expired or turned down, and nobody is on it
)

// State decides what may be done with the credential. A token equal to rejected, one that the external API turned
// down, does not count as fresh; the zero Secret turns down nothing.
//
// Every [Store] decides a claim with it while it holds the row, and the manager decides with it whether to claim at
// all, so that there is one rule.
func (c Credential) State(rejected Secret) State {
	turnedDown := !rejected.IsZero() && c.Token.Equal(rejected)
	switch {
	case c.Lease.Live():
		return Leased
	case !c.expired() && c.DueIn > 0 && !turnedDown:
		return Fresh
	case c.Failure.Class == Rejected:
		return Dead
	case c.Failure.RetryIn > 0:
		return BackingOff
	default:
		return Claimable
	}
}
