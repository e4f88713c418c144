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
	s.save(a, r)

	c := s.has(r)
	equal(s, "Key", c.Key, s.key)
	equal(s, "Row", c.Row, seed.Row)
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, a.Version)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, r.RefreshLifetime)
	left(s, "DueIn", c.DueIn, r.DueIn)
	free(s, c)
	equal(s, "Refreshed.By", c.Refreshed.By, r.By)
	equal(s, "Refreshed.Took", c.Refreshed.Took, r.Took)
	ago(s, "Refreshed.Ago", c.Refreshed.Ago, 0)
	state(s, c, credentials.Fresh)
	s.await("the time since the refresh to grow", func(c credentials.Credential) bool { return c.Refreshed.Ago >= short })
}

// saveFrom: a save that took half an hour to arrive makes no token live longer.
func saveFrom(s *subject) {
	s.seed()
	a := s.claim("A", long)
	r := renewal("A")
	r.RefreshLifetime = 30 * 24 * time.Hour
	const onItsWay = 30 * time.Minute
	r.From = a.ReadAt.Add(-onItsWay)
	s.save(a, r)

	c := s.has(r)
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
	s.save(a, r)

	c := s.has(r)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime)
	left(s, "DueIn", c.DueIn, r.DueIn)
}

func saveReplaces(s *subject) {
	s.put(credentials.Grant{
		Token: credentials.NewSecret("old"), RefreshToken: credentials.NewSecret("old"), Lifetime: time.Hour,
		RefreshLifetime: time.Hour, Extra: secrets(map[string]string{"scope": "old", "old": "yes"}),
	})
	c, _ := s.tryClaim(credentials.Claim{Holder: "A", Lease: long, Rejected: credentials.NewSecret("old")})
	r := renewal("A")
	r.RefreshToken = credentials.Secret{}
	r.Extra = secrets(map[string]string{"scope": "new"})
	s.save(c, r)
	equal(s, "RefreshExpiresIn", s.has(r).RefreshExpiresIn, credentials.Never)
}

func saveEndless(s *subject) {
	s.seed()
	r := renewal("A")
	r.Lifetime, r.DueIn = credentials.Never, credentials.Never
	s.save(s.claim("A", long), r)
	c := s.has(r)
	equal(s, "ExpiresIn", c.ExpiresIn, credentials.Never)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
	equal(s, "DueIn", c.DueIn, credentials.Never)
	state(s, c, credentials.Fresh)
}

func saveEnded(s *subject) {
	for _, lifetime := range []time.Duration{0, -time.Second} {
		s.seed()
		r := renewal("A")
		r.Lifetime, r.RefreshLifetime, r.DueIn = lifetime, lifetime, lifetime
		s.save(s.claim("A", long), r)
		c := s.has(r)
		// A store may take what ended a while ago as ended now.
		left(s, "ExpiresIn", c.ExpiresIn, 0)
		left(s, "RefreshExpiresIn", c.RefreshExpiresIn, 0)
		left(s, "DueIn", c.DueIn, 0)
		state(s, c, credentials.Claimable)
	}
}

func saveClearsFailure(s *subject) {
	s.seed()
	f := failure(credentials.Transient)
	f.RetryIn = 0
	s.fail(s.claim("A", long), f)
	s.fail(s.claim("B", long), f)
	s.save(s.claim("C", long), renewal("C"))
	free(s, s.has(renewal("C")))
}

func saveRepeated(s *subject) {
	s.seed()
	a := s.claim("A", long)
	r := renewal("A")
	s.save(a, r)
	before := s.get()
	s.save(a, r)
	s.unchanged(before)

	// Not so if either token differs: then it is another result.
	r.Token = credentials.NewSecret("another token")
	s.saveMisses(a, r)
	r = renewal("A")
	r.RefreshToken = credentials.NewSecret("another refresh token")
	s.saveMisses(a, r)
}

func saveRepeatedUnderNext(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.save(a, renewal("A"))
	b, made := s.tryClaim(credentials.Claim{Holder: "B", Lease: long, Rejected: renewal("A").Token})
	if !made {
		s.Fatal("Claim with the row's token rejected: refused")
	}
	s.save(a, renewal("A"))
	s.unchanged(b)
	s.save(b, renewal("B"))
	s.has(renewal("B"))
	s.saveMisses(a, renewal("A"))
}

