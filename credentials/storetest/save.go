package storetest

import (
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var saveTests = []test{
	{"stores every field and gives up the lease", saveStores},
	{"a renewal is complete: nothing of the old one is left", saveReplaces},
	{"lifetimes that do not end", saveEndless},
	{"lifetimes that have ended", saveEnded},
	{"lifetimes count from when the holder says", saveFrom},
	{"and from now where that is still to come", saveFromLater},
	{"a success clears the failures before it", saveClearsFailure},
	{"repeated, it finds its own earlier write", saveRepeated},
	{"repeated when the next claim is there already", saveRepeatedUnderNext},
	{"invariant 4: a late success is kept when the lease has ended", saveLate},
	{"invariant 4: a late success is kept while another claim is live", saveLateUnderAnother},
	{"invariant 4: a late success is kept after another's failure", saveLateAfterFailure},
	{"invariant 4: a late success is kept after another's release", saveLateAfterRelease},
	{"invariant 4: the other's later success is stored too", saveBoth},
	{"invariant 4: a success is kept whose claim a fail-over forgot", saveForgotten},
	{"invariant 4: and under the claim that was made instead", saveForgottenUnderAnother},
}

func saveStores(s *subject) {
	seed := s.seed()
	a := s.claim("A", long)
	r := renewal("A")
	r.Extra = secrets(map[string]string{"scope": "read", "instance_url": "https://eu1.example.com"})
	r.RefreshLifetime = 30 * 24 * time.Hour

	c := s.save(a, r)
	equal(s, "Key", c.Key, s.key)
	equal(s, "Row", c.Row, seed.Row)
	hasVersions(s, c, a.Version+1, a.Version)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, r.RefreshLifetime)
	left(s, "DueIn", c.DueIn, r.DueIn)
	free(s, c)
	equal(s, "Refreshed.By", c.Refreshed.By, r.By)
	equal(s, "Refreshed.Took", c.Refreshed.Took, r.Took)
	ago(s, "Refreshed.Ago", c.Refreshed.Ago, 0)
	state(s, c, credentials.StateFresh)
	s.await("the time since the refresh to grow", func(c credentials.Credential) bool {
		return c.Refreshed.Ago >= short
	})
}

// saveFrom: a save that took half an hour to arrive makes no token live longer.
func saveFrom(s *subject) {
	s.seed()
	a := s.claim("A", long)
	r := renewal("A")
	r.RefreshLifetime = 30 * 24 * time.Hour
	const onItsWay = 30 * time.Minute
	r.From = a.ReadAt.Add(-onItsWay)

	c := s.save(a, r)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime-onItsWay)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, r.RefreshLifetime-onItsWay)
	left(s, "DueIn", c.DueIn, r.DueIn-onItsWay)
	ago(s, "Refreshed.Ago", c.Refreshed.Ago, 0)
	s.await("the store's clock to go on", func(later credentials.Credential) bool {
		return later.ReadAt >= c.ReadAt.Add(short)
	})
}

// saveFromLater: the store's clock was set back since the claim.
func saveFromLater(s *subject) {
	s.seed()
	a := s.claim("A", long)
	r := renewal("A")
	r.From = a.ReadAt.Add(24 * time.Hour)
	c := s.save(a, r)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime)
	left(s, "DueIn", c.DueIn, r.DueIn)
}

func saveReplaces(s *subject) {
	s.put(credentials.Grant{
		AccessToken: secret("old"), RefreshToken: secret("old"), Lifetime: time.Hour,
		RefreshLifetime: time.Hour, Extra: secrets(map[string]string{"scope": "old", "old": "yes"}),
	})
	r := renewal("A")
	r.RefreshToken = credentials.Secret{}
	r.Extra = secrets(map[string]string{"scope": "new"})
	c := s.save(s.claimInvalidating("A"), r)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
}

func saveEndless(s *subject) {
	s.seed()
	r := renewal("A")
	r.Lifetime, r.DueIn = credentials.Never, credentials.Never
	endless(s, s.save(s.claim("A", long), r))
}

func saveEnded(s *subject) {
	for _, lifetime := range []time.Duration{0, -time.Second} {
		s.seed()
		r := renewal("A")
		r.Lifetime, r.RefreshLifetime, r.DueIn = lifetime, lifetime, lifetime
		c := s.save(s.claim("A", long), r)
		// A store may take a time that has passed for now.
		left(s, "ExpiresIn", c.ExpiresIn, 0)
		left(s, "RefreshExpiresIn", c.RefreshExpiresIn, 0)
		left(s, "DueIn", c.DueIn, 0)
		state(s, c, credentials.StateClaimable)
	}
}

