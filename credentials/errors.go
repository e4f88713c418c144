package credentials

import (
	"cmp"
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
	// ErrUnknownService: no service of the name in Key.Service was given to NewManager.
	ErrUnknownService = errors.New("unknown service")

	// ErrGrantDead: the provider declared the grant dead; a person has to authorize the account
	// again, and the new grant be put. A *RefreshError of ClassDead is this error.
	ErrGrantDead = errors.New("the grant is dead; new authorization required")

	// ErrDisabled: an operator disabled the credential, and nobody gets its token until an operator
	// enables it again. The text says who, and when.
	ErrDisabled = errors.New("the credential is disabled")

	// ErrShortLived: the provider's tokens do not live as long as TokenFor was asked for. Ask for
	// less, and ask again in time.
	ErrShortLived = errors.New("the provider's tokens do not live that long")

	// ErrClosed: the manager was closed.
	ErrClosed = errors.New("credentials manager is closed")
)

// Errors that stores return.
var (
	// ErrNotFound: there is no credential under that key. Put one, after a person has authorized
	// the account, or set ClientCredentials of a [Service] that needs no person. To a user it means
	// "please log in", as ErrGrantDead means "please log in again".
	ErrNotFound = errors.New("no such credential")

	// ErrUnavailable: the store could not be reached or did not answer in time. The outcome of a
	// write is unknown, and repeating the same call of a [Store] is safe.
	ErrUnavailable = errors.New("credential store unavailable")

	// ErrRowLocked: the store answers, but another transaction holds the row's lock. Stores wrap it
	// beside ErrUnavailable, so that one locked row is not taken for a store that is away.
	ErrRowLocked = errors.New("the row is locked by another transaction")

	// ErrSchema: the store's table is missing, or older or newer than this library.
	ErrSchema = errors.New("credentials table does not fit this version of latchkey")

	// ErrSealed: the credential is there, but its tokens are sealed, and do not open: the process
	// lacks the key, or somebody has changed, moved or replaced them. Nothing of such a credential
	// is presented, and other credentials are not affected. A put replaces the credential.
	ErrSealed = errors.New("the credential does not open")

	// ErrOtherDeployment: the credential belongs to another deployment, whose table, or a copy of
	// it, this process works on. Nothing of the credential is presented or written.
	ErrOtherDeployment = errors.New("the credential belongs to another deployment")
)

// errTooYoung is wrapped by the error that refuses an exchange since the token is too young.
var errTooYoung = errors.New("the token is too young")

// Class sorts the failures of an exchange by their meaning for the refresh token.
type Class string

// The classes.
const (
	// ClassDead: the provider declared the grant dead (RFC 6749 section 5.2, invalid_grant). It is
	// not presented again.
	ClassDead Class = "dead"

	// ClassTransient: the provider refused before it used the grant up, or was not reached. Worth
	// trying again later.
	ClassTransient Class = "transient"

	// ClassUnknown: the refresh token may or may not have been used up (time-out, connection lost,
	// unreadable answer).
	ClassUnknown Class = "unknown"
)

// Codes of dead grants that the provider did not declare dead. With the first two a service's
// policy is [NeverReplay], and the outcome of an exchange is not known.
const (
	CodeInterrupted = "interrupted"     // the exchange's holder did not come back
	CodeUnknown     = "outcome_unknown" // the answer was lost, late or unreadable

	// CodeUnconfirmed: the provider refused for hours, for a reason that nobody knows, and the
	// token has expired. Nothing is presented any more. The grant may be alive: a store's Revive
	// takes the mark off, and no person need authorize again.
	CodeUnconfirmed = "unconfirmed"
)

// Interruption names an exchange that may or may not have used up the refresh token.
type Interruption struct {
	By  string        // its holder, "" for none
	Ago time.Duration // the time since its claim
}

// RefreshError is a failed exchange as callers get it, in the process that made it and in all
// others. A [Refresher] returns one to classify its failure, and fills in Class, Code, Reason,
// RetryAt and Err. Test for it with errors.As, and for a dead grant with errors.Is(err,
// [ErrGrantDead]).
type RefreshError struct {
	Key    Key
	Class  Class
	Code   string // the provider's, or this library's (interrupted, too_young); "" if there is none
	Reason string // for people: no secret, no response body

	// Unclassified says that the provider refused for a reason that nobody knows, so that the grant
	// may be dead. A [Refresher] sets it beside ClassTransient. Many such refusals over hours end
	// the grant, with [CodeUnconfirmed].
	Unclassified bool

	// RetryAt is when the next exchange may start, by this host's clock. Zero: nothing was said
	// (from a Refresher), or no exchange will follow (ClassDead).
	RetryAt time.Time

	// By is the holder whose exchange failed, and Ago the time since by the store's clock, so that
	// every refusal of a dead grant says since when it is dead. Zero: it failed just now. With the
	// code too_young, they are those of the exchange that brought the token.
	By  string
	Ago time.Duration

	// Interrupted names an earlier exchange whose outcome nobody knows and which may be the cause.
	Interrupted Interruption

	// Err is the cause, for errors.Is and errors.As; nil in other processes. Error does not print
	// it, since foreign errors quote response bodies, and encoders leave it out.
	Err error `json:"-" xml:"-"`

	stands *RefreshError // the refusal that a death with CodeUnconfirmed stands for
}