func saveLate(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.save(a, renewal("A"))
	c := s.has(renewal("A"))
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, a.Version)
	free(s, c)
	state(s, c, credentials.Fresh)
}

// lateUnderAnother returns the claims of A, whose success was saved late, and of B, whose lease is live.
func lateUnderAnother(s *subject) (a, b credentials.Credential) {
	s.Helper()
	s.seed()
	a = s.lapsed("A")
	b = s.claim("B", long)
	s.save(a, renewal("A"))
	return a, b
}

func saveLateUnderAnother(s *subject) {
	a, b := lateUnderAnother(s)
	c := s.has(renewal("A"))
	equal(s, "Version, which moves on", c.Version, b.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, a.Version)
	equal(s, "Refreshed.By", c.Refreshed.By, "A")
	left(s, "ExpiresIn", c.ExpiresIn, renewal("A").Lifetime)
	left(s, "DueIn", c.DueIn, renewal("A").DueIn)
	clean(s, c)

	equal(s, "Lease.ID, the other's", c.Lease.ID, b.Lease.ID)
	equal(s, "Lease.Holder, the other's", c.Lease.Holder, "B")
	left(s, "Lease.EndsIn, the other's", c.Lease.EndsIn, b.Lease.EndsIn)
	ago(s, "Lease.Age, the other's", c.Lease.Age, b.Lease.Age)
	state(s, c, credentials.Leased)

	// Repeated, since its reply may be lost as well.
	s.save(a, renewal("A"))
	s.unchanged(c)
}

func saveLateAfterFailure(s *subject) {
	for _, class := range []credentials.Class{credentials.Rejected, credentials.Transient, credentials.Unknown} {
		s.seed()
		a := s.lapsed("A")
		s.fail(s.claim("B", long), failure(class))
		before := s.get()
		s.save(a, renewal("A"))
		c := s.has(renewal("A"))
		equal(s, "Version", c.Version, before.Version+1)
		free(s, c)
		state(s, c, credentials.Fresh)
	}
}

func saveLateAfterRelease(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.release(s.claim("B", long))
	s.save(a, renewal("A"))
	free(s, s.has(renewal("A")))
}

func saveBoth(s *subject) {
	a, b := lateUnderAnother(s)
	before := s.get()
	s.save(b, renewal("B"))
	c := s.has(renewal("B"))
	equal(s, "Version", c.Version, before.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, b.Version)
	free(s, c)
	s.saveMisses(a, renewal("A"))
}

// forgotten returns the fence of a claim that a fail-over lost: the row knows neither its ID nor its version.
func forgotten(c credentials.Credential, ahead uint64) credentials.Credential {
	c.Version += ahead
	c.Lease.ID, c.Lease.Version = "forgotten", c.Version
	return c
}

func saveForgotten(s *subject) {
	for _, ahead := range []uint64{1, 2, 7} {
		seed := s.seed()
		lost := forgotten(seed, ahead)
		s.save(lost, renewal("A"))
		c := s.has(renewal("A"))
		equal(s, "TokenVersion", c.TokenVersion, seed.Version+ahead)
		equal(s, "Version, which must not fall behind", c.Version, seed.Version+ahead+1)
		free(s, c)

		// Later claims and puts are later than it.
		s.save(lost, renewal("A"))
		s.unchanged(c)
		b, _ := s.tryClaim(credentials.Claim{Holder: "B", Lease: long, Rejected: renewal("A").Token})
		s.save(b, renewal("B"))
		s.has(renewal("B"))
		s.saveMisses(lost, renewal("A"))
	}
}

func saveForgottenUnderAnother(s *subject) {
	// The versions of the lost claim and of the one made instead are the same, or even in the wrong order.
	for _, ahead := range []uint64{1, 2} {
		seed := s.seed()
		b := s.claim("B", long)
		lost := forgotten(seed, ahead)
		s.save(lost, renewal("A"))
		c := s.has(renewal("A"))
		equal(s, "Lease.ID, the other's", c.Lease.ID, b.Lease.ID)
		equal(s, "TokenVersion", c.TokenVersion, lost.Version)
		equal(s, "Version", c.Version, max(b.Version, lost.Version)+1)

		// B's success is stored under its lease, whatever the versions say.
		s.save(b, renewal("B"))
		c = s.has(renewal("B"))
		equal(s, "TokenVersion, which must not fall", c.TokenVersion, lost.Version)
		equal(s, "Version after both", c.Version, max(b.Version, lost.Version)+2)
		free(s, c)
	}
}
