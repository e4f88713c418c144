package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Errors that a [Manager] and its sources return, beside those of the store.
var (
	// ErrUnknownService: no service of that name was given to NewManager.
	ErrUnknownService = errors.New("unknown service")

	// ErrReauthRequired: the provider declared the grant dead; a person has to authorize the account again, and the
	// new grant be put. A *RefreshError of class Rejected is this error.
	ErrReauthRequired = errors.New("new authorization required")

	// ErrClosed: the manager was closed.
	ErrClosed = errors.New("credentials manager is closed")
)

// Class sorts the failures of an exchange by what they mean for the refresh token.
type Class string

// The classes.
const (
	// Rejected: the provider declared the grant dead (RFC 6749 section 5.2, invalid_grant). It is not presented again.
	Rejected Class = "rejected"

	// Transient: the provider refused before it used the grant up, or was not reached. Worth trying again later.
	Transient Class = "transient"

	// Unknown: the refresh token may or may not have been used up (time-out, connection lost, unreadable answer).
	Unknown Class = "unknown"
)

// Failure is a failed exchange as the row keeps it.
type Failure struct {
	Class  Class  // "" for none
	Code   string // the provider's error code such as "invalid_grant" (RFC 6749 section 5.2), "" if it gave none
	Reason string // for people; printable ASCII, no secret, no response body

	// RetryIn is the time until the back-off is over; zero or less when it is, and for class Rejected.
	RetryIn time.Duration

	// Count is the number of failures since the last success. Stores count it; Fail ignores it.
	Count int

	// By is the holder whose exchange failed, Ago the time since. Fail ignores them: it takes the lease's.
	By  string
	Ago time.Duration
}

// RefreshError is a failed exchange as callers get it, in the process that made it and in all others. A [Refresher]
// returns one to say what its failure means; it fills in Class, Code, Reason, RetryAt and Err. Test for it with
// errors.As, and for a dead grant with errors.Is(err, [ErrReauthRequired]).
type RefreshError struct {
	Key    Key
	Class  Class
	Code   string // the provider's error code, "" if it gave none
	Reason string // for people: no secret, no response body

	// RetryAt is when the next exchange may start, by this host's clock. Zero: nothing was said (from a Refresher), or
	// no exchange will follow (class Rejected).
	RetryAt time.Time

	// By is the holder whose exchange failed.
	By string

	// Interrupted names an earlier exchange whose outcome nobody knows and which may be the cause.
	Interrupted Interruption

	// Err is the cause, for errors.Is and errors.As; nil in other processes. Error does not print it, since foreign
	// errors quote response bodies, and encoders leave it out.
	Err error `json:"-" xml:"-"`
}

// Error says which credential failed how, and what to do. It contains no secret and no response body.
func (e *RefreshError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "refresh of %s: %s", e.Key, e.Class)
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	if e.By != "" {
		fmt.Fprintf(&b, " [exchange by %s]", e.By)
	}
	if e.Interrupted.By != "" {
		fmt.Fprintf(&b, "; an exchange that %s began %v ago was interrupted and may have used up the refresh token",
			e.Interrupted.By, e.Interrupted.Ago.Round(time.Millisecond))
	}
	switch {
	case e.Class == Rejected:
		b.WriteString("; authorize the account again and put the new grant")
	case !e.RetryAt.IsZero():
		fmt.Fprintf(&b, "; the next attempt may start at %s", e.RetryAt.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// Format implements [fmt.Formatter], so that no verb and no flag shows more than Error does: the cause stays inside.
func (e *RefreshError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.Error()) }

// Is reports whether target is what the class means: ErrReauthRequired for Rejected.
func (e *RefreshError) Is(target error) bool {
	return target == ErrReauthRequired && e.Class == Rejected
}

// Unwrap returns the cause.
func (e *RefreshError) Unwrap() error { return e.Err }

// refreshError makes the error that callers get from the failure in the row.
func (c Credential) refreshError(by string, cause error) *RefreshError {
	e := &RefreshError{
		Key: c.Key, Class: c.Failure.Class, Code: c.Failure.Code, Reason: c.Failure.Reason,
		By: by, Err: cause,
	}
	if c.Failure.Class == Rejected {
		e.Interrupted = c.Interrupted
	}
	if c.Failure.RetryIn > 0 {
		e.RetryAt = time.Now().Add(c.Failure.RetryIn)
	}
	return e
}

// asRefreshError reads what a refresher's error means. What is no RefreshError is of unknown outcome: nobody can tell
// whether the provider saw the refresh token. Its text is kept out, since it may quote the provider's answer.
func asRefreshError(err error) *RefreshError {
	var e *RefreshError
	if errors.As(err, &e) {
		switch e.Class {
		case Rejected, Transient, Unknown:
			return e
		}
		return &RefreshError{Class: Unknown, Code: e.Code, Reason: e.Reason, RetryAt: e.RetryAt, Err: err}
	}
	reason := fmt.Sprintf("the refresher returned an error of type %T", err)
	if errors.Is(err, context.DeadlineExceeded) {
		reason = "the exchange did not end in time"
	}
	return &RefreshError{Class: Unknown, Reason: reason, Err: err}
}

// printable keeps what a row and a log line may carry of s: printable ASCII, at most n bytes, and none of the secrets.
func printable(s string, n int, secrets ...Secret) string {
	// The longest first: one may be part of another.
	slices.SortFunc(secrets, func(a, b Secret) int { return len(b.Reveal()) - len(a.Reveal()) })
	for _, secret := range secrets {
		if !secret.IsZero() {
			s = strings.ReplaceAll(s, secret.Reveal(), redacted)
		}
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}
