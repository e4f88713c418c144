package storetest

import (
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var failTests = []test{
	{"invariant 10: the failure and its back-off are there for all", failRecords},
	{"recorded when the lease has ended, while nobody else wrote", failLate},
	{"a back-off of zero", failNow},
	{"failures are counted until a success", failCounts},
	{"invariant 9: a rejected grant is dead until a put", failRejected},
	{"invariant 11: a good token stays good", failKeepsToken},
	{"a failure without code and reason", failBare},
	{"the last failure's details are kept, not the first's", failReplaces},
}

func failRecords(s *subject) {
	for _, class := range []credentials.Class{credentials.Transient, credentials.Unknown} {
		g := credentials.Grant{
			RefreshToken: credentials.NewSecret("refresh"), Extra: secrets(map[string]string{"scope": "all"}),
		}
		s.put(g)
		a := s.claim("host-1 pid 4711", long)
		f := credentials.Failure{
			Class: class, Code: "temporarily_unavailable", Reason: `HTTP status 503: "it's down"`, RetryIn: 40 * time.Minute,
			Count: 99, By: "somebody else", Ago: time.Hour, // which Fail ignores
		}
		s.fail(a, f)

		c := s.get()
		equal(s, "Version", c.Version, a.Version+1)
		equal(s, "TokenVersion", c.TokenVersion, a.TokenVersion)
		equal(s, "Failure.Class", c.Failure.Class, class)
		equal(s, "Failure.Code", c.Failure.Code, f.Code)
		equal(s, "Failure.Reason", c.Failure.Reason, f.Reason)
		left(s, "Failure.RetryIn", c.Failure.RetryIn, f.RetryIn)
		equal(s, "Failure.Count", c.Failure.Count, 1)
		equal(s, "Failure.By", c.Failure.By, "host-1 pid 4711")
		ago(s, "Failure.Ago", c.Failure.Ago, 0)
		left(s, "DueIn", c.DueIn, f.RetryIn)
		equal(s, "Lease", c.Lease, credentials.Lease{})
		holds(s, c, g)
		state(s, c, credentials.BackingOff)
	}
}

func failLate(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.fail(a, failure(credentials.Transient))
	c := s.get()
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "Failure.By", c.Failure.By, "A")
	equal(s, "Lease", c.Lease, credentials.Lease{})
	state(s, c, credentials.BackingOff)
}

func failNow(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), credentials.Failure{Class: credentials.Transient})
	c := s.get()
	left(s, "Failure.RetryIn", c.Failure.RetryIn, 0)
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.Claimable)
}

func failCounts(s *subject) {
	s.seed()
	f := failure(credentials.Transient)
	f.RetryIn = 0
	for want := 1; want <= 3; want++ {
		s.fail(s.claim("A", long), f)
		equal(s, "Failure.Count", s.get().Failure.Count, want)
	}
	due := renewal("B")
	due.DueIn = 0
	s.save(s.claim("B", long), due)
	equal(s, "Failure after a success", s.get().Failure, credentials.Failure{})

	s.fail(s.claim("C", long), f)
	equal(s, "Failure.Count after a success", s.get().Failure.Count, 1)
	s.seed()
	s.fail(s.claim("D", long), f)
	equal(s, "Failure.Count after a put", s.get().Failure.Count, 1)
}

func failRejected(s *subject) {
	s.seed()
	a := s.claim("A", long)
	f := failure(credentials.Rejected)
	f.RetryIn = long // it makes no sense, and is not kept
	s.fail(a, f)
	c := s.get()
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "Failure.Class", c.Failure.Class, credentials.Rejected)
	equal(s, "Failure.Code", c.Failure.Code, f.Code)
	equal(s, "Failure.By", c.Failure.By, "A")
	equal(s, "DueIn", c.DueIn, credentials.Never)
	equal(s, "Lease", c.Lease, credentials.Lease{})
	if c.Failure.RetryIn > 0 {
		s.Errorf("Failure.RetryIn of a dead grant: got %v, want none", c.Failure.RetryIn)
	}
	state(s, c, credentials.Dead)
	s.refused(credentials.Claim{}, credentials.Dead)

	s.seed()
	free(s, s.get())
	b := s.claim("B", long)
	s.save(b, renewal("B"))
	state(s, s.get(), credentials.Fresh)
}

func failKeepsToken(s *subject) {
	for _, class := range classes {
		s.seed()
		due := renewal("A")
		due.DueIn = 0
		s.save(s.claim("A", long), due)
		s.fail(s.claim("B", long), failure(class))
		c := s.has(due)
		left(s, "ExpiresIn", c.ExpiresIn, due.Lifetime)
		equal(s, "Refreshed.By", c.Refreshed.By, "A")
		equal(s, "Failure.Class", c.Failure.Class, class)
		state(s, c, credentials.Fresh)
	}
}

func failBare(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), credentials.Failure{Class: credentials.Unknown})
	c := s.get()
	equal(s, "Failure.Class", c.Failure.Class, credentials.Unknown)
	equal(s, "Failure.Code", c.Failure.Code, "")
	equal(s, "Failure.Reason", c.Failure.Reason, "")
}

func failReplaces(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), credentials.Failure{Class: credentials.Unknown, Code: "first", Reason: "the first"})
	s.fail(s.claim("B", long), credentials.Failure{Class: credentials.Transient, Reason: "the second", RetryIn: long})
	c := s.get()
	equal(s, "Failure.Class", c.Failure.Class, credentials.Transient)
	equal(s, "Failure.Code", c.Failure.Code, "")
	equal(s, "Failure.Reason", c.Failure.Reason, "the second")
	left(s, "Failure.RetryIn", c.Failure.RetryIn, long)
	equal(s, "Failure.By", c.Failure.By, "B")
	equal(s, "Failure.Count", c.Failure.Count, 2)
}
