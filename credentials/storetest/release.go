package storetest

import "github.com/latchkey-go/latchkey/credentials"

var releaseTests = []test{
	{"its own lease, and the credential is due", releaseOwn},
	{"its own lease that has ended", releaseEnded},
	{"repeated, it does nothing", releaseRepeated},
	{"another's lease is left alone", releaseAnother},
	{"after a late success it keeps what that brought", releaseAfterLateSuccess},
	{"after its own success it does nothing", releaseAfterSave},
	{"after a put it does nothing", releaseAfterPut},
	{"of a deleted credential", releaseDeleted},
	{"failures before it stay counted", releaseKeepsFailure},
}

func releaseOwn(s *subject) {
	s.put(renewal("put").Grant)
	a, made := s.tryClaim(credentials.Claim{Holder: "A", Lease: long, Rejected: renewal("put").Token})
	if !made {
		s.Fatal("Claim with the row's token rejected: refused")
	}
	s.release(a)
	c := s.has(renewal("put"))
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, a.TokenVersion)
	left(s, "ExpiresIn", c.ExpiresIn, renewal("put").Lifetime)
	left(s, "DueIn", c.DueIn, 0)
	free(s, c)
	state(s, c, credentials.Claimable)
	s.claim("B", long)
}

func releaseEnded(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.release(a)
	c := s.get()
	equal(s, "Version", c.Version, a.Version+1)
	left(s, "DueIn", c.DueIn, 0)
	free(s, c)
}

func releaseRepeated(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.release(a)
	before := s.get()
	s.release(a)
	s.unchanged(before)
	b := s.claim("B", long)
	s.release(a)
	s.unchanged(b)
}

func releaseAnother(s *subject) {
	s.seed()
	a := s.lapsed("A")
	b := s.claim("B", long)
	s.release(a)
	s.unchanged(b)
	s.save(b, renewal("B"))
	s.has(renewal("B"))
}

func releaseAfterLateSuccess(s *subject) {
	_, b := lateUnderAnother(s)
	before := s.get()
	s.release(b)
	c := s.has(renewal("A"))
	equal(s, "Version", c.Version, before.Version+1)
	left(s, "DueIn", c.DueIn, before.DueIn)
	free(s, c)
	state(s, c, credentials.Fresh)
}

func releaseAfterSave(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.save(a, renewal("A"))
	before := s.get()
	s.release(a)
	s.unchanged(before)
}

func releaseAfterPut(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.put(renewal("put").Grant)
	before := s.get()
	s.release(a)
	s.unchanged(before)
}

func releaseDeleted(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.delete()
	s.release(a)
	missing(s)
}

func releaseKeepsFailure(s *subject) {
	s.seed()
	f := failure(credentials.Transient)
	f.RetryIn = 0
	s.fail(s.claim("A", long), f)
	s.release(s.claim("B", long))
	c := s.get()
	equal(s, "Failure.Class", c.Failure.Class, credentials.Transient)
	equal(s, "Failure.Count", c.Failure.Count, 1)
	equal(s, "Failure.By", c.Failure.By, "A")
}
