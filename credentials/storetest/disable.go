package storetest

import (
	"crypto/rand"

	"github.com/latchkey-go/latchkey/credentials"
)

var disableTests = []test{
	{"invariant 15: nobody claims a disabled credential, and it is never due", disableFresh},
	{"the name of whoever disabled it first stays", disableTwice},
	{"an exchange that is under way is saved", disableSave},
	{"the failure of one is recorded", disableFail},
	{"the lease of one that did not begin is given up", disableRelease},
	{"a repeated claim finds its lease", disableClaimAgain},
	{"an exchange of unknown outcome stays one", disableInterrupted},
	{"a lease that was overtaken stays so", disableOvertaken},
	{"invariant 4: a late success is saved", disableLateSave},
	{"invariant 15: a put keeps it disabled", disablePut},
	{"a revived grant stays disabled", disableRevive},
}

var enableTests = []test{
	{"a good token: due at once", enableFresh},
	{"a live lease: due at its end", enableLeased},
	{"a failure: due after the back-off", enableBackingOff},
	{"a dead grant: never due", enableDead},
	{"nothing to present: never due", enableNothing},
	{"one that is enabled stays as it is", enableTwice},
}

// by is an operator's change of the subject as it is now.
func (s *subject) by(operator string) credentials.Change {
	return credentials.Change{Key: s.key, By: operator}
}

// disable disables the credential and returns the row, which must be as it was but for the mark.
func (s *subject) disable() credentials.Credential {
	s.Helper()
	before := s.get()
	if err := s.store.Disable(s.Context(), s.by("ann@host")); err != nil {
		s.Fatalf("Disable: %v", err)
	}
	c := s.get()
	equal(s, "Disabled.By", c.Disabled.By, "ann@host")
	ago(s, "Disabled.Ago", c.Disabled.Ago, 0)
	equal(s, "DueIn", c.DueIn, credentials.Never)
	s.marked(c, before)
	return c
}

// enable enables the credential and returns the row, which must be as it was but for the mark.
func (s *subject) enable() credentials.Credential {
	s.Helper()
	before := s.get()
	if err := s.store.Enable(s.Context(), s.by("bob@host")); err != nil {
		s.Fatalf("Enable: %v", err)
	}
	c := s.get()
	equal(s, "Disabled", c.Disabled, credentials.Mark{})
	s.marked(c, before)
	return c
}

// marked fails the test unless the row is as it was but for a mark.
func (s *subject) marked(c, before credentials.Credential) {
	s.Helper()
	if before.Lease.ID != "" && before.Lease.Version == before.Version {
		before.Lease.Version++
	}
	before.Version++
	before.Disabled, before.DueIn = c.Disabled, c.DueIn
	same(s, "the row but for the mark", c, before)
}

// isDisabled returns the row, which must be disabled and not due.
func (s *subject) isDisabled() credentials.Credential {
	s.Helper()
	c := s.get()
	state(s, c, credentials.StateDisabled)
	equal(s, "DueIn", c.DueIn, credentials.Never)
	return c
}

func disableFresh(s *subject) {
	put := s.put(renewal("put").Grant)
	s.disable()
	s.refused(credentials.Claim{}, credentials.StateDisabled)
	s.refused(credentials.Claim{Invalidated: put.TokenID()}, credentials.StateDisabled)
	seeded := s.account("without a token")
	seeded.seed()
	s.claimDue(s.batch("A", 10), seeded)
	seeded.disable()
	seeded.refused(credentials.Claim{}, credentials.StateDisabled)
	s.claimDue(s.batch("B", 10))
	due, err := s.store.DueServices(s.Context())
	if _, is := due[s.key.Service]; err != nil || is {
		s.Errorf("DueServices: the service is due: %v, error %v", is, err)
	}
	claimed, err := s.store.ClaimAll(s.Context(), []credentials.Key{s.key, seeded.key},
		credentials.Claim{ID: rand.Text(), Holder: "C", Lease: long})
	if err != nil || claimed[0].Err != nil || claimed[1].Err != nil {
		s.Fatalf("ClaimAll: %+v, %v", claimed, err)
	}
	for _, found := range claimed {
		state(s, found.Credential, credentials.StateDisabled)
	}
}

func disableTwice(s *subject) {
	s.seed()
	before := s.disable()
	if err := s.store.Disable(s.Context(), s.by("bob@host")); err != nil {
		s.Errorf("Disable of a disabled credential: %v", err)
	}
	s.unchanged(before)
}

func disableSave(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.disable()
	s.save(a, renewal("A"))
	c := s.isDisabled()
	free(s, c)
	left(s, "ExpiresIn", c.ExpiresIn, renewal("A").Lifetime)
	s.save(a, renewal("A")) // whose reply was lost
	state(s, s.enable(), credentials.StateClaimable)
}

