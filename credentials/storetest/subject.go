package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

const (
	// long is a lease or back-off that does not end while a test runs.
	long = time.Hour

	// short is one that is waited for.
	short = 5 * time.Millisecond

	// slack is how much time may pass between two calls, on a busy machine.
	slack = 5 * time.Minute

	// patience is how long something is waited for that must come soon.
	patience = 30 * time.Second
)

// subject is one credential in a store, and what the tests do to it. Its methods fail the test themselves.
type subject struct {
	*testing.T
	store Store
	key   credentials.Key
}

// newSubject returns a subject under a key that nobody else uses; there is no credential yet.
func newSubject(t *testing.T, store Store) *subject {
	service := "storetest." + strings.ToLower(rand.Text())
	return (&subject{T: t, store: store}).under(credentials.Key{Service: service, Account: "alice"})
}

// under returns a subject in the same store under another key.
func (s *subject) under(key credentials.Key) *subject {
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.store.Delete(ctx, key); err != nil && !errors.Is(err, credentials.ErrNotFound) {
			s.Errorf("Delete(%v) at the test's end: %v", key, err)
		}
	})
	return &subject{T: s.T, store: s.store, key: key}
}

// fresh returns a subject in the same store under a key that nobody else uses.
func (s *subject) fresh() *subject { return newSubject(s.T, s.store) }

func (s *subject) get() credentials.Credential {
	s.Helper()
	c, err := s.store.Get(s.Context(), s.key)
	if err != nil {
		s.Fatalf("Get(%v): %v", s.key, err)
	}
	return c
}

func (s *subject) put(g credentials.Grant) {
	s.Helper()
	if err := s.store.Put(s.Context(), s.key, g); err != nil {
		s.Fatalf("Put(%v): %v", s.key, err)
	}
}

// seed puts a refresh token without access token, which is due at once.
func (s *subject) seed() credentials.Credential {
	s.Helper()
	s.put(credentials.Grant{RefreshToken: credentials.NewSecret("seed's refresh token")})
	return s.get()
}

// tryClaim makes a claim that may be refused; an empty ID is filled in.
func (s *subject) tryClaim(claim credentials.Claim) (c credentials.Credential, made bool) {
	s.Helper()
	if claim.ID == "" {
		claim.ID = rand.Text()
	}
	c, err := s.store.Claim(s.Context(), s.key, claim)
	if err != nil {
		s.Fatalf("Claim(%v) by %q: %v", s.key, claim.Holder, err)
	}
	return c, c.Lease.ID == claim.ID
}

// claim makes a claim that must succeed.
func (s *subject) claim(holder string, lease time.Duration) credentials.Credential {
	s.Helper()
	c, made := s.tryClaim(credentials.Claim{Holder: holder, Lease: lease})
	if !made {
		s.Fatalf("Claim by %q: refused, the state is %v: %+v", holder, stateName(c.State(credentials.Secret{})), steady(c))
	}
	return c
}

// refused makes a claim that must be refused, in that state, and leave the row as it is.
func (s *subject) refused(claim credentials.Claim, want credentials.State) {
	s.Helper()
	before := s.get()
	claim.Holder, claim.Lease = "refused", long
	c, made := s.tryClaim(claim)
	if made {
		s.Fatalf("Claim: made, want it refused; before: %+v", steady(before))
	}
	if got := c.State(claim.Rejected); got != want {
		s.Errorf("Claim: returned a credential in state %v, want %v", stateName(got), stateName(want))
	}
	same(s, "the credential that the refused claim returned", c, before)
	s.unchanged(before)
}

// lapsed makes a claim and waits until its lease has ended, with nothing saved.
func (s *subject) lapsed(holder string) credentials.Credential {
	s.Helper()
	c := s.claim(holder, short)
	s.await("the lease of "+holder+" to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	return c
}

// await reads the credential until it is as wanted.
func (s *subject) await(what string, ok func(credentials.Credential) bool) credentials.Credential {
	s.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c := s.get()
		if ok(c) {
			return c
		}
		if time.Now().After(deadline) {
			s.Fatalf("waited %v for %s; now: %+v", patience, what, steady(c))
		}
	}
}

func (s *subject) save(of credentials.Credential, r credentials.Renewal) {
	s.Helper()
	if err := s.store.Save(s.Context(), of.Fence(), r); err != nil {
		s.Fatalf("Save of %s: %v; the row: %+v", r.Token.Reveal(), err, steady(s.get()))
	}
}

// saveMisses saves what must be superseded, and the row left as it is.
func (s *subject) saveMisses(of credentials.Credential, r credentials.Renewal) {
	s.Helper()
	before := s.get()
	if err := s.store.Save(s.Context(), of.Fence(), r); !errors.Is(err, credentials.ErrSuperseded) {
		s.Errorf("Save of %s: got error %v, want ErrSuperseded; the row before: %+v", r.Token.Reveal(), err, steady(before))
	}
	s.unchanged(before)
}

func (s *subject) fail(of credentials.Credential, f credentials.Failure) {
	s.Helper()
	if err := s.store.Fail(s.Context(), of.Fence(), f); err != nil {
		s.Fatalf("Fail (%s): %v; the row: %+v", f.Class, err, steady(s.get()))
	}
}

// failMisses records a failure that must be superseded.
func (s *subject) failMisses(of credentials.Credential, f credentials.Failure) {
	s.Helper()
	if err := s.store.Fail(s.Context(), of.Fence(), f); !errors.Is(err, credentials.ErrSuperseded) {
		s.Errorf("Fail (%s): got error %v, want ErrSuperseded; the row: %+v", f.Class, err, steady(s.get()))
	}
}

func (s *subject) release(of credentials.Credential) {
	s.Helper()
	if err := s.store.Release(s.Context(), of.Fence()); err != nil {
		s.Fatalf("Release: %v", err)
	}
}

func (s *subject) delete() {
	s.Helper()
	if err := s.store.Delete(s.Context(), s.key); err != nil {
		s.Fatalf("Delete(%v): %v", s.key, err)
	}
}

// unchanged fails the test if anything was written to the credential since before.
func (s *subject) unchanged(before credentials.Credential) {
	s.Helper()
	same(s, "the row", s.get(), before)
}

// has fails the test unless the credential holds what r brought.
func (s *subject) has(r credentials.Renewal) credentials.Credential {
	s.Helper()
	c := s.get()
	holds(s, c, r.Grant)
	return c
}

// holds fails the test unless c has the grant's tokens and extras.
func holds(s *subject, c credentials.Credential, g credentials.Grant) {
	s.Helper()
	if got, want := c.Token.Reveal(), g.Token.Reveal(); got != want {
		s.Errorf("Token: got %q, want %q", clip(got), clip(want))
	}
	if got, want := c.RefreshToken.Reveal(), g.RefreshToken.Reveal(); got != want {
		s.Errorf("RefreshToken: got %q, want %q", clip(got), clip(want))
	}
	if got, want := reveal(c.Extra), reveal(g.Extra); !maps.Equal(got, want) {
		s.Errorf("Extra: got %q, want %q", got, want)
	}
}
