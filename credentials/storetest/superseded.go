package storetest

import (
	"context"
	"errors"

	"github.com/latchkey-go/latchkey/credentials"
)

var supersededTests = []test{
	{"a success by a later claim's success", supersededByLater},
	{"a success by a put", supersededByPut},
	{"a success by a put, and another claim is live", supersededByPutThenClaim},
	{"a success or a failure whose credential was deleted", supersededByDelete},
	{"a success whose credential was deleted and put again", supersededByNewRow},
	{"invariant 5: a failure never covers a later claim's success", failureAfterSuccess},
	{"invariant 5: a failure never covers a late success of an earlier claim", failureAfterLateSuccess},
	{"a failure while another claim is live", failureUnderAnother},
	{"a failure after another's failure", failureAfterFailure},
	{"invariant 5: a failure never covers a put", failureAfterPut},
	{"a failure whose claim a fail-over forgot", failureForgotten},
	{"a failure repeated is recorded once", failureRepeated},
}

// classes are those of failures; a failure of none of them covers a success.
var classes = []credentials.Class{credentials.ClassDead, credentials.ClassTransient, credentials.ClassUnknown}

func supersededByLater(s *subject) {
	a, b := s.overlapping()
	s.save(b, renewal("B"))
	s.saveMisses(a, renewal("A"))
	equal(s, "TokenVersion", s.get().TokenVersion, b.Version)

	// A third holder's lease makes no difference.
	s.claimInvalidating("C")
	s.saveMisses(a, renewal("A"))
}

func supersededByPut(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.put(renewal("put").Grant)
	s.saveMisses(a, renewal("A"))

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
}

func supersededByDelete(s *subject) {
	s.seed()
	fence := s.claim("A", long).Fence()
	s.delete()
	for name, call := range map[string]func(ctx context.Context) error{
		"Save": func(ctx context.Context) error { return s.store.Save(ctx, fence, renewal("A")) },
		"Fail": func(ctx context.Context) error {
			return s.store.Fail(ctx, fence, failure(credentials.ClassDead))
		},
	} {
		if err := s.settled(call); !errors.Is(err, credentials.ErrSuperseded) {
			s.Errorf("%s: got error %v, want ErrSuperseded", name, err)
		}
		missing(s)
	}
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
	s.failMisses(a, failure(credentials.ClassDead))
	s.release(a)
	s.unchanged(b)
	s.save(b, renewal("B"))
}

func failureAfterSuccess(s *subject) {
	for _, class := range classes {
		a, b := s.overlapping()
		s.save(b, renewal("B"))
		s.failMisses(a, failure(class))
	}
}

func failureAfterLateSuccess(s *subject) {
	for _, class := range classes {
		_, b := s.lateUnderAnother()
		before := s.get()
		s.failUnderLease(b, failure(class))
		c := s.has(renewal("A").Grant)
		free(s, c) // the claim gives up its own lease
		hasVersions(s, c, before.Version+1, before.TokenVersion)
		left(s, "DueIn", c.DueIn, before.DueIn)
		state(s, c, credentials.StateFresh)

		s.failMisses(b, failure(class))
	}
}

func failureUnderAnother(s *subject) {
	for _, class := range classes {
		a, b := s.overlapping()
		s.failMisses(a, failure(class))
		s.unchanged(b)
		s.fail(b, failure(class))
	}
}

func failureAfterFailure(s *subject) {
	a, b := s.overlapping()
	s.fail(b, failure(credentials.ClassTransient))
	s.failMisses(a, failure(credentials.ClassDead))
}

func failureAfterPut(s *subject) {
	for _, class := range classes {
		s.seed()
		a := s.claim("A", long)
		s.put(renewal("put").Grant)
		s.failMisses(a, failure(class))
	}
}

func failureForgotten(s *subject) {
	seed := s.seed()
	s.failForgotten(forgotten(seed, 1), failure(credentials.ClassDead))
	s.unchanged(seed)

	// The claim made instead has the lost one's version.
	b := s.claim("B", long)
	s.failMisses(forgotten(seed, 1), failure(credentials.ClassDead))
	s.unchanged(b)

	// A success whose claim was forgotten is covered no more than another.
	s.save(forgotten(seed, 1), renewal("A"))
	s.failUnderLease(b, failure(credentials.ClassDead))
	free(s, s.has(renewal("A").Grant))
}

// failureRepeated: a store may answer the repeated call with success or with ErrSuperseded.
func failureRepeated(s *subject) {
	for _, class := range classes {
		s.seed()
		a := s.claim("A", long)
		before := s.fail(a, failure(class))
		err := s.store.Fail(s.Context(), a.Fence(), failure(class))
		if err != nil && !errors.Is(err, credentials.ErrSuperseded) {
			s.Errorf("Fail, repeated: got error %v, want none or ErrSuperseded", err)
		}
		s.unchanged(before)
	}
}
