package credentials_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// The condition follows from the row alone, and the first one in the order of the constants counts.
func TestCondition(t *testing.T) {
	type edit = func(c *credentials.Credential)
	due := func(c *credentials.Credential) { c.DueIn = -time.Second }
	expired := func(c *credentials.Credential) { c.ExpiresIn, c.DueIn = 0, -time.Minute }
	noToken := func(c *credentials.Credential) { c.AccessToken, c.ExpiresIn, c.DueIn = credentials.Secret{}, 0, 0 }
	revived := func(c *credentials.Credential) { c.DueIn = time.Minute }
	dead := func(c *credentials.Credential) { c.Failure.Class, c.DueIn = credentials.ClassDead, credentials.Never }
	failed := func(c *credentials.Credential) {
		c.Failure = credentials.Failure{Class: credentials.ClassTransient, RetryIn: time.Minute}
		c.DueIn = time.Minute
	}
	disabled := func(c *credentials.Credential) { c.Disabled.By, c.DueIn = "ann@host", credentials.Never }
	failedBefore := func(c *credentials.Credential) { c.Failure.Class = credentials.ClassUnknown }
	leased := func(endsIn time.Duration) edit {
		return func(c *credentials.Credential) {
			c.Lease = credentials.Lease{ID: "claim", Holder: "web-1", EndsIn: endsIn}
			c.DueIn = endsIn
		}
	}
	for _, test := range []struct {
		name  string
		edits []edit
		want  credentials.Condition
	}{
		{"good", nil, credentials.ConditionFresh},
		{"never expires", []edit{func(c *credentials.Credential) { c.ExpiresIn, c.DueIn = credentials.Never, credentials.Never }}, credentials.ConditionFresh},
		{"good, and its renewal failed", []edit{failed}, credentials.ConditionFresh},
		{"good, and saved late under a lease that has ended", []edit{leased(0), revived}, credentials.ConditionFresh},
		{"due", []edit{due}, credentials.ConditionDue},
		{"due, and failed before", []edit{due, failedBefore}, credentials.ConditionDue},
		{"expired", []edit{expired}, credentials.ConditionExpired},
		{"expired, and revived", []edit{expired, revived}, credentials.ConditionExpired},
		{"no token", []edit{noToken}, credentials.ConditionNoToken},
		{"no token, and revived", []edit{noToken, revived}, credentials.ConditionNoToken},
		{"expired, and failed", []edit{expired, failed}, credentials.ConditionBackingOff},
		{"no token, and failed", []edit{noToken, failed}, credentials.ConditionBackingOff},
		{"dead", []edit{expired, dead}, credentials.ConditionDead},
		{"dead, and the token is good", []edit{dead}, credentials.ConditionDead},
		{"disabled", []edit{disabled}, credentials.ConditionDisabled},
		{"disabled, and dead", []edit{dead, disabled}, credentials.ConditionDisabled},
		{"disabled, and leased", []edit{leased(1), disabled}, credentials.ConditionDisabled},
		{"leased", []edit{leased(1)}, credentials.ConditionRefreshing},
		{"leased without token", []edit{noToken, leased(time.Second)}, credentials.ConditionRefreshing},
		{"leased after a failure", []edit{expired, failedBefore, leased(1)}, credentials.ConditionRefreshing},
		{"leased until now", []edit{leased(0)}, credentials.ConditionInterrupted},
		{"the lease of an expired one has ended", []edit{expired, leased(-time.Second)}, credentials.ConditionInterrupted},
		{"the lease of one without token has ended", []edit{noToken, leased(-time.Second)}, credentials.ConditionInterrupted},
	} {
		c := credentials.Credential{
			AccessToken: secret("access"), RefreshToken: secret("refresh"),
			ExpiresIn: time.Hour, DueIn: 50 * time.Minute, RefreshExpiresIn: credentials.Never,
		}
		for _, edit := range test.edits {
			edit(&c)
		}
		if got := c.Status().Condition; got != test.want {
			t.Errorf("%s: got condition %q, want %q", test.name, got, test.want)
		}
	}
}

