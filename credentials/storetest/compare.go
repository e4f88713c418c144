package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// snapshot holds the values that stay the same in a row which nobody writes to. The tokens may
// be shown: they are the suite's own.
type snapshot struct {
	Row, Version, TokenVersion                          uint64
	Token, RefreshToken, Extra                          string
	Expires, RefreshExpires, Due                        bool
	LeaseID, LeaseHolder                                string
	LeaseVersion                                        uint64
	FailureClass, FailureCode, FailureReason, FailureBy string
	FailureCount, Refusals                              int
	InterruptedBy, SurvivedBy, RefreshedBy              string
	RefreshedTook                                       time.Duration
	DisabledBy                                          string
}

func steady(c credentials.Credential) snapshot {
	extra := reveal(c.Extra)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(&b, "%q: %q ", name, extra[name])
	}
	return snapshot{
		Row: c.Row, Version: c.Version, TokenVersion: c.TokenVersion,
		Token: clip(c.AccessToken.Reveal()), RefreshToken: clip(c.RefreshToken.Reveal()), Extra: b.String(),
		Expires: c.ExpiresIn != credentials.Never, RefreshExpires: c.RefreshExpiresIn != credentials.Never,
		Due:     c.DueIn != credentials.Never,
		LeaseID: c.Lease.ID, LeaseHolder: c.Lease.Holder, LeaseVersion: c.Lease.Version,
		FailureClass: string(c.Failure.Class), FailureCode: c.Failure.Code, FailureReason: c.Failure.Reason,
		FailureBy: c.Failure.By, FailureCount: c.Failure.Count, Refusals: c.Failure.Refusals,
		InterruptedBy: c.Interrupted.By, SurvivedBy: c.Survived.By, RefreshedBy: c.Refreshed.By, RefreshedTook: c.Refreshed.Took,
		DisabledBy: c.Disabled.By,
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

// left fails the test unless got is limit less a short time. Never stays Never.
func left(s *subject, what string, got, limit time.Duration) {
	s.Helper()
	if limit == credentials.Never {
		if got != credentials.Never {
			s.Errorf("%s: got %v, want Never", what, got)
		}
		return
	}
	if got > limit || got <= limit-slack {
		s.Errorf("%s: got %v, want at most %v and not much less", what, got, limit)
	}
}

// ago fails the test unless got is the minimum and a short time.
func ago(s *subject, what string, got, minimum time.Duration) {
	s.Helper()
	if got < minimum || got >= minimum+slack {
		s.Errorf("%s: got %v, want at least %v and not much more", what, got, minimum)
	}
}

// equal fails the test unless got is want.
func equal[T comparable](s *subject, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// hasVersions fails the test unless the credential has these versions.
func hasVersions(s *subject, c credentials.Credential, version, tokenVersion uint64) {
	s.Helper()
	equal(s, "Version", c.Version, version)
	equal(s, "TokenVersion", c.TokenVersion, tokenVersion)
}

// ended returns the lease's ID if the lease has ended, else "".
func ended(l credentials.Lease) string {
	if l.Live() {
		return ""
	}
	return l.ID
}

// state fails the test unless the credential is in that state for a claim that invalidates no token
// and may take over a lease that has ended.
func state(s *subject, c credentials.Credential, want credentials.State) {
	s.Helper()
	if got := c.State(credentials.Claim{TakeOver: ended(c.Lease)}); got != want {
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
		credentials.StateDisabled: "Disabled", credentials.StateLeased: "Leased", credentials.StateFresh: "Fresh", credentials.StateDead: "Dead",
		credentials.StateBackingOff: "BackingOff", credentials.StateTooYoung: "TooYoung",
		credentials.StateClaimable: "Claimable",
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

func secret(text string) credentials.Secret { return credentials.NewSecret(text) }

// secrets returns secrets of the texts.
func secrets(texts map[string]string) map[string]credentials.Secret {
	secrets := make(map[string]credentials.Secret, len(texts))
	for name, text := range texts {
		secrets[name] = secret(text)
	}
	return secrets
}

// renewal returns the result of an exchange, recognizable by its name.
func renewal(name string) credentials.Renewal {
	return credentials.Renewal{
		Grant: credentials.Grant{
			AccessToken: secret(name), RefreshToken: secret(name + "'s refresh token"),
			Lifetime: 2 * time.Hour, RefreshLifetime: credentials.Never,
		},
		By: name, DueIn: time.Hour, Took: 150 * time.Millisecond,
	}
}

// renewalDue returns a renewal that is due at once.
func renewalDue(name string) credentials.Renewal {
	r := renewal(name)
	r.DueIn = 0
	return r
}

// failure returns a failure of that class with a long back-off, if the class has one.
func failure(class credentials.Class) credentials.Failure {
	f := credentials.Failure{Class: class, Code: "invalid_request", Reason: "said no", RetryIn: long}
	if class == credentials.ClassDead {
		f.Code, f.RetryIn = "invalid_grant", 0
	}
	return f
}

// failureNow returns a failure of that class without back-off.
func failureNow(class credentials.Class) credentials.Failure {
	f := failure(class)
	f.RetryIn = 0
	return f
}

// clip shortens a text for a message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:limit], len(s))
}
