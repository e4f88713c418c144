package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// snapshot is what does not change in a row that nobody writes to. It shows tokens: they are the suite's own.
type snapshot struct {
	Row, Version, TokenVersion                          uint64
	Token, RefreshToken, Extra                          string
	Expires, RefreshExpires, Due                        bool
	LeaseID, LeaseHolder                                string
	LeaseVersion                                        uint64
	FailureClass, FailureCode, FailureReason, FailureBy string
	FailureCount                                        int
	InterruptedBy, RefreshedBy                          string
	RefreshedTook                                       time.Duration
}

func steady(c credentials.Credential) snapshot {
	extra := reveal(c.Extra)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(&b, "%q: %q ", name, extra[name])
	}
	return snapshot{
		Row: c.Row, Version: c.Version, TokenVersion: c.TokenVersion,
		Token: clip(c.Token.Reveal()), RefreshToken: clip(c.RefreshToken.Reveal()), Extra: b.String(),
		Expires: c.ExpiresIn != credentials.Never, RefreshExpires: c.RefreshExpiresIn != credentials.Never,
		Due:     c.DueIn != credentials.Never,
		LeaseID: c.Lease.ID, LeaseHolder: c.Lease.Holder, LeaseVersion: c.Lease.Version,
		FailureClass: string(c.Failure.Class), FailureCode: c.Failure.Code, FailureReason: c.Failure.Reason,
		FailureBy: c.Failure.By, FailureCount: c.Failure.Count,
		InterruptedBy: c.Interrupted.By, RefreshedBy: c.Refreshed.By, RefreshedTook: c.Refreshed.Took,
	}
}

// same fails the test unless got is the row that want was, with nothing written in between.
func same(s *subject, what string, got, want credentials.Credential) {
	s.Helper()
	if g, w := steady(got), steady(want); g != w {
		s.Errorf("%s changed:\n got %+v\nwant %+v", what, g, w)
	}
	left(s, what+": ExpiresIn", got.ExpiresIn, want.ExpiresIn)
	left(s, what+": RefreshExpiresIn", got.RefreshExpiresIn, want.RefreshExpiresIn)
	left(s, what+": DueIn", got.DueIn, want.DueIn)
	left(s, what+": Lease.EndsIn", got.Lease.EndsIn, want.Lease.EndsIn)
	left(s, what+": Failure.RetryIn", got.Failure.RetryIn, want.Failure.RetryIn)
}

// left fails the test unless got is what a short time left of most. Nothing is left of Never.
func left(s *subject, what string, got, most time.Duration) {
	s.Helper()
	if most == credentials.Never {
		if got != credentials.Never {
			s.Errorf("%s: got %v, want Never", what, got)
		}
		return
	}
	if got > most || got <= most-slack {
		s.Errorf("%s: got %v, want at most %v and not much less", what, got, most)
	}
}

// ago fails the test unless got is a short time, and at least that.
func ago(s *subject, what string, got, least time.Duration) {
	s.Helper()
	if got < least || got >= least+slack {
		s.Errorf("%s: got %v, want at least %v and not much more", what, got, least)
	}
}

// equal fails the test unless got is want.
func equal[T comparable](s *subject, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// state fails the test unless the credential is in that state for someone who rejects nothing.
func state(s *subject, c credentials.Credential, want credentials.State) {
	s.Helper()
	if got := c.State(credentials.Secret{}); got != want {
		s.Errorf("State: got %v, want %v: %+v", stateName(got), stateName(want), steady(c))
	}
}

// free fails the test unless there is no lease, failure or interruption.
func free(s *subject, c credentials.Credential) {
	s.Helper()
	equal(s, "Lease", c.Lease, credentials.Lease{})
	clean(s, c)
}

// clean fails the test unless there is no failure and no interruption.
func clean(s *subject, c credentials.Credential) {
	s.Helper()
	equal(s, "Failure", c.Failure, credentials.Failure{})
	equal(s, "Interrupted", c.Interrupted, credentials.Interruption{})
}

func stateName(s credentials.State) string {
	names := map[credentials.State]string{
		credentials.Leased: "Leased", credentials.Fresh: "Fresh", credentials.Dead: "Dead",
		credentials.BackingOff: "BackingOff", credentials.Claimable: "Claimable",
	}
	return names[s]
}

// reveal returns the texts of the secrets.
func reveal(secrets map[string]credentials.Secret) map[string]string {
	texts := make(map[string]string, len(secrets))
	for name, secret := range secrets {
		texts[name] = secret.Reveal()
	}
	return texts
}

// secrets returns secrets of the texts.
func secrets(texts map[string]string) map[string]credentials.Secret {
	secrets := make(map[string]credentials.Secret, len(texts))
	for name, text := range texts {
		secrets[name] = credentials.NewSecret(text)
	}
	return secrets
}

// renewal returns the result of an exchange, recognizable by its name.
func renewal(name string) credentials.Renewal {
	return credentials.Renewal{
		Grant: credentials.Grant{
			Token: credentials.NewSecret(name), RefreshToken: credentials.NewSecret(name + "'s refresh token"),
			Lifetime: 2 * time.Hour, RefreshLifetime: credentials.Never,
		},
		By: name, DueIn: time.Hour, Took: 150 * time.Millisecond,
	}
}

// failure returns a failure of that class with a long back-off, which only matters where the class has one.
func failure(class credentials.Class) credentials.Failure {
	f := credentials.Failure{Class: class, Code: "invalid_request", Reason: "said no", RetryIn: long}
	if class == credentials.Rejected {
		f.Code, f.RetryIn = "invalid_grant", 0
	}
	return f
}

// clip shortens what stands in a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:most], len(s))
}
