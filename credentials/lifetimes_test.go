package credentials_test

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// What becomes of the lifetimes that providers give, counted from when the request was sent.
func TestLifetimes(t *testing.T) {
	const latency = 2 * time.Second
	for _, test := range []struct {
		name     string
		lifetime time.Duration
		service  credentials.Service
		expires  time.Duration // after the save; Never for a token that does not expire
		due      time.Duration
	}{
		{name: "an hour", lifetime: time.Hour, expires: time.Hour - latency, due: 55*time.Minute - latency},
		{name: "ten minutes", lifetime: 10 * time.Minute, expires: 598 * time.Second, due: 598 * time.Second * 4 / 5},
		{name: "not said", expires: credentials.Never, due: credentials.Never},
		{name: "not said, but documented", service: credentials.Service{DefaultLifetime: time.Hour},
			expires: time.Hour - latency, due: 55*time.Minute - latency},
		{name: "said, and documented otherwise", lifetime: time.Hour, service: credentials.Service{DefaultLifetime: time.Minute},
			expires: time.Hour - latency, due: 55*time.Minute - latency},
		{name: "negative", lifetime: -time.Hour, expires: time.Second, due: time.Second * 4 / 5},
		{name: "most negative", lifetime: math.MinInt64, expires: time.Second, due: time.Second * 4 / 5},
		{name: "tiny", lifetime: 1, expires: time.Second, due: time.Second * 4 / 5},
		{name: "shorter than the exchange", lifetime: latency, expires: time.Second, due: time.Second * 4 / 5},
		{name: "for ever", lifetime: credentials.Never, expires: credentials.Never, due: credentials.Never},
		{name: "nearly for ever", lifetime: credentials.Never - 1, expires: credentials.Never - 1 - latency,
			due: credentials.Never - 1 - latency - 5*time.Minute},
		{name: "renewed a minute ahead", lifetime: time.Hour, service: credentials.Service{RefreshAhead: time.Minute},
			expires: time.Hour - latency, due: 59*time.Minute - latency},
		{name: "renewed ahead of half its life", lifetime: time.Hour, service: credentials.Service{RefreshAhead: 2 * time.Hour},
			expires: time.Hour - latency, due: (time.Hour - latency) / 2},
		{name: "renewed ahead of what has no end", service: credentials.Service{RefreshAhead: time.Hour},
			expires: credentials.Never, due: credentials.Never},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				w.provider.script = func(_ context.Context, _ credentials.Credential, n int) (credentials.Grant, error) {
					time.Sleep(latency)
					return credentials.Grant{Token: secret(fmt.Sprint("access ", n)), Lifetime: test.lifetime}, nil
				}
				test.service.Refresher = w.provider
				p := w.start("P", func(s *setup) { s.service = test.service })
				token := p.mustGet(alice)
				row := w.row(alice)
				if row.ExpiresIn != test.expires || row.DueIn != test.due {
					w.Errorf("the row expires in %v, due in %v; want %v, %v", row.ExpiresIn, row.DueIn, test.expires, test.due)
				}
				if row.Refreshed.Took != latency || row.Refreshed.By != "P" {
					w.Errorf("the row was refreshed by %q in %v", row.Refreshed.By, row.Refreshed.Took)
				}
				if test.expires == credentials.Never {
					if !token.Expiry.IsZero() {
						w.Errorf("the token's expiry is %v, want none", token.Expiry)
					}
					time.Sleep(1000 * time.Hour)
					p.ask(alice).is("access 1")
					w.calls(1)
					return
				}
				if got := time.Until(token.Expiry); got != test.expires {
					w.Errorf("the token expires in %v, want %v", got, test.expires)
				}
				if test.expires > 24*time.Hour {
					return
				}
				time.Sleep(test.expires - 1)
				p.ask(alice).is("access 1")
				time.Sleep(time.Nanosecond)
				p.ask(alice).is("access 2")
			})
		})
	}
}

// What does not end does not begin to when the save has to be repeated.
func TestNoEndOutlivesARepeatedSave(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
			return credentials.Grant{Token: secret("access")}, nil
		}
		p := w.start("P")
		p.store.on("Save", once(refuse), nil)
		p.ask(alice).is("access")
		if c := w.row(alice); c.ExpiresIn != credentials.Never || c.RefreshExpiresIn != credentials.Never || c.DueIn != credentials.Never {
			w.Errorf("the row expires in %v, its refresh token in %v, and it is due in %v", c.ExpiresIn, c.RefreshExpiresIn, c.DueIn)
		}
	})
}

