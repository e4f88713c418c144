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
	{"invariant 9: a dead grant stays dead until a put", failDead},
	{"invariant 11: a good token stays good", failKeepsToken},
	{"a failure without code and reason", failBare},
	{"refusals in a row, and since when", failRefusals},
	{"the last failure's details are kept, not the first's", failReplaces},
}

func failRecords(s *subject) {
	for _, class := range []credentials.Class{credentials.ClassTransient, credentials.ClassUnknown} {
		g := credentials.Grant{
			RefreshToken: secret("refresh"), Extra: secrets(map[string]string{"scope": "all"}),
		}
		s.put(g)
		a := s.claim("host-1 pid 4711", long)
		f := credentials.Failure{
			Class: class, Code: "temporarily_unavailable", Reason: `HTTP status 503: "it's down"`,
			RetryIn: 40 * time.Minute,
			Count:   99, By: "somebody else", Ago: time.Hour, // which Fail ignores
		}

		c := s.fail(a, f)
		hasVersions(s, c, a.Version+1, a.TokenVersion)
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
		state(s, c, credentials.StateBackingOff)
	}
}

func failLate(s *subject) {
	s.seed()
	a := s.lapsed("A")
	c := s.fail(a, failure(credentials.ClassTransient))
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "Failure.By", c.Failure.By, "A")
	equal(s, "Lease", c.Lease, credentials.Lease{})
	state(s, c, credentials.StateBackingOff)
}

func failNow(s *subject) {
	s.seed()
	c := s.fail(s.claim("A", long), credentials.Failure{Class: credentials.ClassTransient})
	left(s, "Failure.RetryIn", c.Failure.RetryIn, 0)
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
}

func failCounts(s *subject) {
	s.seed()
	f := failureNow(credentials.ClassTransient)
	for want := 1; want <= 3; want++ {
		equal(s, "Failure.Count", s.fail(s.claim("A", long), f).Failure.Count, want)
	}
	c := s.save(s.claim("B", long), renewalDue("B"))
	equal(s, "Failure after a success", c.Failure, credentials.Failure{})

	equal(s, "Failure.Count after a success", s.fail(s.claim("C", long), f).Failure.Count, 1)
	s.seed()
	equal(s, "Failure.Count after a put", s.fail(s.claim("D", long), f).Failure.Count, 1)
}

func failDead(s *subject) {
	s.seed()
	a := s.claim("A", long)
	f := failure(credentials.ClassDead)
	f.RetryIn = long // a dead grant has no back-off, and keeps none
	c := s.fail(a, f)
	equal(s, "Version", c.Version, a.Version+1)
	equal(s, "Failure.Class", c.Failure.Class, credentials.ClassDead)
	equal(s, "Failure.Code", c.Failure.Code, f.Code)
	equal(s, "Failure.By", c.Failure.By, "A")
	equal(s, "DueIn", c.DueIn, credentials.Never)
	equal(s, "Lease", c.Lease, credentials.Lease{})
	if c.Failure.RetryIn > 0 {
		s.Errorf("Failure.RetryIn of a dead grant: got %v, want none", c.Failure.RetryIn)
	}
	state(s, c, credentials.StateDead)
	s.refused(credentials.Claim{}, credentials.StateDead)

	free(s, s.seed())
	state(s, s.save(s.claim("B", long), renewal("B")), credentials.StateFresh)
}

func failKeepsToken(s *subject) {
	for _, class := range classes {
		s.seed()
		due := renewalDue("A")
		s.save(s.claim("A", long), due)
		c := s.fail(s.claim("B", long), failure(class))
		holds(s, c, due.Grant)
		left(s, "ExpiresIn", c.ExpiresIn, due.Lifetime)
		equal(s, "Refreshed.By", c.Refreshed.By, "A")
		equal(s, "Failure.Class", c.Failure.Class, class)
		state(s, c, credentials.StateFresh)
	}
}

func failRefusals(s *subject) {
	s.seed()
	refused := func(n int) credentials.Credential {
		s.Helper()
		f := failureNow(credentials.ClassTransient)
		f.Refusals, f.RefusedFor = n, time.Hour // Fail ignores RefusedFor
		c := s.fail(s.claim("A", long), f)
		equal(s, "Failure.Refusals", c.Failure.Refusals, n)
		return c
	}
	ago(s, "RefusedFor of the first", refused(1).Failure.RefusedFor, 0)
	const pause = 50 * time.Millisecond
	s.await("some time to pass", func(c credentials.Credential) bool { return c.Failure.RefusedFor >= pause })
	ago(s, "RefusedFor of the second", refused(2).Failure.RefusedFor, pause)
	ago(s, "RefusedFor of the first after it", refused(1).Failure.RefusedFor, 0)
	equal(s, "RefusedFor of none", refused(0).Failure.RefusedFor, 0)
	refused(1)
	c := s.save(s.claim("B", long), renewalDue("B"))
	equal(s, "Failure after a success", c.Failure, credentials.Failure{})
}

func failBare(s *subject) {
	s.seed()
	c := s.fail(s.claim("A", long), credentials.Failure{Class: credentials.ClassUnknown})
	equal(s, "Failure.Class", c.Failure.Class, credentials.ClassUnknown)
	equal(s, "Failure.Code", c.Failure.Code, "")
	equal(s, "Failure.Reason", c.Failure.Reason, "")
}

func failReplaces(s *subject) {
	s.seed()
	first := credentials.Failure{Class: credentials.ClassUnknown, Code: "first", Reason: "the first"}
	s.fail(s.claim("A", long), first)
	second := credentials.Failure{Class: credentials.ClassTransient, Reason: "the second", RetryIn: long}
	c := s.fail(s.claim("B", long), second)
	equal(s, "Failure.Class", c.Failure.Class, credentials.ClassTransient)
	equal(s, "Failure.Code", c.Failure.Code, "")
	equal(s, "Failure.Reason", c.Failure.Reason, "the second")
	left(s, "Failure.RetryIn", c.Failure.RetryIn, long)
	equal(s, "Failure.By", c.Failure.By, "B")
	equal(s, "Failure.Count", c.Failure.Count, 2)
}
