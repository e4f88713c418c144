package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/latchkey-go/latchkey/credentials"
)

// shown is a credential as it is printed. Durations are in seconds, from when the row was read. A
// duration is absent where there is no end or nothing happened, and a token where there is none or
// none was read.
type shown struct {
	Service      string            `json:"service"`
	Account      string            `json:"account"`
	State        string            `json:"state"`
	Token        string            `json:"token,omitempty"`
	RefreshToken string            `json:"refresh_token,omitempty"`
	Extra        map[string]string `json:"extra,omitempty"`

	ExpiresIn        *float64 `json:"expires_in,omitempty"`
	DueIn            *float64 `json:"due_in,omitempty"`
	RefreshExpiresIn *float64 `json:"refresh_expires_in,omitempty"`
	Version          uint64   `json:"version"`

	Lease       *shownLease   `json:"lease,omitempty"`
	Failure     *shownFailure `json:"failure,omitempty"`
	Interrupted *shownEvent   `json:"interrupted,omitempty"`
	Survived    *shownEvent   `json:"survived,omitempty"`
	Refreshed   *shownEvent   `json:"refreshed,omitempty"`
	Disabled    *shownEvent   `json:"disabled,omitempty"`
}

type shownLease struct {
	Holder string  `json:"holder"`
	EndsIn float64 `json:"ends_in"`
}

type shownFailure struct {
	Class   string  `json:"class"`
	Code    string  `json:"code,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	Count   int     `json:"count"`
	By      string  `json:"by"`
	Ago     float64 `json:"ago"`
	RetryIn float64 `json:"retry_in"`
}

type shownEvent struct {
	By     string  `json:"by"`
	Ago    float64 `json:"ago"`
	TookMS float64 `json:"took_ms,omitempty"`
}

func showCredential(c credentials.Credential, reveal bool) shown {
	s := showStatus(c.Status())
	s.addSecrets(c, reveal)
	return s
}

// addSecrets adds the tokens, or says that they are there.
func (s *shown) addSecrets(c credentials.Credential, reveal bool) {
	s.Token, s.RefreshToken = show(c.AccessToken, reveal), show(c.RefreshToken, reveal)
	if len(c.Extra) > 0 {
		s.Extra = make(map[string]string, len(c.Extra))
		for name, value := range c.Extra {
			s.Extra[name] = show(value, reveal)
		}
	}
}

func showStatus(c credentials.Status) shown {
	s := shown{
		Service: c.Key.Service, Account: c.Key.Account, State: string(c.Condition),
		Version: c.Version, DueIn: seconds(c.DueIn), RefreshExpiresIn: seconds(c.RefreshExpiresIn),
	}
	if c.ExpiresIn != 0 {
		s.ExpiresIn = seconds(c.ExpiresIn)
	}
	if c.Lease.ID != "" {
		s.Lease = &shownLease{Holder: c.Lease.Holder, EndsIn: c.Lease.EndsIn.Seconds()}
	}
	if f := c.Failure; f.Class != "" {
		s.Failure = &shownFailure{
			Class: string(f.Class), Code: f.Code, Reason: f.Reason, Count: f.Count, By: f.By,
			Ago: f.Ago.Seconds(), RetryIn: max(0, f.RetryIn.Seconds()),
		}
	}
	if c.Interrupted.By != "" {
		s.Interrupted = &shownEvent{By: c.Interrupted.By, Ago: c.Interrupted.Ago.Seconds()}
	}
	if c.Survived.By != "" {
		s.Survived = &shownEvent{By: c.Survived.By, Ago: c.Survived.Ago.Seconds()}
	}
	if c.Disabled.By != "" {
		s.Disabled = &shownEvent{By: c.Disabled.By, Ago: c.Disabled.Ago.Seconds()}
	}
	if c.Refreshed.By != "" {
		s.Refreshed = &shownEvent{
			By: c.Refreshed.By, Ago: c.Refreshed.Ago.Seconds(), TookMS: c.Refreshed.Took.Seconds() * 1000,
		}
	}
	return s
}

// lines is the credential for people.
func (s shown) lines(c credentials.Credential) string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, value string) { _, _ = fmt.Fprintf(out, "%s\t%s\n", name, value) }
	line("credential", c.Key.String())
	line("state", s.State)
	if s.Disabled != nil {
		line("disabled", fmt.Sprintf("%s by %s", in(-c.Disabled.Ago), c.Disabled.By))
	}
	line("token", orNone(s.Token))
	line("refresh token", orNone(s.RefreshToken))
	for _, name := range slices.Sorted(maps.Keys(s.Extra)) {
		line("extra "+printableName(name), s.Extra[name])
	}
	if !c.AccessToken.IsZero() {
		line("expires", in(c.ExpiresIn))
	}
	line("due", in(c.DueIn))
	if c.RefreshExpiresIn != credentials.Never {
		line("refresh token expires", in(c.RefreshExpiresIn))
	}
	switch {
	case c.Lease.Live():
		line("lease", fmt.Sprintf("of %s, ends %s", c.Lease.Holder, in(c.Lease.EndsIn)))
	case s.Lease != nil:
		line("lease", fmt.Sprintf("of %s, ended %s with nothing saved: the outcome is unknown",
			c.Lease.Holder, in(c.Lease.EndsIn)))
	}
	if s.Refreshed != nil {
		line("refreshed", fmt.Sprintf("%s by %s, took %s",
			in(-c.Refreshed.Ago), c.Refreshed.By, span(c.Refreshed.Took)))
	}
	if s.Interrupted != nil {
		line("interrupted", fmt.Sprintf("an exchange of %s, begun %s, whose outcome is unknown",
			c.Interrupted.By, in(-c.Interrupted.Ago)))
	}
	if s.Survived != nil {
		line("survived", fmt.Sprintf("an exchange of %s, begun %s, whose outcome is unknown, by one success",
			c.Survived.By, in(-c.Survived.Ago)))
	}
	if f := c.Failure; f.Class != "" {
		text := fmt.Sprintf("%s %s %s", f.Class, f.Code, f.Reason)
		line("failure", strings.Join(strings.Fields(text), " "))
		line("failed", fmt.Sprintf("%s, last %s by %s", count(f.Count, "time"), in(-f.Ago), f.By))
		if f.RetryIn > 0 {
			line("next attempt", in(f.RetryIn))
		}
	}
	_ = out.Flush() // to a strings.Builder
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