// stoppedInSave is the store of a process that is stopped in a save, which takes effect when it goes on.
type stoppedInSave struct {
	*memstore.Store
	meanwhile func()
}

func (s stoppedInSave) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	s.meanwhile()
	return s.Store.Save(context.WithoutCancel(ctx), fence, renewal)
}

// However long a save is on its way, its token ends when it was going to.
func TestSlowSaveMakesNoTokenLiveLonger(t *testing.T) {
	for name, meanwhile := range map[string]func(*world){
		"nobody else came": func(*world) { time.Sleep(40 * time.Minute) },
		"somebody else has claimed": func(w *world) {
			time.Sleep(40 * time.Minute)
			claim := credentials.Claim{ID: "other", Holder: "Q", Lease: time.Hour}
			if c, err := w.db.Claim(w.Context(), alice, claim); err != nil || c.Lease.ID != claim.ID {
				w.Errorf("the other's claim: lease of %q, error %v", c.Lease.Holder, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				store := stoppedInSave{w.db, func() { meanwhile(w) }}
				m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: w.provider}}, nil)
				if err != nil {
					w.Fatal(err)
				}
				if _, err := m.Token(w.Context(), alice); err != nil {
					w.Error(err)
				}
				if got, most := w.row(alice).ExpiresIn, time.Hour-40*time.Minute; got > most || got < most-time.Minute {
					w.Errorf("the stored token expires in %v, want %v at most: it lives for an hour, and saving it took 40 minutes", got, most)
				}
			})
		})
	}
}

// forgetful is the store after a fail-over that forgot a save: the row has another token under the same version.
type forgetful struct {
	*memstore.Store
	forgot atomic.Bool
}

func (s *forgetful) Get(ctx context.Context, key credentials.Key) (credentials.Credential, error) {
	c, err := s.Store.Get(ctx, key)
	if s.forgot.Load() {
		c.Token = secret("another")
		c.ExpiresIn -= time.Minute
	}
	return c, err
}

// A token is not taken for the cached one since their versions are the same.
func TestTokenOfARepeatedVersion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		store := &forgetful{Store: w.db}
		m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: w.provider}}, nil)
		if err != nil {
			w.Fatal(err)
		}
		for range 2 { // the first of the later calls has the row looked at
			if _, err := m.Token(w.Context(), alice); err != nil {
				w.Fatal(err)
			}
			store.forgot.Store(true)
			time.Sleep(credentials.DefaultRecheck)
		}
		if token, err := m.Token(w.Context(), alice); err != nil || token.Value.Reveal() != mark+"-another" {
			w.Errorf("got token %q, error %v, want the row's", token.Value.Reveal(), err)
		}
	})
}

// endless is a store that says of a token which is not there that it does not end.
type endless struct{ *memstore.Store }

func (s endless) Get(ctx context.Context, key credentials.Key) (credentials.Credential, error) {
	c, err := s.Store.Get(ctx, key)
	if c.Token.IsZero() {
		c.ExpiresIn = credentials.Never
	}
	return c, err
}

func TestNoTokenIsNoEndlessToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		m, err := credentials.NewManager(endless{w.db}, credentials.Services{"github": {Refresher: w.provider}}, nil)
		if err != nil {
			w.Fatal(err)
		}
		if token, err := m.Token(w.Context(), alice); err != nil || token.Value.Reveal() != mark+"-access-alice-1" {
			w.Errorf("got token %v, error %v", token.Value, err)
		}
	})
}

