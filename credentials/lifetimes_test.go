package credentials_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// lifetimeLatency is how long each exchange of lifetimes takes.
const lifetimeLatency = 2 * time.Second

// lifetimes are those of tokens as a provider gives them, each with the ends that are stored.
var lifetimes = []struct {
	name     string
	lifetime time.Duration
	service  credentials.Service
	expires  time.Duration // after the save; Never for a token that does not expire
	due      time.Duration
}{
	{name: "an hour", lifetime: time.Hour, expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "ten minutes", lifetime: 10 * time.Minute, expires: 598 * time.Second, due: 598 * time.Second * 4 / 5},
	{name: "not said", expires: credentials.Never, due: credentials.Never},
	{name: "not said, but documented", service: credentials.Service{DefaultLifetime: time.Hour},
		expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "said, and documented otherwise", lifetime: time.Hour, service: credentials.Service{DefaultLifetime: time.Minute},
		expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "negative", lifetime: -time.Hour, expires: time.Second, due: time.Second * 4 / 5},
	{name: "most negative", lifetime: math.MinInt64, expires: time.Second, due: time.Second * 4 / 5},
	{name: "for ever", lifetime: credentials.Never, expires: credentials.Never, due: credentials.Never},
	{name: "nearly for ever", lifetime: credentials.Never - 1, expires: credentials.Never - 1 - lifetimeLatency,
		due: credentials.Never - 1 - lifetimeLatency - 5*time.Minute},
	{name: "renewed a minute ahead", lifetime: time.Hour, service: credentials.Service{RefreshAhead: time.Minute},
		expires: time.Hour - lifetimeLatency, due: 59*time.Minute - lifetimeLatency},
	{name: "renewed ahead of half its life", lifetime: time.Hour, service: credentials.Service{RefreshAhead: 2 * time.Hour},
		expires: time.Hour - lifetimeLatency, due: (time.Hour - lifetimeLatency) / 2},
	{name: "longer than the bound", lifetime: 3600 * time.Hour, service: credentials.Service{MaxLifetime: time.Hour},
		expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "for ever, and bounded", lifetime: credentials.Never, service: credentials.Service{MaxLifetime: time.Hour},
		expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "not said, and bounded", service: credentials.Service{MaxLifetime: time.Hour},
		expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "within the bound", lifetime: time.Hour, service: credentials.Service{MaxLifetime: 2 * time.Hour},
		expires: time.Hour - lifetimeLatency, due: 55*time.Minute - lifetimeLatency},
	{name: "renewed ahead of what has no end", service: credentials.Service{RefreshAhead: time.Hour},
		expires: credentials.Never, due: credentials.Never},
}

// Lifetimes that providers give count from when the request was sent, within bounds.
func TestLifetimes(t *testing.T) {
	for _, test := range lifetimes {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
				time.Sleep(lifetimeLatency)
				return credentials.Grant{AccessToken: secret(fmt.Sprint("access ", n)), Lifetime: test.lifetime}, nil
			}
			test.service.Refresher = w.provider
			p := w.start("P", func(s *setup) { s.service = test.service })
			token := p.mustGet(alice)
			row := w.row(alice)
			if row.ExpiresIn != test.expires || row.DueIn != test.due {
				w.Errorf("the row expires in %v, due in %v; want %v, %v", row.ExpiresIn, row.DueIn, test.expires, test.due)
			}
			if row.Refreshed.Took != lifetimeLatency || row.Refreshed.By != "P" {
				w.Errorf("the row was refreshed by %q in %v", row.Refreshed.By, row.Refreshed.Took)
			}
			if test.expires == credentials.Never {
				if !token.Expiry.IsZero() {
					w.Errorf("the token's expiry is %v, want none", token.Expiry)
				}
				time.Sleep(1000 * time.Hour)
				p.ask(alice).is("access 1")
				w.presented(1)
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
	}
}

// A token that does not end still does not when the save has to be repeated.
func TestNoEndOutlivesARepeatedSave(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			return credentials.Grant{AccessToken: secret("access")}, nil
		}
		p := w.start("P")
		p.store.Before(testkit.Save, testkit.Once(testkit.Refuse))
		p.ask(alice).is("access")
		if c := w.row(alice); c.ExpiresIn != credentials.Never || c.RefreshExpiresIn != credentials.Never || c.DueIn != credentials.Never {
			w.Errorf("the row expires in %v, its refresh token in %v, and it is due in %v", c.ExpiresIn, c.RefreshExpiresIn, c.DueIn)
		}
	})
}

// However long a save is on its way, its token ends when it was going to.
func TestSlowSaveMakesNoTokenLiveLonger(t *testing.T) {
	for name, meanwhile := range map[string]func(*world){
		"nobody else came": func(*world) { time.Sleep(40 * time.Minute) },
		"somebody else has claimed": func(w *world) {
			time.Sleep(40 * time.Minute)
			claim := credentials.Claim{ID: "other", Holder: "Q", Lease: time.Hour, TakeOver: w.row(alice).Lease.ID}
			if c, err := w.db.Claim(w.Context(), alice, claim); err != nil || c.Lease.ID != claim.ID {
				w.Errorf("the other's claim: lease of %q, error %v", c.Lease.Holder, err)
			}
		},
	} {
		inWorldOf(t, name, func(w *world) {
			w.seed(alice)
			p := w.start("P")
			p.store.Through(testkit.StoreFunc(func(ctx context.Context, call *testkit.Call) error {
				if call.Method == testkit.Save { // the process is stopped, and the save takes effect
					meanwhile(w)
				}
				return call.Do(context.WithoutCancel(ctx), w.db)
			}))
			p.mustGet(alice)
			if got, most := w.row(alice).ExpiresIn, time.Hour-40*time.Minute; got > most || got < most-time.Minute {
				w.Errorf("the stored token expires in %v, want %v at most: it lives for an hour, and saving it took 40 minutes", got, most)
			}
		})
	}
}