func disableFail(s *subject) {
	for _, class := range []credentials.Class{
		credentials.ClassTransient, credentials.ClassUnknown, credentials.ClassDead,
	} {
		one := s.account(string(class))
		one.seed()
		a := one.claim("A", long)
		one.disable()
		one.fail(a, failure(class))
		c := one.isDisabled()
		equal(s, "Failure.Class", c.Failure.Class, class)
		equal(s, "Failure.By", c.Failure.By, "A")
		equal(s, "Lease", c.Lease, credentials.Lease{})
		equal(s, "interrupted", c.Interrupted.By != "", class == credentials.ClassUnknown)
	}
}

func disableRelease(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.disable()
	s.release(a)
	free(s, s.isDisabled())
	c := s.enable()
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
}

func disableClaimAgain(s *subject) {
	s.seed()
	claim := credentials.Claim{ID: rand.Text(), Holder: "A", Lease: long}
	s.tryClaim(claim)
	s.disable()
	c, made := s.tryClaim(claim)
	if !made {
		s.Errorf("a repeated claim did not find its lease: %+v", steady(c))
	}
	equal(s, "Disabled.By", c.Disabled.By, "ann@host")
	s.save(c, renewal("A"))
}

func disableInterrupted(s *subject) {
	s.seed()
	s.lapsed("A")
	s.disable()
	s.refused(credentials.Claim{TakeOver: s.ended()}, credentials.StateDisabled)
	c := s.enable()
	left(s, "DueIn", c.DueIn, 0)
	equal(s, "Interrupted.By", s.claim("B", long).Interrupted.By, "A")
}

func disableOvertaken(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.claim("B", short)
	s.save(a, renewal("A"))
	s.awaitLapse()
	s.disable()
	s.enable()
	equal(s, "Interrupted.By", s.claimTakingOver("C").Interrupted.By, "")
}

// claimTakingOver claims the credential in the place of the ended lease, though its token is good.
func (s *subject) claimTakingOver(holder string) credentials.Credential {
	s.Helper()
	c, made := s.tryClaim(credentials.Claim{
		Holder: holder, Lease: long, TakeOver: s.ended(), Invalidated: s.get().TokenID(),
	})
	if !made {
		s.Fatalf("Claim by %q in the place of a lease that has ended: refused: %+v", holder, steady(c))
	}
	return c
}

func disableLateSave(s *subject) {
	a, b := s.overlapping()
	s.disable()
	s.save(a, renewal("A"))
	equal(s, "Lease.ID", s.isDisabled().Lease.ID, b.Lease.ID)
	s.failUnderLease(b, failure(credentials.ClassDead))
	equal(s, "Failure.Class", s.isDisabled().Failure.Class, "")
}

func disablePut(s *subject) {
	s.seed()
	s.disable()
	s.put(renewal("put").Grant)
	s.isDisabled()
	if err := s.store.Ensure(s.Context(), s.key, credentials.Grant{}); err != nil {
		s.Errorf("Ensure: %v", err)
	}
	s.isDisabled()
}

func disableRevive(s *subject) {
	s.dies()
	s.disable()
	s.revives(s.revival(), s)
	equal(s, "Failure.Class", s.isDisabled().Failure.Class, "")
	left(s, "DueIn", s.enable().DueIn, 0)
}

func enableFresh(s *subject) {
	s.put(renewal("put").Grant)
	s.disable()
	c := s.enable()
	left(s, "DueIn", c.DueIn, 0)
	s.has(renewal("put").Grant)
	s.claim("A", long)
}

func enableLeased(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.disable()
	c := s.enable()
	left(s, "DueIn", c.DueIn, long)
	state(s, c, credentials.StateLeased)
	s.release(a)
	left(s, "DueIn", s.get().DueIn, 0)
}

func enableBackingOff(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), failure(credentials.ClassTransient))
	s.disable()
	c := s.enable()
	left(s, "DueIn", c.DueIn, failure(credentials.ClassTransient).RetryIn)
	state(s, c, credentials.StateBackingOff)
}

func enableDead(s *subject) {
	s.dies()
	s.disable()
	c := s.enable()
	equal(s, "DueIn", c.DueIn, credentials.Never)
	state(s, c, credentials.StateDead)
}

func enableNothing(s *subject) {
	s.put(credentials.Grant{AccessToken: secret("a token without end")})
	s.disable()
	c := s.enable()
	equal(s, "DueIn", c.DueIn, credentials.Never)
	state(s, c, credentials.StateFresh)
}

func enableTwice(s *subject) {
	before := s.seed()
	if err := s.store.Enable(s.Context(), s.by("bob@host")); err != nil {
		s.Errorf("Enable of an enabled credential: %v", err)
	}
	s.unchanged(before)
}
