package storetest

import (
	"crypto/rand"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var claimTests = []test{
	{"takes a lease and gives the credential", claimTakes},
	{"made once and found again by its ID", claimIdempotent},
	{"the longest ID and holder", claimLongest},
	{"refused while fresh", claimFresh},
	{"invariant 1: refused while leased", claimLeased},
	{"invariant 10: refused during a back-off", claimBackingOff},
	{"made when the back-off is over", claimAfterBackOff},
	{"invariant 9: refused when dead", claimDead},
	{"made when the token is due, while it is good", claimDue},
	{"made when the token has expired", claimExpired},
	{"a rejected token forces one", claimRejected},
	{"a rejected token that is no longer the row's forces none", claimRejectedBefore},
	{"made when the lease before has ended", claimAfterLease},
	{"its fence stays what it was under a late success", claimOvertaken},
	{"invariant 8: one credential's state does not matter to another", claimIndependent},
}

func claimTakes(s *subject) {
	g := credentials.Grant{
		Token: credentials.NewSecret("access"), RefreshToken: credentials.NewSecret("refresh"),
		Lifetime: time.Hour, RefreshLifetime: 2 * time.Hour, Extra: secrets(map[string]string{"scope": "all"}),
	}
	s.put(g)
	before := s.get()
	const lease = 40 * time.Minute
	claim := credentials.Claim{ID: rand.Text(), Holder: "host-1 pid 4711", Lease: lease, Rejected: g.Token}
	c, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim: refused: %+v", steady(c))
	}
	holds(s, c, g)
	equal(s, "Key", c.Key, s.key)
	equal(s, "Row", c.Row, before.Row)
	equal(s, "Version", c.Version, before.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, before.TokenVersion)
	equal(s, "Lease.ID", c.Lease.ID, claim.ID)
	equal(s, "Lease.Holder", c.Lease.Holder, claim.Holder)
	equal(s, "Lease.Version", c.Lease.Version, c.Version)
	ago(s, "Lease.Age", c.Lease.Age, 0)
	left(s, "Lease.EndsIn", c.Lease.EndsIn, lease)
	left(s, "DueIn", c.DueIn, lease)
	left(s, "ExpiresIn", c.ExpiresIn, g.Lifetime)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, g.RefreshLifetime)
	clean(s, c)
	equal(s, "Fence", c.Fence(), credentials.Fence{Row: c.Row, Claim: claim.ID, Version: c.Version})

	s.unchanged(c)
	committed := s.get()
	ago(s, "Lease.Age, read again", committed.Lease.Age, c.Lease.Age)
	state(s, committed, credentials.Leased)
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
	s.has(renewal("A"))
}

func claimLongest(s *subject) {
	s.seed()
	claim := credentials.Claim{ID: strings.Repeat("Zz09", 8), Holder: strings.Repeat(" ~", 127) + "!", Lease: long}
	c, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim: refused: %+v", steady(c))
	}
	c = s.get()
	equal(s, "Lease.ID", c.Lease.ID, claim.ID)
	equal(s, "Lease.Holder", c.Lease.Holder, claim.Holder)
	s.refused(credentials.Claim{ID: strings.ToLower(claim.ID)}, credentials.Leased)
}

func claimFresh(s *subject) {
	s.put(renewal("put").Grant)
	s.refused(credentials.Claim{}, credentials.Fresh)
	s.refused(credentials.Claim{Rejected: credentials.NewSecret("another token")}, credentials.Fresh)

	s.put(credentials.Grant{Token: credentials.NewSecret("does not expire")})
	s.refused(credentials.Claim{}, credentials.Fresh)
}

func claimLeased(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.refused(credentials.Claim{}, credentials.Leased)
	s.refused(credentials.Claim{Rejected: a.RefreshToken}, credentials.Leased)
	s.save(a, renewal("A"))

	// A lease on a good token too, whatever the next one thinks of the token.
	if _, made := s.tryClaim(credentials.Claim{Holder: "B", Lease: long, Rejected: renewal("A").Token}); !made {
		s.Fatal("Claim with the rejected token: refused")
	}
	s.refused(credentials.Claim{}, credentials.Leased)
	s.refused(credentials.Claim{Rejected: renewal("A").Token}, credentials.Leased)
}

func claimBackingOff(s *subject) {
	for _, class := range []credentials.Class{credentials.Transient, credentials.Unknown} {
		s.seed()
		s.fail(s.claim("A", long), failure(class))
		s.refused(credentials.Claim{}, credentials.BackingOff)
	}
	// A token that is turned down does not end a back-off, and a back-off does not keep a good token from callers.
	s.put(renewal("put").Grant)
	c, _ := s.tryClaim(credentials.Claim{Holder: "A", Lease: long, Rejected: renewal("put").Token})
	s.fail(c, failure(credentials.Transient))
	s.refused(credentials.Claim{Rejected: renewal("put").Token}, credentials.BackingOff)
	s.refused(credentials.Claim{}, credentials.Fresh)
}

func claimAfterBackOff(s *subject) {
	s.seed()
	f := failure(credentials.Transient)
	f.RetryIn = short
	s.fail(s.claim("A", long), f)
	c := s.await("the back-off to end", func(c credentials.Credential) bool { return c.Failure.RetryIn <= 0 })
	state(s, c, credentials.Claimable)
	c = s.claim("B", long)
	equal(s, "Failure.Count under the next claim", c.Failure.Count, 1)
	equal(s, "Failure.Code under the next claim", c.Failure.Code, f.Code)
	equal(s, "Failure.By under the next claim", c.Failure.By, "A")
}