func saveClearsFailure(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), failureNow(credentials.ClassTransient))
	s.fail(s.claim("B", long), failureNow(credentials.ClassTransient))
	free(s, s.save(s.claim("C", long), renewal("C")))
}

func saveRepeated(s *subject) {
	s.seed()
	a := s.claim("A", long)
	r := renewal("A")
	before := s.save(a, r)
	s.save(a, r)
	s.unchanged(before)

	// If either token differs, it is another result.
	r.AccessToken = secret("another token")
	s.saveMisses(a, r)
	r = renewal("A")
	r.RefreshToken = secret("another refresh token")
	s.saveMisses(a, r)
}

func saveRepeatedUnderNext(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.save(a, renewal("A"))
	b := s.claimInvalidating("B")
	s.save(a, renewal("A"))
	s.unchanged(b)
	s.save(b, renewal("B"))
	s.saveMisses(a, renewal("A"))
}

func saveLate(s *subject) {
	s.seed()
	a := s.lapsed("A")
	c := s.save(a, renewal("A"))
	hasVersions(s, c, a.Version+1, a.Version)
	free(s, c)
	state(s, c, credentials.StateFresh)
}

func saveLateUnderAnother(s *subject) {
	a, b := s.lateUnderAnother()
	c := s.get()
	hasVersions(s, c, b.Version+1, a.Version)
	equal(s, "Refreshed.By", c.Refreshed.By, "A")
	left(s, "ExpiresIn", c.ExpiresIn, renewal("A").Lifetime)
	left(s, "DueIn", c.DueIn, renewal("A").DueIn)
	clean(s, c)

	equal(s, "Lease.ID, the other's", c.Lease.ID, b.Lease.ID)
	equal(s, "Lease.Holder, the other's", c.Lease.Holder, "B")
	left(s, "Lease.EndsIn, the other's", c.Lease.EndsIn, b.Lease.EndsIn)
	ago(s, "Lease.Age, the other's", c.Lease.Age, b.Lease.Age)
	state(s, c, credentials.StateLeased)

	// The save is repeated, since its reply may be lost as well.
	s.save(a, renewal("A"))
	s.unchanged(c)
}

func saveLateAfterFailure(s *subject) {
	for _, class := range classes {
		a, b := s.overlapping()
		before := s.fail(b, failure(class))
		c := s.save(a, renewal("A"))
		equal(s, "Version", c.Version, before.Version+1)
		free(s, c)
		state(s, c, credentials.StateFresh)
	}
}

func saveLateAfterRelease(s *subject) {
	a, b := s.overlapping()
	s.release(b)
	free(s, s.save(a, renewal("A")))
}

func saveBoth(s *subject) {
	a, b := s.lateUnderAnother()
	before := s.get()
	c := s.save(b, renewal("B"))
	hasVersions(s, c, before.Version+1, b.Version)
	free(s, c)
	s.saveMisses(a, renewal("A"))
}

// forgotten returns the fence of a claim that a fail-over lost: the row knows neither its ID nor
// its version.
func forgotten(c credentials.Credential, ahead uint64) credentials.Credential {
	c.Version += ahead
	c.Lease.ID, c.Lease.Version = "forgotten", c.Version
	return c
}

func saveForgotten(s *subject) {
	for _, ahead := range []uint64{1, 2, 7} {
		seed := s.seed()
		lost := forgotten(seed, ahead)
		c := s.save(lost, renewal("A"))
		hasVersions(s, c, seed.Version+ahead+1, seed.Version+ahead)
		free(s, c)

		// Claims and puts made since are later than the lost claim.
		s.save(lost, renewal("A"))
		s.unchanged(c)
		s.save(s.claimInvalidating("B"), renewal("B"))
		s.saveMisses(lost, renewal("A"))
	}
}

func saveForgottenUnderAnother(s *subject) {
	// The versions of the lost claim and of the one made instead are the same, or even in the wrong
	// order.
	for _, ahead := range []uint64{1, 2} {
		seed := s.seed()
		b := s.claim("B", long)
		lost := forgotten(seed, ahead)
		c := s.save(lost, renewal("A"))
		equal(s, "Lease.ID, the other's", c.Lease.ID, b.Lease.ID)
		hasVersions(s, c, max(b.Version, lost.Version)+1, lost.Version)

		// B's success is stored under its lease, whatever the versions say.
		c = s.save(b, renewal("B"))
		equal(s, "TokenVersion, which must not fall", c.TokenVersion, lost.Version)
		equal(s, "Version after both", c.Version, max(b.Version, lost.Version)+2)
		free(s, c)
	}
}
