package storetest

import (
	"errors"

	"github.com/latchkey-go/latchkey/credentials"
)

var supersededTests = []test{
	{"a success by a later claim's success", supersededByLater},
	{"a success by a put", supersededByPut},
	{"a success by a put, and another claim is live", supersededByPutThenClaim},
	{"a success whose credential was deleted", supersededByDelete},
	{"a success whose credential was deleted and put again", supersededByNewRow},
	{"invariant 5: a failure never covers a later claim's success", failureAfterSuccess},
	{"invariant 5: a failure never covers a late success of an earlier claim", failureAfterLateSuccess},
	{"a failure while another claim is live", failureUnderAnother},
	{"a failure after another's failure", failureAfterFailure},
	{"invariant 5: a failure never covers a put", failureAfterPut},
	{"a failure whose credential was deleted", failureAfterDelete},
	{"a failure whose claim a fail-over forgot", failureForgotten},
	{"a failure repeated is recorded once", failureRepeated},
}

// classes are what a failure can be of; none of them covers a success.
var classes = []credentials.Class{credentials.Rejected, credentials.Transient, credentials.Unknown}

func supersededByLater(s *subject) {
	s.seed()
	a := s.lapsed("A")
	b := s.claim("B", long)
	s.save(b, renewal("B"))
	s.saveMisses(a, renewal("A"))
	c := s.has(renewal("B"))
	equal(s, "TokenVersion", c.TokenVersion, b.Version)

	// Also while yet another one holds a lease.
	s.tryClaim(credentials.Claim{Holder: "C", Lease: long, Rejected: renewal("B").Token})
	s.saveMisses(a, renewal("A"))
}

func supersededByPut(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.put(renewal("put").Grant)
	s.saveMisses(a, renewal("A"))
	s.has(renewal("put"))

	s.seed()
	a = s.lapsed("A")
	s.seed()
	s.saveMisses(a, renewal("A"))
}

func supersededByPutThenClaim(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.seed()
	b := s.claim("B", long)
	s.saveMisses(a, renewal("A"))
	s.save(b, renewal("B"))
	s.has(renewal("B"))
}

func supersededByDelete(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.delete()
	if err := s.store.Save(s.Context(), a.Fence(), renewal("A")); !errors.Is(err, credentials.ErrSuperseded) {
		s.Errorf("Save: got error %v, want ErrSuperseded", err)
	}
	missing(s)
}

func supersededByNewRow(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.delete()
	s.seed() // the claim's version is ahead of this row's
	s.saveMisses(a, renewal("A"))

	// The next claim has the same version as that of the row before.
	b := s.claim("B", long)
	equal(s, "Version of the claim on the new row", b.Version, a.Version)
	s.saveMisses(a, renewal("A"))
	before := s.get()
	s.failMisses(a, failure(credentials.Rejected))
	s.release(a)
	s.unchanged(before)
	s.save(b, renewal("B"))
	s.has(renewal("B"))
}

func failureAfterSuccess(s *subject) {
	for _, class := range classes {
		s.seed()
		a := s.lapsed("A")
		s.save(s.claim("B", long), renewal("B"))
		before := s.get()
		s.failMisses(a, failure(class))
		s.unchanged(before)
	}
}

func failureAfterLateSuccess(s *subject) {
	for _, class := range classes {
		_, b := lateUnderAnother(s)
		before := s.get()
		s.failMisses(b, failure(class))
		c := s.has(renewal("A"))
		free(s, c) // its own lease, it gives up
		equal(s, "Version", c.Version, before.Version+1)
		equal(s, "TokenVersion", c.TokenVersion, before.TokenVersion)
		left(s, "DueIn", c.DueIn, before.DueIn)
		state(s, c, credentials.Fresh)

		s.failMisses(b, failure(class))
		s.unchanged(c)
	}
}

func failureUnderAnother(s *subject) {
	for _, class := range classes {
		s.seed()
		a := s.lapsed("A")
		b := s.claim("B", long)
		s.failMisses(a, failure(class))
		s.unchanged(b)
		s.fail(b, failure(class))
	}
}

func failureAfterFailure(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.fail(s.claim("B", long), failure(credentials.Transient))
	before := s.get()
	s.failMisses(a, failure(credentials.Rejected))
	s.unchanged(before)
}

func failureAfterPut(s *subject) {
	for _, class := range classes {
		s.seed()
		a := s.claim("A", long)
		s.put(renewal("put").Grant)
		before := s.get()
		s.failMisses(a, failure(class))
		s.unchanged(before)
		s.has(renewal("put"))
	}
}

func failureAfterDelete(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.delete()
	err := s.store.Fail(s.Context(), a.Fence(), failure(credentials.Rejected))
	if !errors.Is(err, credentials.ErrSuperseded) {
		s.Errorf("Fail: got error %v, want ErrSuperseded", err)
	}
	missing(s)
}

func failureForgotten(s *subject) {
	seed := s.seed()
	before := s.get()
	s.failMisses(forgotten(seed, 1), failure(credentials.Rejected))
	s.unchanged(before)

	// The claim made instead has the lost one's version.
	b := s.claim("B", long)
	s.failMisses(forgotten(seed, 1), failure(credentials.Rejected))
	s.unchanged(b)

	// A success whose claim was forgotten is covered no more than another.
	s.save(forgotten(seed, 1), renewal("A"))
	s.failMisses(b, failure(credentials.Rejected))
	free(s, s.has(renewal("A")))
}

// failureRepeated: what the repeated call returns is up to the store, success or ErrSuperseded.
func failureRepeated(s *subject) {
	for _, class := range classes {
		s.seed()
		a := s.claim("A", long)
		s.fail(a, failure(class))
		before := s.get()
		err := s.store.Fail(s.Context(), a.Fence(), failure(class))
		if err != nil && !errors.Is(err, credentials.ErrSuperseded) {
			s.Errorf("Fail, repeated: got error %v, want none or ErrSuperseded", err)
		}
		s.unchanged(before)
	}
}
