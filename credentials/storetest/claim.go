package storetest

import (
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var claimTests = []test{
	{"takes a lease and gives the credential", claimTakes},
	{"made once and found again by its ID", claimIdempotent},
	{"the longest ID and holder", claimLongest},
	{"refused without an ID, and so is its result", claimWithoutID},
	{"refused while fresh", claimFresh},
	{"invariant 1: refused while leased", claimLeased},
	{"invariant 10: refused during a back-off", claimBackingOff},
	{"made when the back-off is over", claimAfterBackOff},
	{"invariant 9: refused when dead", claimDead},
	{"made when the token is due, while it is good", claimDue},
	{"made when the token has expired", claimExpired},
	{"an invalidated token forces one", claimInvalidated},
	{"an invalidated token that is no longer the row's forces none", claimInvalidatedBefore},
	{"an invalidated token that an exchange has just brought forces none", claimTooYoung},
	{"a token that was put is not too young", claimPutTooYoung},
	{"a token that is due, or has expired, is not too young", claimDueTooYoung},
	{"a token that may not be exchanged is not too young", claimNotTooYoung},
	{"made when the lease before has ended", claimAfterLease},
	{"takes over no lease that it does not name", claimNotNamed},
	{"takes over a lease that it names, though live by the store's clock", claimLive},
	{"lets the interrupted holder save until somebody presents", claimAfterTakeover},
	{"takes over a lease that it knows for unused, which is no interruption", claimUnused},
	{"its fence stays what it was under a late success", claimOvertaken},
	{"invariant 8: one credential's state does not matter to another", claimIndependent},
}

func claimTakes(s *subject) {
	before := s.put(credentials.Grant{
		AccessToken: secret("access"), RefreshToken: secret("refresh"),
		Lifetime: time.Hour, RefreshLifetime: 2 * time.Hour, Extra: secrets(map[string]string{"scope": "all"}),
	})
	claim := credentials.Claim{
		ID: rand.Text(), Holder: "host-1 pid 4711", Lease: 40 * time.Minute, Invalidated: before.TokenID(),
	}
	c, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim: refused: %+v", steady(c))
	}
	s.claimed(c, before, claim)
	state(s, s.get(), credentials.StateLeased)
}

// claimed fails the test unless c is the credential that before was, under that claim, and the row
// is the same.
func (s *subject) claimed(c, before credentials.Credential, claim credentials.Claim) {
	s.Helper()
	holds(s, c, credentials.Grant{
		AccessToken: before.AccessToken, RefreshToken: before.RefreshToken, Extra: before.Extra,
	})
	equal(s, "Key", c.Key, s.key)
	equal(s, "Row", c.Row, before.Row)
	hasVersions(s, c, before.Version+1, before.TokenVersion)
	equal(s, "Lease.ID", c.Lease.ID, claim.ID)
	equal(s, "Lease.Holder", c.Lease.Holder, claim.Holder)
	equal(s, "Lease.Version", c.Lease.Version, c.Version)
	ago(s, "Lease.Age", c.Lease.Age, 0)
	left(s, "Lease.EndsIn", c.Lease.EndsIn, claim.Lease)
	left(s, "DueIn", c.DueIn, claim.Lease)
	left(s, "ExpiresIn", c.ExpiresIn, before.ExpiresIn)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, before.RefreshExpiresIn)
	clean(s, c)
	equal(s, "Fence", c.Fence(), credentials.Fence{Key: c.Key, Row: c.Row, Claim: claim.ID, Version: c.Version})
	s.unchanged(c)
	ago(s, "Lease.Age, read again", s.get().Lease.Age, c.Lease.Age)
}

func claimIdempotent(s *subject) {
	s.seed()
	claim := credentials.Claim{ID: rand.Text(), Holder: "A", Lease: long}
	first, made := s.tryClaim(claim)
	if !made {
		s.Fatal("Claim: refused")
	}
	again, made := s.tryClaim(claim)
	if !made {
		s.Errorf("Claim, repeated with its ID: refused: %+v", steady(again))
	}
	same(s, "the credential that the repeated claim returned", again, first)
	equal(s, "Fence of the repeated claim", again.Fence(), first.Fence())
	s.unchanged(first)

	// The repeated claim is a claim in every respect.
	s.save(again, renewal("A"))
}

func claimLongest(s *subject) {
	s.seed()
	claim := credentials.Claim{
		ID: strings.Repeat("Zz09", 8), Holder: strings.Repeat(" ~", 127) + "!", Lease: long,
	}
	c, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim: refused: %+v", steady(c))
	}
	c = s.get()
	equal(s, "Lease.ID", c.Lease.ID, claim.ID)
	equal(s, "Lease.Holder", c.Lease.Holder, claim.Holder)
	s.refused(credentials.Claim{ID: strings.ToLower(claim.ID)}, credentials.StateLeased)
}

