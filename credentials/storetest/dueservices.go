package storetest

import (
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var dueServicesTests = []test{
	{"the earliest of each service", dueServicesEarliest},
	{"absent where nothing is ever due", dueServicesAbsent},
}

// dueService returns when the first of the subject's service is due.
func (s *subject) dueService() (time.Duration, bool) {
	s.Helper()
	due, err := s.store.DueServices(s.Context())
	if err != nil {
		s.Fatalf("DueServices: %v", err)
	}
	in, ok := due[s.key.Service]
	return in, ok
}

func dueServicesEarliest(s *subject) {
	other := s.fresh()
	r := renewal("later")
	r.DueIn = 3 * time.Hour
	r.Lifetime = 4 * time.Hour
	for _, one := range []*subject{s, other} {
		one.seed()
		one.save(one.claim("A", long), r)
	}
	dueIn := func(what string, most time.Duration) {
		s.Helper()
		in, ok := s.dueService()
		if !ok {
			s.Fatalf("DueServices: the service is absent, want %s", what)
		}
		left(s, what, in, most)
	}
	dueIn("the only one's", 3*time.Hour)

	bob, never := s.account("bob"), s.account("never")
	never.put(credentials.Grant{AccessToken: secret("does not expire")})
	bob.seed()
	bob.save(bob.claim("A", long), renewal("sooner"))
	dueIn("the earlier one's", time.Hour)

	bob.overdue()
	dueIn("the one's that is due", 0)
	s.claimDue(s.batch("A", 1), bob)
	dueIn("the end of the lease", long)

	if in, ok := other.dueService(); !ok || in <= 2*time.Hour {
		s.Errorf("DueServices of the other service: got %v, %t", in, ok)
	}
}

func dueServicesAbsent(s *subject) {
	absent := func(what string) {
		s.Helper()
		if in, ok := s.dueService(); ok {
			s.Errorf("DueServices of a service %s: got %v, want it absent", what, in)
		}
	}
	absent("without credentials")
	s.put(credentials.Grant{AccessToken: secret("does not expire")})
	absent("with one that is never due")
	s.seed()
	s.fail(s.claim("A", long), failure(credentials.ClassDead))
	absent("with a dead one")
	s.overdue()
	if _, ok := s.dueService(); !ok {
		s.Error("DueServices: the service is absent, with one that is due")
	}
	s.delete()
	absent("whose only one was deleted")
}