// A token whose life ended during its exchange is served to nobody. The callers get an error that
// says so, and the refresh token is not presented again and again.
func TestTokenThatEndsDuringItsExchange(t *testing.T) {
	for _, lifetime := range []time.Duration{1, time.Second, lifetimeLatency} {
		inWorldOf(t, lifetime.String(), func(w *world) {
			w.seed(alice)
			w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
				time.Sleep(lifetimeLatency)
				return credentials.Grant{AccessToken: secret("brief"), Lifetime: lifetime}, nil
			}
			err := w.start("P").ask(alice).fails(credentials.ErrUnavailable)
			if !strings.Contains(err.Error(), "had expired when it was stored") {
				w.Errorf("got error %v, want the reason", err)
			}
			w.presented(3)
		})
	}
}

// A token is not taken for the cached one since their versions are the same: a fail-over forgot a
// save, and the row has another token under the same version.
func TestTokenOfARepeatedVersion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.mustGet(alice)
		p.store.After(testkit.Get, func(_ context.Context, call *testkit.Call) error {
			call.Credential.AccessToken = secret("another")
			call.Credential.ExpiresIn -= time.Minute
			return nil
		})
		for range 16 { // looks, of which each sees the version that it knows
			time.Sleep(credentials.DefaultRecheck)
			p.mustGet(alice)
		}
		p.ask(alice).is("another")
	})
}

// A store may say of a token which is absent that it does not end.
func TestNoTokenIsNoEndlessToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		p.store.After(testkit.Get, func(_ context.Context, call *testkit.Call) error {
			if call.Credential.AccessToken.IsZero() {
				call.Credential.ExpiresIn = credentials.Never
			}
			return nil
		})
		p.ask(alice).is("access-alice-1")
	})
}

// The grant is saved on top of what is there: a refresh token that the provider does not send again
// stays, with its own end, and so does what it left out of the extras.
func TestGrantIsLaidOverTheOldOne(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{
			RefreshToken: secret("seed"), RefreshLifetime: 24 * time.Hour,
			Extra: map[string]credentials.Secret{"scope": secret("read"), "tenant": secret("one")},
		})
		answers := []credentials.Grant{
			{AccessToken: secret("first"), Lifetime: time.Hour, Extra: map[string]credentials.Secret{"tenant": secret("two"), "new": secret("3")}},
			{AccessToken: secret("second"), RefreshToken: secret("rotated"), RefreshLifetime: 10 * time.Hour},
			{AccessToken: secret("third"), RefreshToken: secret("rotated again")},
			{AccessToken: secret("fourth")},
		}
		w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
			return answers[n-1], nil
		}
		p := w.start("P", anyAge)
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
		w.put(alice, credentials.Grant{AccessToken: secret("short"), RefreshToken: secret("seed"), Lifetime: time.Nanosecond})
		p := w.start("P")
		p.ask(alice).is("short")
		time.Sleep(time.Nanosecond)
		p.ask(alice).is("access-alice-1")
		w.presented(1)
	})
}

// The provider's tokens expire before their save returns. Exchanges go on only while a caller
// waits, and not for ever.
func TestTokenThatExpiresBeforeItIsSaved(t *testing.T) {
	for _, lifetime := range []time.Duration{time.Nanosecond, time.Second} { // expires_in 0 counts as a second, too
		for _, waits := range []bool{true, false} {
			inWorldOf(t, fmt.Sprintf("%v, caller waits: %t", lifetime, waits), func(w *world) {
				w.seed(alice)
				w.provider.Lifetime = lifetime
				p := w.start("P")
				p.store.Before(testkit.Save, testkit.Delay(1500*time.Millisecond))
				ctx, cancel := context.WithCancel(w.Context())
				defer cancel()
				a := p.askWith(ctx, alice)
				w.reaches(time.Second)
				if !waits {
					cancel()
					a.fails(context.Canceled)
					time.Sleep(time.Minute)
					w.presented(1)
					return
				}
				err := a.fails(credentials.ErrUnavailable)
				if !strings.Contains(err.Error(), "expired when it was stored") {
					w.Errorf("%v: does not say why", err)
				}
				a.within(2 * credentials.DefaultLease)
				calls := len(w.provider.record())
				if calls > 3 {
					w.Errorf("one caller cost %d exchanges, want at most 3", calls)
				}
				time.Sleep(time.Minute)
				w.presented(calls) // nobody asks
			})
		}
	}
}

// Close ends such a series with the exchange that is under way.
func TestCloseWhileTokensExpireBeforeTheyAreSaved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = time.Second
		p := w.start("P")
		p.store.Before(testkit.Save, testkit.Delay(1500*time.Millisecond))
		a := p.ask(alice)
		w.reaches(time.Second)
		began := time.Now()
		p.mustClose()
		a.fails(credentials.ErrClosed)
		if took := time.Since(began); took > 2*time.Second {
			w.Errorf("Close took %v", took)
		}
		synctest.Wait()
		w.presented(1)
	})
}