// claimWithoutID: a row that nobody holds has no lease ID either, which makes nobody its holder.
func claimWithoutID(s *subject) {
	before := s.seed()
	batch := s.batch("A", 1)
	batch.ID = ""
	ctx, fence := s.Context(), before.Fence()
	for name, call := range map[string]func() error{
		"Claim": func() error {
			_, err := s.store.Claim(ctx, s.key, credentials.Claim{Holder: "A", Lease: long})
			return err
		},
		"ClaimAll": func() error {
			_, err := s.store.ClaimAll(ctx, []credentials.Key{s.key}, credentials.Claim{Holder: "A", Lease: long})
			return err
		},
		"ClaimDue":   func() error { _, err := s.store.ClaimDue(ctx, batch); return err },
		"FindClaims": func() error { _, err := s.store.FindClaims(ctx, batch, 0); return err },
		"Save":       func() error { return s.store.Save(ctx, fence, renewal("A")) },
		"Fail":       func() error { return s.store.Fail(ctx, fence, failure(credentials.ClassDead)) },
		"Release":    func() error { return s.store.Release(ctx, fence) },
	} {
		if err := call(); !errors.Is(err, credentials.ErrNoClaim) {
			s.Errorf("%s: got error %v, want ErrNoClaim", name, err)
		}
	}
	s.unchanged(before)
}

func claimFresh(s *subject) {
	c := s.put(renewal("put").Grant)
	s.refused(credentials.Claim{}, credentials.StateFresh)
	another := credentials.TokenID{Row: c.Row, Version: 1 << 40}
	s.refused(credentials.Claim{Invalidated: another}, credentials.StateFresh)

	s.put(credentials.Grant{AccessToken: secret("does not expire")})
	s.refused(credentials.Claim{}, credentials.StateFresh)
}

func claimLeased(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.refused(credentials.Claim{}, credentials.StateLeased)
	s.refused(credentials.Claim{Invalidated: a.TokenID()}, credentials.StateLeased)
	s.save(a, renewal("A"))

	// A good token under a lease is leased too, whatever the next claim thinks of the token.
	b := s.claimInvalidating("B")
	s.refused(credentials.Claim{}, credentials.StateLeased)
	s.refused(credentials.Claim{Invalidated: b.TokenID()}, credentials.StateLeased)
}

func claimBackingOff(s *subject) {
	for _, class := range []credentials.Class{credentials.ClassTransient, credentials.ClassUnknown} {
		s.seed()
		s.fail(s.claim("A", long), failure(class))
		s.refused(credentials.Claim{}, credentials.StateBackingOff)
	}
	// A token that is turned down does not end a back-off, and a back-off does not keep a good
	// token from callers.
	s.refusedOverToken(failure(credentials.ClassTransient), credentials.StateBackingOff)
}

// refusedOverToken records a failure over a good token, and fails the test unless a claim that
// reports the token as turned down meets that state, and any other claim a fresh credential.
func (s *subject) refusedOverToken(f credentials.Failure, want credentials.State) {
	s.Helper()
	s.put(renewal("put").Grant)
	c := s.fail(s.claimInvalidating("A"), f)
	s.refused(credentials.Claim{Invalidated: c.TokenID()}, want)
	s.refused(credentials.Claim{}, credentials.StateFresh)
}

func claimAfterBackOff(s *subject) {
	s.seed()
	f := failure(credentials.ClassTransient)
	c := s.backedOff(f)
	state(s, c, credentials.StateClaimable)
	c = s.claim("B", long)
	equal(s, "Failure.Count under the next claim", c.Failure.Count, 1)
	equal(s, "Failure.Code under the next claim", c.Failure.Code, f.Code)
	equal(s, "Failure.By under the next claim", c.Failure.By, "A")
}

// backedOff records the failure of a claim by A and waits until its short back-off is over.
func (s *subject) backedOff(f credentials.Failure) credentials.Credential {
	s.Helper()
	f.RetryIn = short
	s.fail(s.claim("A", long), f)
	return s.await("the back-off to end", func(c credentials.Credential) bool { return c.Failure.RetryIn <= 0 })
}

func claimDead(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), failure(credentials.ClassDead))
	s.refused(credentials.Claim{}, credentials.StateDead)
	s.refusedOverToken(failure(credentials.ClassDead), credentials.StateDead)
}

func claimDue(s *subject) {
	s.seed()
	r := renewal("A")
	r.DueIn = short
	s.save(s.claim("A", long), r)
	c := s.await("the token to be due", func(c credentials.Credential) bool { return c.DueIn <= 0 })
	state(s, c, credentials.StateClaimable)
	c = s.claim("B", long)
	holds(s, c, r.Grant)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime)
	left(s, "DueIn", c.DueIn, long)
}

