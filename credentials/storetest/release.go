package storetest

import "github.com/latchkey-go/latchkey/credentials"

var releaseTests = []test{
	{"its own lease, and the credential is due", releaseOwn},
	{"its own lease that has ended", releaseEnded},
	{"repeated, it does nothing", releaseRepeated},
	{"another's lease is left alone", releaseAnother},
	{"after a late success it keeps what that brought", releaseAfterLateSuccess},
	{"after its own success or a put it does nothing", releaseAfterWrite},
	{"of a deleted credential", releaseDeleted},
	{"failures before it stay counted", releaseKeepsFailure},
}

func releaseOwn(s *subject) {
	s.put(renewal("put").Grant)
	a := s.claimInvalidating("A")
	s.release(a)
	c := s.has(renewal("put").Grant)
	hasVersions(s, c, a.Version+1, a.TokenVersion)
	left(s, "ExpiresIn", c.ExpiresIn, renewal("put").Lifetime)
	left(s, "DueIn", c.DueIn, 0)
	free(s, c)
	state(s, c, credentials.StateClaimable)
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
	a, b := s.overlapping()
	s.release(a)
	s.unchanged(b)
	s.save(b, renewal("B"))
}

func releaseAfterLateSuccess(s *subject) {
	_, b := s.lateUnderAnother()
	before := s.get()
	s.release(b)
	c := s.has(renewal("A").Grant)
	equal(s, "Version", c.Version, before.Version+1)
	left(s, "DueIn", c.DueIn, before.DueIn)
	free(s, c)
	state(s, c, credentials.StateFresh)
}

func releaseAfterWrite(s *subject) {
	s.seed()
	a := s.claim("A", long)
	before := s.save(a, renewal("A"))
	s.release(a)
	s.unchanged(before)

	s.seed()
	a = s.claim("A", long)
	before = s.put(renewal("put").Grant)
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
	s.fail(s.claim("A", long), failureNow(credentials.ClassTransient))
	s.release(s.claim("B", long))
	c := s.get()
	equal(s, "Failure.Class", c.Failure.Class, credentials.ClassTransient)
	equal(s, "Failure.Count", c.Failure.Count, 1)
	equal(s, "Failure.By", c.Failure.By, "A")
}
