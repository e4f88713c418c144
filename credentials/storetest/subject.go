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

	// brief is the time of a call whose row may be gone. A store takes a part of the time to
	// believe that.
	brief = time.Second

	// patience is how long something is waited for that must come soon.
	patience = 30 * time.Second
)

// subject is one credential in a store, with methods that act on it and fail the test themselves.
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

// put stores the grant and returns the row, which must hold it.
func (s *subject) put(g credentials.Grant) credentials.Credential {
	s.Helper()
	if err := s.store.Put(s.Context(), s.key, g); err != nil {
		s.Fatalf("Put(%v): %v", s.key, err)
	}
	return s.has(g)
}

// seed puts a refresh token without access token, which is due at once.
func (s *subject) seed() credentials.Credential {
	s.Helper()
	return s.put(credentials.Grant{RefreshToken: secret("seed's refresh token")})
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

// ended returns the ID of the lease that stands in the row and has ended, "" if there is none.
func (s *subject) ended() string {
	s.Helper()
	return ended(s.get().Lease)
}

// claim makes a claim that must succeed, and may take over a lease that has ended.
func (s *subject) claim(holder string, lease time.Duration) credentials.Credential {
	s.Helper()
	claim := credentials.Claim{Holder: holder, Lease: lease, TakeOver: s.ended()}
	c, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim by %q: refused, the state is %v: %+v", holder, stateName(c.State(claim)), steady(c))
	}
	return c
}

// claimInvalidating makes a claim that reports the row's token as turned down, and must succeed.
func (s *subject) claimInvalidating(holder string) credentials.Credential {
	s.Helper()
	claim := credentials.Claim{Holder: holder, Lease: long, Invalidated: s.get().TokenID()}
	c, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim by %q with the row's token invalidated: refused: %+v", holder, steady(c))
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
	if got := c.State(claim); got != want {
		s.Errorf("Claim: returned a credential in state %v, want %v", stateName(got), stateName(want))
	}
	same(s, "the credential that the refused claim returned", c, before)
	s.unchanged(before)
}

// lapsed makes a claim and waits until its lease has ended, with nothing saved.
func (s *subject) lapsed(holder string) credentials.Credential {
	s.Helper()
	c := s.claim(holder, short)
	s.awaitLapse()
	return c
}

// overlapping seeds the credential and makes two claims: A's, whose lease has ended with nothing
// saved, and B's, which is live.
func (s *subject) overlapping() (a, b credentials.Credential) {
	s.Helper()
	s.seed()
	return s.lapsed("A"), s.claim("B", long)
}

// lateUnderAnother returns two overlapping claims after the earlier one's success was saved.
func (s *subject) lateUnderAnother() (a, b credentials.Credential) {
	s.Helper()
	a, b = s.overlapping()
	s.save(a, renewal("A"))
	return a, b
}

// awaitLapse waits until the row's lease has ended.
func (s *subject) awaitLapse() credentials.Credential {
	s.Helper()
	return s.await("the lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
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

// save stores the success and returns the row, which must hold it.
func (s *subject) save(of credentials.Credential, r credentials.Renewal) credentials.Credential {
	s.Helper()
	if err := s.store.Save(s.Context(), of.Fence(), r); err != nil {
		s.Fatalf("Save of %s: %v; the row: %+v", r.AccessToken.Reveal(), err, steady(s.get()))
	}
	return s.has(r.Grant)
}

// saveMisses saves a success that must be superseded, and the row left as it is.
func (s *subject) saveMisses(of credentials.Credential, r credentials.Renewal) {
	s.Helper()
	before := s.get()
	err := s.settled(func(ctx context.Context) error { return s.store.Save(ctx, of.Fence(), r) })
	if !errors.Is(err, credentials.ErrSuperseded) {
		s.Errorf("Save of %s: got error %v, want ErrSuperseded; the row before: %+v",
			r.AccessToken.Reveal(), err, steady(before))
	}
	s.unchanged(before)
}

// settled makes the call, and repeats it after an answer that leaves the outcome open.
func (s *subject) settled(call func(ctx context.Context) error) error {
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(s.Context(), brief)
		err := call(ctx)
		cancel()
		if !errors.Is(err, credentials.ErrUnavailable) || time.Now().After(deadline) {
			return err
		}
	}
}

// failForgotten records a failure whose claim the row never saw. A fail-over has forgotten the
// claim, or a server is behind: a store that cannot tell the two apart gives no final answer.
func (s *subject) failForgotten(of credentials.Credential, f credentials.Failure) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), brief)
	defer cancel()
	err := s.store.Fail(ctx, of.Fence(), f)
	if !errors.Is(err, credentials.ErrSuperseded) && !errors.Is(err, credentials.ErrUnavailable) {
		s.Errorf("Fail (%s): got error %v, want ErrSuperseded or ErrUnavailable; the row: %+v",
			f.Class, err, steady(s.get()))
	}
}

// fail records the failure and returns the row.
func (s *subject) fail(of credentials.Credential, f credentials.Failure) credentials.Credential {
	s.Helper()
	if err := s.store.Fail(s.Context(), of.Fence(), f); err != nil {
		s.Fatalf("Fail (%s): %v; the row: %+v", f.Class, err, steady(s.get()))
	}
	return s.get()
}

// failMisses records a failure that must be superseded, and the row left as it is.
func (s *subject) failMisses(of credentials.Credential, f credentials.Failure) {
	s.Helper()
	before := s.get()
	s.failUnderLease(of, f)
	s.unchanged(before)
}

// failUnderLease records a failure that must be superseded. The claim may give up its own lease.
func (s *subject) failUnderLease(of credentials.Credential, f credentials.Failure) {
	s.Helper()
	err := s.settled(func(ctx context.Context) error { return s.store.Fail(ctx, of.Fence(), f) })
	if !errors.Is(err, credentials.ErrSuperseded) {
		s.Errorf("Fail (%s): got error %v, want ErrSuperseded; the row: %+v",
			f.Class, err, steady(s.get()))
	}
}

func (s *subject) release(of credentials.Credential) {
	s.Helper()
	err := s.settled(func(ctx context.Context) error { return s.store.Release(ctx, of.Fence()) })
	if err != nil {
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

// has returns the row, and fails the test unless it holds the grant.
func (s *subject) has(g credentials.Grant) credentials.Credential {
	s.Helper()
	c := s.get()
	holds(s, c, g)
	return c
}

// holds fails the test unless c has the grant's tokens and extras.
func holds(s *subject, c credentials.Credential, g credentials.Grant) {
	s.Helper()
	if got, want := c.AccessToken.Reveal(), g.AccessToken.Reveal(); got != want {
		s.Errorf("Token: got %q, want %q", clip(got), clip(want))
	}
	if got, want := c.RefreshToken.Reveal(), g.RefreshToken.Reveal(); got != want {
		s.Errorf("RefreshToken: got %q, want %q", clip(got), clip(want))
	}
	if got, want := reveal(c.Extra), reveal(g.Extra); !maps.Equal(got, want) {
		s.Errorf("Extra: got %q, want %q", got, want)
	}
}