func claimDead(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), failure(credentials.Rejected))
	s.refused(credentials.Claim{}, credentials.Dead)

	s.put(renewal("put").Grant)
	c, _ := s.tryClaim(credentials.Claim{Holder: "A", Lease: long, Rejected: renewal("put").Token})
	s.fail(c, failure(credentials.Rejected))
	s.refused(credentials.Claim{Rejected: renewal("put").Token}, credentials.Dead)
	s.refused(credentials.Claim{}, credentials.Fresh)
}

func claimDue(s *subject) {
	s.seed()
	r := renewal("A")
	r.DueIn = short
	s.save(s.claim("A", long), r)
	c := s.await("the token to be due", func(c credentials.Credential) bool { return c.DueIn <= 0 })
	state(s, c, credentials.Claimable)
	c = s.claim("B", long)
	holds(s, c, r.Grant)
	left(s, "ExpiresIn", c.ExpiresIn, r.Lifetime)
	left(s, "DueIn", c.DueIn, long)
}

func claimExpired(s *subject) {
	s.put(credentials.Grant{Token: credentials.NewSecret("access"), Lifetime: short})
	c := s.await("the token to expire", func(c credentials.Credential) bool { return c.ExpiresIn <= 0 })
	state(s, c, credentials.Claimable)
	holds(s, s.claim("A", long), credentials.Grant{Token: credentials.NewSecret("access")})

	// Expired counts, also for a token that is not due.
	s.put(credentials.Grant{})
	r := renewal("A")
	r.Lifetime, r.DueIn = short, credentials.Never
	s.save(s.claim("A", long), r)
	s.await("the token to expire", func(c credentials.Credential) bool { return c.ExpiresIn <= 0 })
	s.claim("B", long)
}

func claimRejected(s *subject) {
	s.put(renewal("put").Grant)
	s.refused(credentials.Claim{}, credentials.Fresh)
	c, made := s.tryClaim(credentials.Claim{Holder: "A", Lease: long, Rejected: renewal("put").Token})
	if !made {
		s.Fatalf("Claim with the row's token rejected: refused: %+v", steady(c))
	}
	equal(s, "Lease.Holder", s.get().Lease.Holder, "A")
}

func claimRejectedBefore(s *subject) {
	s.seed()
	s.save(s.claim("A", long), renewal("A"))
	// The one who reports the token of before finds the new one.
	s.refused(credentials.Claim{Rejected: credentials.NewSecret("the token before")}, credentials.Fresh)
	s.refused(credentials.Claim{Rejected: renewal("A").RefreshToken}, credentials.Fresh)
}

func claimAfterLease(s *subject) {
	s.seed()
	a := s.lapsed("A")
	ended := s.get()
	equal(s, "Lease.ID of the ended lease, which stays visible", ended.Lease.ID, a.Lease.ID)
	equal(s, "Lease.Holder of the ended lease", ended.Lease.Holder, "A")
	equal(s, "Lease.Version of the ended lease", ended.Lease.Version, a.Version)
	equal(s, "Version when a lease ended", ended.Version, a.Version)
	ago(s, "Lease.Age of the ended lease", ended.Lease.Age, short)
	left(s, "DueIn when the lease ended", ended.DueIn, 0)
	state(s, ended, credentials.Claimable)

	b := s.claim("B", long)
	equal(s, "Version", b.Version, a.Version+1)
	equal(s, "Lease.Holder", b.Lease.Holder, "B")
	left(s, "Lease.EndsIn", b.Lease.EndsIn, long)
	left(s, "DueIn", b.DueIn, long)
}

// claimOvertaken: the version moves on under the claim, and who repeats the claim gets the fence that it had.
func claimOvertaken(s *subject) {
	s.seed()
	a := s.lapsed("A")
	claim := credentials.Claim{ID: rand.Text(), Holder: "B", Lease: long}
	b, _ := s.tryClaim(claim)
	s.save(a, renewal("A"))
	again, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim, repeated with its ID: refused: %+v", steady(again))
	}
	equal(s, "Version", again.Version, b.Version+1)
	equal(s, "Lease.Version", again.Lease.Version, b.Version)
	equal(s, "Fence of the repeated claim", again.Fence(), b.Fence())
	s.failMisses(again, failure(credentials.Rejected))
	free(s, s.has(renewal("A")))
}

func claimIndependent(s *subject) {
	leased, dead, backingOff := s.fresh(), s.fresh(), s.fresh()
	leased.seed()
	leased.claim("A", long)
	dead.seed()
	dead.fail(dead.claim("A", long), failure(credentials.Rejected))
	backingOff.seed()
	backingOff.fail(backingOff.claim("A", long), failure(credentials.Transient))
	account := s.under(credentials.Key{Service: leased.key.Service, Account: "bob"})

	for _, free := range []*subject{s, account} {
		free.seed()
		free.save(free.claim("B", long), renewal("B"))
		free.has(renewal("B"))
	}
	state(s, leased.get(), credentials.Leased)
	state(s, dead.get(), credentials.Dead)
	state(s, backingOff.get(), credentials.BackingOff)
}