// A status has the credential's fields, and no secret.
func TestStatusHasNoSecret(t *testing.T) {
	c := credentials.Credential{
		Key: alice, Row: 3, Version: 7, AccessToken: secret("access"), RefreshToken: secret("refresh"),
		Extra:     map[string]credentials.Secret{"id_token": secret("extra")},
		ExpiresIn: 5, DueIn: 3, RefreshExpiresIn: 9,
		Lease:       credentials.Lease{ID: "claim", Holder: "web-1"},
		Failure:     credentials.Failure{Class: credentials.ClassUnknown, Count: 2},
		Interrupted: credentials.Interruption{By: "web-2"}, Survived: credentials.Interruption{By: "web-3"},
		Refreshed: credentials.Refreshed{By: "web-4"}, Disabled: credentials.Mark{By: "ann@host", Ago: 4},
	}
	want := credentials.Status{
		Key: alice, Condition: credentials.ConditionDisabled, ExpiresIn: 5, DueIn: 3, RefreshExpiresIn: 9,
		Row: 3, Version: 7, Lease: c.Lease, Failure: c.Failure,
		Interrupted: c.Interrupted, Survived: c.Survived, Refreshed: c.Refreshed, Disabled: c.Disabled,
	}
	c.DueIn, want.DueIn = -3, -3
	if got := c.Status(); got != want {
		t.Errorf("got status %+v, want %+v", got, want)
	}
	if shown := leaks(c.Status()); shown != "" {
		t.Errorf("the status shows a secret: %s", shown)
	}
	c.AccessToken, c.ExpiresIn = credentials.Secret{}, credentials.Never
	if got := c.Status().ExpiresIn; got != 0 {
		t.Errorf("without token: got ExpiresIn %v, want 0", got)
	}
}

// Status tells what the row says, and not what the process holds.
func TestStatusIsThatOfTheRow(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		at := func(key credentials.Key, want credentials.Condition) credentials.Status {
			w.Helper()
			cost := p.costs()
			s, err := p.Status(w.Context(), key)
			cost(1)
			if err != nil || s.Condition != want {
				w.Fatalf("got condition %q, error %v, want %q", s.Condition, err, want)
			}
			return s
		}
		w.seed(alice, carol)
		at(alice, credentials.ConditionNoToken)
		p.ask(alice).mustGet()
		s := at(credentials.Key{Service: " GitHub ", Account: alice.Account}, credentials.ConditionFresh)
		if s.Key != alice || s.Refreshed.By != "P" {
			w.Errorf("got the status of %s, refreshed by %q; want %s, P", s.Key, s.Refreshed.By, alice)
		}
		w.put(alice, credentials.Grant{RefreshToken: secret("another")})
		at(alice, credentials.ConditionNoToken)

		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassDead}
		}
		p.ask(carol).fails(credentials.ErrGrantDead)
		at(carol, credentials.ConditionDead)
		w.put(credentials.Key{Service: "unknown"}, credentials.Grant{AccessToken: secret("access"), RefreshToken: secret("of unknown")})
		at(credentials.Key{Service: "unknown"}, credentials.ConditionFresh)
		w.silent(s)
	})
}

// The statuses that are asked for while another is read share one statement.
func TestStatusesAreReadTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob, carol)
		p := w.start("P")
		cost := p.costs()
		p.store.Before(testkit.Get, testkit.Delay(aBatch/2))
		errs := make(chan error)
		for i, key := range []credentials.Key{alice, bob, carol} {
			go func() {
				time.Sleep(time.Duration(i)) // alice is first
				_, err := p.Status(w.Context(), key)
				errs <- err
			}()
		}
		for range 3 {
			if err := <-errs; err != nil {
				w.Error(err)
			}
		}
		cost(2)
	})
}

// The errors of Status are those of Token, and say which credential it was.
func TestStatusErrors(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		fails := func(ctx context.Context, key credentials.Key, want error) {
			w.Helper()
			_, err := p.Status(ctx, key)
			if !errors.Is(err, want) {
				w.Errorf("status of %s: got error %v, want %v", key, err, want)
			}
			w.ended(ctx, err)
		}
		fails(w.Context(), credentials.Key{}, credentials.ErrInvalidKey)
		fails(w.Context(), bob, credentials.ErrNotFound)

		ctx, cancel := context.WithCancelCause(w.Context())
		cancel(errOrdinary)
		cost := p.costs()
		fails(ctx, alice, context.Canceled)
		fails(ctx, alice, errOrdinary)
		synctest.Wait()
		cost(0)

		p.store.Before(testkit.Get, testkit.Hang)
		limited, end := context.WithTimeout(w.Context(), time.Second)
		defer end()
		began := time.Now()
		fails(limited, alice, context.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			w.Errorf("a caller who gave up after 1s waited for %v", took)
		}
		fails(w.Context(), alice, credentials.ErrUnavailable)
		p.store.Heal()
		synctest.Wait()

		p.mustClose()
		cost = p.costs()
		fails(w.Context(), alice, credentials.ErrClosed)
		cost(0)
	})
}