// The grant is saved on top of what is there: a refresh token that the provider does not send again stays, with its own
// end, and so does what it left out of the extras.
func TestGrantIsLaidOverTheOldOne(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{
			RefreshToken: secret("seed"), RefreshLifetime: 24 * time.Hour,
			Extra: map[string]credentials.Secret{"scope": secret("read"), "tenant": secret("one")},
		})
		answers := []credentials.Grant{
			{Token: secret("first"), Lifetime: time.Hour, Extra: map[string]credentials.Secret{"tenant": secret("two"), "new": secret("3")}},
			{Token: secret("second"), RefreshToken: secret("rotated"), RefreshLifetime: 10 * time.Hour},
			{Token: secret("third"), RefreshToken: secret("rotated again")},
			{Token: secret("fourth")},
		}
		w.provider.script = func(_ context.Context, _ credentials.Credential, n int) (credentials.Grant, error) {
			return answers[n-1], nil
		}
		p := w.start("P")
		has := func(refreshToken string, ends time.Duration) credentials.Token {
			w.Helper()
			token, row := p.mustGet(alice), w.row(alice)
			if got := row.RefreshToken.Reveal(); got != mark+"-"+refreshToken {
				w.Errorf("the refresh token is %s, want %s-%s", got, mark, refreshToken)
			}
			if row.RefreshExpiresIn != ends {
				w.Errorf("the refresh token ends in %v, want %v", row.RefreshExpiresIn, ends)
			}
			for name, want := range map[string]string{"scope": "read", "tenant": "two", "new": "3"} {
				if got := token.Extra(name).Reveal(); got != mark+"-"+want || row.Extra[name].Reveal() != got {
					w.Errorf("extra %q: the token has %q, the row %q, want %s-%s", name, got, row.Extra[name].Reveal(), mark, want)
				}
			}
			if !token.Extra("absent").IsZero() {
				w.Error("the token has an extra that nobody sent")
			}
			return token
		}
		token := has("seed", 24*time.Hour)
		time.Sleep(time.Hour)
		has("rotated", 10*time.Hour)
		p.report(alice, p.mustGet(alice)).is("third")
		has("rotated again", credentials.Never)
		p.report(alice, p.mustGet(alice)).is("fourth")
		has("rotated again", credentials.Never)
		if token.Value.Reveal() != mark+"-first" || token.Extra("tenant").Reveal() != mark+"-two" {
			w.Error("a token that was handed out has changed")
		}
	})
}

// A put without a token is due at once; one that expires soon is served until then.
func TestShortPut(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{Token: secret("short"), RefreshToken: secret("seed"), Lifetime: time.Nanosecond})
		p := w.start("P")
		p.ask(alice).is("short")
		time.Sleep(time.Nanosecond)
		p.ask(alice).is("access-alice-1")
		w.calls(1)
	})
}

// A provider says when to come back: nobody comes earlier, and not all at that moment.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name         string
		after        time.Duration
		least, below time.Duration
	}{
		{"a minute", time.Minute, time.Minute, 66*time.Second + 100*time.Millisecond},
		{"in the past", -time.Hour, time.Second, 1200 * time.Millisecond},
		{"next year", 366 * 24 * time.Hour, 24 * time.Hour, 27 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := make(map[time.Duration]bool)
			for range 20 {
				inWorld(t, func(w *world) {
					w.seed(alice)
					w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
						return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, RetryAt: time.Now().Add(test.after)}
					}
					in := time.Until(w.start("P").ask(alice).failed(credentials.Transient).RetryAt)
					if in < test.least || in >= test.below {
						w.Errorf("RetryAt is in %v, want %v to %v", in, test.least, test.below)
					}
					if row := w.row(alice); row.Failure.RetryIn != in || row.DueIn != in {
						w.Errorf("the row's back-off ends in %v, it is due in %v; want %v", row.Failure.RetryIn, row.DueIn, in)
					}
					seen[in] = true
				})
			}
			if len(seen) < 10 {
				t.Errorf("there is no jitter: %v", seen)
			}
		})
	}
}

// Failures in a row: the pause grows up to its bound, over whichever processes make them, and one success resets it.
func TestBackOffGrows(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		failing := true
		w.provider.script = func(context.Context, credentials.Credential, int) (credentials.Grant, error) {
			if failing {
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient}
			}
			return credentials.Grant{}, errOrdinary
		}
		processes := w.starts(3)
		var longest time.Duration
		for i := range 40 {
			in := time.Until(processes[i%3].ask(alice).failed(credentials.Transient).RetryAt)
			if most := time.Second + min(time.Second<<min(i, 20), 5*time.Minute); in < time.Second || in > most {
				w.Errorf("failure %d: the back-off is %v, want 1 s to %v", i, in, most)
			}
			if count := w.row(alice).Failure.Count; count != i+1 {
				w.Errorf("failure %d is counted as %d", i, count)
			}
			longest = max(longest, in)
			time.Sleep(in)
		}
		if longest < time.Minute {
			w.Errorf("the longest back-off was %v", longest)
		}
		failing = false
		processes[0].ask(alice).is("access-alice-1")
		failing = true
		time.Sleep(time.Hour)
		if in := time.Until(processes[1].ask(alice).failed(credentials.Transient).RetryAt); in > 2*time.Second {
			w.Errorf("after a success the back-off is %v", in)
		}
	})
}