func claimExpired(s *subject) {
	s.put(credentials.Grant{AccessToken: secret("access"), Lifetime: short})
	c := s.await("the token to expire", func(c credentials.Credential) bool { return c.ExpiresIn <= 0 })
	state(s, c, credentials.StateClaimable)
	holds(s, s.claim("A", long), credentials.Grant{AccessToken: secret("access")})

	// An expired token counts as such, also if it is not due.
	s.put(credentials.Grant{})
	r := renewal("A")
	r.Lifetime, r.DueIn = short, credentials.Never
	s.save(s.claim("A", long), r)
	s.await("the token to expire", func(c credentials.Credential) bool { return c.ExpiresIn <= 0 })
	s.claim("B", long)
}

func claimInvalidated(s *subject) {
	s.put(renewal("put").Grant)
	s.refused(credentials.Claim{}, credentials.StateFresh)
	s.claimInvalidating("A")
	equal(s, "Lease.Holder", s.get().Lease.Holder, "A")
}

func claimInvalidatedBefore(s *subject) {
	before := s.seed().TokenID()
	reported := s.save(s.claim("A", long), renewal("A")).TokenID()
	// A caller that reports the token of before finds the new one.
	s.refused(credentials.Claim{Invalidated: before}, credentials.StateFresh)
	s.save(s.claimInvalidating("B"), renewal("A"))
	// The provider has sent the same text again, which is another token nevertheless.
	s.refused(credentials.Claim{Invalidated: reported}, credentials.StateFresh)
}

// tooYoung is a claim that reports c's token, to which that token is too young.
func tooYoung(c credentials.Credential) credentials.Claim {
	return credentials.Claim{Holder: "C", Lease: long, Invalidated: c.TokenID(), MinTokenAge: long}
}

func claimTooYoung(s *subject) {
	s.seed()
	c := s.save(s.claim("A", long), renewal("A"))
	s.refused(tooYoung(c), credentials.StateTooYoung)
	other := tooYoung(c)
	other.Invalidated.Version--
	s.refused(other, credentials.StateFresh)

	// The provider has sent the same text again, which is as young.
	c = s.save(s.claimInvalidating("B"), renewal("A"))
	s.refused(tooYoung(c), credentials.StateTooYoung)

	claim := tooYoung(c)
	claim.MinTokenAge = short
	s.await("the token to be old enough", func(c credentials.Credential) bool { return c.Refreshed.Ago >= short })
	if c, made := s.tryClaim(claim); !made {
		s.Errorf("Claim of a token that is old enough: refused: %+v", steady(c))
	}
}

func claimPutTooYoung(s *subject) {
	c := s.put(renewal("put").Grant)
	for range 2 { // the second time, after an exchange
		claimed, made := s.tryClaim(tooYoung(c))
		if !made {
			s.Fatalf("Claim of a token that was put: refused: %+v", steady(claimed))
		}
		s.refused(tooYoung(s.save(claimed, renewal("A"))), credentials.StateTooYoung)
		c = s.put(renewal("put").Grant)
	}
}

func claimDueTooYoung(s *subject) {
	due, expired := renewalDue("due"), renewal("expired")
	expired.Lifetime = 0
	for _, r := range []credentials.Renewal{due, expired} {
		s.seed()
		c := s.save(s.claim("A", long), r)
		if c, made := s.tryClaim(tooYoung(c)); !made {
			s.Errorf("Claim of a token that is %s: refused: %+v", r.By, steady(c))
		}
	}
}

// claimNotTooYoung: a lease, a back-off and a dead grant say more.
func claimNotTooYoung(s *subject) {
	for class, want := range map[credentials.Class]credentials.State{
		credentials.ClassTransient: credentials.StateBackingOff, credentials.ClassDead: credentials.StateDead,
	} {
		s.seed()
		s.save(s.claim("A", long), renewal("A"))
		b := s.claimInvalidating("B")
		s.refused(tooYoung(b), credentials.StateLeased)
		s.refused(tooYoung(s.fail(b, failure(class))), want)
	}
}

func claimIndependent(s *subject) {
	leased, dead, backingOff := s.fresh(), s.fresh(), s.fresh()
	leased.seed()
	leased.claim("A", long)
	dead.seed()
	dead.fail(dead.claim("A", long), failure(credentials.ClassDead))
	backingOff.seed()
	backingOff.fail(backingOff.claim("A", long), failure(credentials.ClassTransient))
	account := s.under(credentials.Key{Service: leased.key.Service, Account: "bob"})

	for _, free := range []*subject{s, account} {
		free.seed()
		free.save(free.claim("B", long), renewal("B"))
	}
	state(s, leased.get(), credentials.StateLeased)
	state(s, dead.get(), credentials.StateDead)
	state(s, backingOff.get(), credentials.StateBackingOff)
}
