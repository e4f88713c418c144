package model

import (
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// mark stands in every secret and nowhere else, so that a leak is found by looking for it.
const mark = "SECRET"

// families returns the provider of a plan.
func families(p Plan) testkit.Families {
	issued := 0
	f := testkit.Families{
		Lifetime: p.Lifetime, Lenient: p.Provider == Refuses, Keep: p.Provider == Keeps, Same: p.Same,
		Text: func(kind, _ string) string {
			issued++
			return fmt.Sprintf("%s-%s-%d", mark, kind, issued)
		},
	}
	if p.Provider == Graceful {
		f.Grace = p.Grace
	}
	return f
}

// presented is the moment at which an exchange takes effect at the provider.
func (w *world) presented(shown *presentation) (credentials.Grant, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.provider.RefreshToken(shown.refresh); t != nil && !t.Family.Revoked && !shown.claim.ends.After(time.Now()) {
		w.late[t.Family] = true
	}
	access, refresh, err := w.provider.Exchange(shown.refresh, shown.at)
	if err != nil {
		w.noteLocked("%s: %s is refused: %v", shown.by.name, shown.refresh, err)
		return credentials.Grant{}, invalidGrant(fmt.Sprintf("%s: %v", shown.refresh, err))
	}
	shown.granted = credentials.Grant{
		AccessToken: credentials.NewSecret(access.Text), Lifetime: w.provider.Lifetime,
	}
	if refresh != nil {
		shown.granted.RefreshToken = credentials.NewSecret(refresh.Text)
		w.handedTo[refresh] = shown
	}
	w.noteLocked("%s gets %s, %s",
		shown.by.name, access.Text, shown.granted.RefreshToken.Reveal())
	return shown.granted, nil
}

// invalidGrant is the answer to a refresh token that does not work. The reason quotes it, as
// providers do; the error that it wraps is like a response body.
func invalidGrant(reason string) error {
	return &credentials.RefreshError{
		Class: credentials.ClassDead, Code: "invalid_grant", Reason: reason,
		Err: fmt.Errorf("body: {%q: %q}", mark, reason),
	}
}
