package main

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// The state and the lease's line are what the row holds.
func TestStateIsShownAsItIs(t *testing.T) {
	good := credentials.Credential{
		AccessToken: credentials.NewSecret("token"), ExpiresIn: time.Hour, DueIn: 50 * time.Minute,
		RefreshExpiresIn: credentials.Never,
	}
	with := func(edit func(*credentials.Credential)) credentials.Credential {
		c := good
		edit(&c)
		return c
	}
	lease := func(endsIn time.Duration) credentials.Lease {
		return credentials.Lease{ID: "claim", Holder: "web-1", EndsIn: endsIn}
	}
	expire := func(c *credentials.Credential) { c.ExpiresIn, c.DueIn = -time.Minute, -2*time.Minute }
	die := func(c *credentials.Credential) { c.Failure.Class = credentials.ClassDead }
	leased := func(endsIn time.Duration) func(*credentials.Credential) {
		return func(c *credentials.Credential) { c.Lease = lease(endsIn) }
	}
	for _, test := range []struct {
		want string
		c    credentials.Credential
		line string
	}{
		{"fresh", good, "expires"},
		{"due", with(func(c *credentials.Credential) { c.DueIn = -time.Second }), "due"},
		{"expired", with(expire), "1m0s ago"},
		{"no token yet", with(func(c *credentials.Credential) {
			c.AccessToken, c.DueIn = credentials.Secret{}, 0
		}), "none"},
		{"backing off", with(func(c *credentials.Credential) {
			expire(c)
			c.Failure = credentials.Failure{Class: credentials.ClassTransient, RetryIn: time.Minute}
		}), "next attempt"},
		{"dead", with(die), "dead"},
		{"dead", with(func(c *credentials.Credential) {
			expire(c)
			die(c)
		}), "dead"},
		{"being refreshed", with(leased(20 * time.Second)), "of web-1, ends in 20s"},
		{"interrupted", with(func(c *credentials.Credential) {
			expire(c)
			c.Lease = lease(-3 * time.Second)
		}), "of web-1, ended 3s ago with nothing saved"},
		{"fresh", with(leased(-3 * time.Second)), "of web-1, ended 3s ago with nothing saved"},
	} {
		s := showCredential(test.c, false)
		if lines := s.lines(test.c); s.State != test.want || !strings.Contains(lines, test.line) {
			t.Errorf("got %q; want %q, and %q in\n%s", s.State, test.want, test.line, lines)
		}
	}
}
