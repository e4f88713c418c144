package model

import (
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// mark stands in every secret and nowhere else, so that a leak is found by looking for it.
const mark = "SECRET"

// endpoint is the provider. The world's mutex guards it.
type endpoint struct {
	mode     Mode
	grace    time.Duration
	lifetime time.Duration

	issued  int
	refresh map[string]*refreshToken
	access  map[string]time.Time // when each access token really ends
}

// family is what one authorization led to: a chain of refresh tokens of which the newest works.
type family struct {
	newest  *refreshToken
	revoked bool

	// late: a request arrived when its claim was over, since its process was stopped on the way or the network kept it.
	// Nothing that a client does can prevent that, so nothing is promised about this family any more.
	late bool
}

type refreshToken struct {
	text   string
	family *family
	used   time.Time     // when a newer one took its place; zero for the newest
	by     *presentation // who it was handed to; nil for a person's
}

func (e *endpoint) next(kind string) string {
	e.issued++
	return fmt.Sprintf("%s-%s-%d", mark, kind, e.issued)
}

// authorize begins a family.
func (e *endpoint) authorize() *family {
	f := new(family)
	e.issue(f, nil)
	return f
}

func (e *endpoint) issue(f *family, by *presentation) {
	f.newest = &refreshToken{text: e.next("refresh"), family: f, by: by}
	e.refresh[f.newest.text] = f.newest
}

func (e *endpoint) token(now time.Time) string {
	text := e.next("access")
	e.access[text] = now.Add(e.lifetime)
	return text
}

// works reports whether a refresh token is the one that works.
func (e *endpoint) works(text string) bool {
	t := e.refresh[text]
	return t != nil && !t.family.revoked && t.family.newest == t
}

// present is an exchange, at the moment at which it takes effect.
func (e *endpoint) present(by *presentation, now time.Time) (credentials.Grant, error) {
	t := e.refresh[by.refresh]
	switch {
	case t == nil:
		return credentials.Grant{}, invalidGrant("it was never issued")
	case t.family.revoked:
		return credentials.Grant{}, invalidGrant("the authorization was revoked")
	}
	f := t.family
	if !by.claim.ends.After(now) {
		f.late = true
	}
	if !t.used.IsZero() {
		switch {
		case e.mode == Refuses:
			return credentials.Grant{}, invalidGrant("refresh token " + t.text + " was used before")
		case e.mode == Revokes || now.Sub(t.used) >= e.grace:
			f.revoked = true
			return credentials.Grant{}, invalidGrant("refresh token " + t.text + " was used before, so all are revoked")
		}
	}
	grant := credentials.Grant{Token: credentials.NewSecret(e.token(now)), Lifetime: e.lifetime}
	if e.mode != Keeps {
		if t.used.IsZero() {
			t.used = now
		} else if f.newest.used.IsZero() {
			f.newest.used = now
		}
		e.issue(f, by)
		grant.RefreshToken = credentials.NewSecret(f.newest.text)
	}
	by.granted = grant
	return grant, nil
}

// invalidGrant is the answer to a refresh token that does not work. The reason quotes it, as providers do; the error
// that it wraps is like a response body.
func invalidGrant(reason string) error {
	return &credentials.RefreshError{
		Class: credentials.Rejected, Code: "invalid_grant", Reason: reason,
		Err: fmt.Errorf("body: {%q: %q}", mark, reason),
	}
}