// refusal returns the provider's own, where e is made of one.
func (e *RefreshError) refusal() *RefreshError { return cmp.Or(e.stands, e) }

// Error names the credential, the failure and the remedy. The text contains no secret and no
// response body.
func (e *RefreshError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "refresh of %s: %s", e.Key, e.Class)
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	switch {
	case e.By != "" && e.Ago >= time.Second:
		fmt.Fprintf(&b, " [exchange by %s, %v ago]", e.By, e.Ago.Round(time.Second))
	case e.By != "":
		fmt.Fprintf(&b, " [exchange by %s]", e.By)
	}
	if e.Interrupted.By != "" {
		fmt.Fprintf(&b, "; an exchange that %s began %v ago was interrupted and may have used up the refresh token",
			e.Interrupted.By, e.Interrupted.Ago.Round(time.Millisecond))
	}
	switch {
	case e.Class == ClassDead && e.Code == CodeUnconfirmed:
		b.WriteString("; if the grant is alive, revive it, else authorize the account again and put the new grant")
	case e.Class == ClassDead:
		b.WriteString("; authorize the account again and put the new grant")
	case !e.RetryAt.IsZero():
		fmt.Fprintf(&b, "; the next attempt may start at %s", e.RetryAt.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// Format implements [fmt.Formatter], so that no verb and no flag shows more than Error does: the
// cause stays inside.
func (e RefreshError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.Error()) }

// Is reports whether target is ErrGrantDead and the class ClassDead.
func (e *RefreshError) Is(target error) bool {
	return target == ErrGrantDead && e.Class == ClassDead
}

// Unwrap returns the cause.
func (e *RefreshError) Unwrap() error { return e.Err }

// asRefreshError classifies a refresher's error. An error that is no RefreshError is of unknown
// outcome: nobody can tell whether the provider saw the refresh token. The text of such an error is
// kept out, since the text may quote the provider's answer.
func asRefreshError(err error) *RefreshError {
	var e *RefreshError
	if errors.As(err, &e) {
		switch e.Class {
		case ClassTransient:
			return e
		case ClassDead, ClassUnknown:
			classified := *e
			classified.Unclassified = false
			return &classified
		}
		return &RefreshError{Class: ClassUnknown, Code: e.Code, Reason: e.Reason, RetryAt: e.RetryAt, Err: err}
	}
	reason := fmt.Sprintf("the refresher returned an error of type %T", err)
	if errors.Is(err, context.DeadlineExceeded) {
		reason = "the exchange did not end in time"
	}
	return &RefreshError{Class: ClassUnknown, Reason: reason, Err: err}
}

// innerError is an error of work that has a context of its own.
type innerError struct {
	error
	callers error // of the caller's context; nil: it has not ended
}

// inner returns err for a caller with that context. The error of another context, whose time was
// over inside, keeps its text, but to errors.Is a context's error is the caller's own alone.
func inner(ctx context.Context, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return innerError{err, ctx.Err()}
}

// Is is asked by errors.Is, which finds no Unwrap.
func (e innerError) Is(target error) bool {
	if target == context.DeadlineExceeded || target == context.Canceled {
		return target == e.callers
	}
	return errors.Is(e.error, target)
}

// As is asked by errors.As.
func (e innerError) As(target any) bool { return errors.As(e.error, target) }

// ended is the error of a context that has ended: it wraps both the context's error and its cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// printable returns s as a row and a log line may carry it: printable ASCII, at most n bytes, and
// none of the secrets, in small letters or capitals.
func printable(s string, n int, secrets ...Secret) string {
	// The longest first: one may be part of another.
	slices.SortFunc(secrets, func(a, b Secret) int { return len(b.Reveal()) - len(a.Reveal()) })
	for _, secret := range secrets {
		if !secret.IsZero() {
			s = redact(s, secret.Reveal())
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

// redact replaces the secret in s, whatever the case of ASCII letters. The secret is not empty.
func redact(s, secret string) string {
	var b strings.Builder
	lower, sought := asciiLower(s), asciiLower(secret)
	for {
		i := strings.Index(lower, sought)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i] + redacted)
		s, lower = s[i+len(sought):], lower[i+len(sought):]
	}
}

// asciiLower returns s with small ASCII letters, at the same length in bytes.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
