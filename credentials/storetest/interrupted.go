package storetest

import (
	"crypto/rand"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var interruptedTests = []test{
	{"a lease that ended with nothing saved names its holder", interruptedByLapse},
	{"the latest interruption counts", interruptedTwice},
	{"a failure of unknown outcome names its holder", interruptedByUnknown},
	{"not by a failure that is known", interruptedNotByFailure},
	{"not by a release", interruptedNotByRelease},
	{"not by a success, a late one included", interruptedNotBySuccess},
	{"not by a claim under which an earlier one's success was saved", interruptedNotUnderSuccess},
	{"not by its own claim, repeated after the lease's end", interruptedNotByItself},
	{"survives a release, a transient and a rejecting failure", interruptedSurvives},
	{"cleared by a success", interruptedCleared},
}

func interruptedByLapse(s *subject) {
	s.seed()
	// Long enough to tell the time since the claim from the time since the lease's end.
	const lease = 50 * time.Millisecond
	s.claim("A", lease)
	ended := s.await("the lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	clean(s, ended)

	b := s.claim("B", long)
	equal(s, "Interrupted.By", b.Interrupted.By, "A")
	ago(s, "Interrupted.Ago", b.Interrupted.Ago, lease)
	committed := s.get()
	equal(s, "Interrupted.By, read again", committed.Interrupted.By, "A")
	ago(s, "Interrupted.Ago, read again", committed.Interrupted.Ago, b.Interrupted.Ago)
}

func interruptedTwice(s *subject) {
	s.seed()
	s.lapsed("A")
	s.lapsed("B")
	equal(s, "Interrupted.By", s.claim("C", long).Interrupted.By, "B")
}

func interruptedByUnknown(s *subject) {
	s.seed()
	a := s.claim("A", long)
	f := failure(credentials.Unknown)
	f.RetryIn = 0
	// Long enough to tell the time since the claim from the time since the failure.
	const exchange = 50 * time.Millisecond
	s.await("the exchange to take a while", func(c credentials.Credential) bool { return c.Lease.Age >= exchange })
	s.fail(a, f)
	c := s.get()
	equal(s, "Interrupted.By", c.Interrupted.By, "A")
	ago(s, "Interrupted.Ago", c.Interrupted.Ago, exchange)

	b := s.claim("B", long)
	equal(s, "Interrupted.By under the next claim", b.Interrupted.By, "A")
	s.fail(b, f)
	equal(s, "Interrupted.By after another of unknown outcome", s.get().Interrupted.By, "B")
}

func interruptedNotByFailure(s *subject) {
	s.seed()
	f := failure(credentials.Transient)
	f.RetryIn = 0
	s.fail(s.claim("A", long), f)
	equal(s, "Interrupted after a transient failure", s.get().Interrupted, credentials.Interruption{})
	equal(s, "Interrupted under the next claim", s.claim("B", long).Interrupted, credentials.Interruption{})

	s.seed()
	s.fail(s.claim("A", long), failure(credentials.Rejected))
	equal(s, "Interrupted after a rejection", s.get().Interrupted, credentials.Interruption{})

	// One whose lease had ended by then is known as well.
	s.seed()
	s.fail(s.lapsed("A"), f)
	equal(s, "Interrupted after a late failure", s.get().Interrupted, credentials.Interruption{})
	equal(s, "Interrupted under the claim after it", s.claim("B", long).Interrupted, credentials.Interruption{})
}

func interruptedNotByRelease(s *subject) {
	s.seed()
	s.release(s.lapsed("A"))
	clean(s, s.claim("B", long))
}

func interruptedNotBySuccess(s *subject) {
	s.seed()
	due := renewal("A")
	due.DueIn = 0
	s.save(s.lapsed("A"), due)
	clean(s, s.claim("B", long))

	s.seed()
	a := s.lapsed("A")
	b := s.claim("B", long)
	s.save(a, due)
	clean(s, s.get())
	s.release(b)
	clean(s, s.claim("C", long))
}

// interruptedNotUnderSuccess: what B may have presented is not the refresh token that A's success brought, so nothing
// is known to be wrong with that.
func interruptedNotUnderSuccess(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.claim("B", short) // maybe at the same moment, by the store's clock: that decides nothing
	due := renewal("A")
	due.DueIn = 0
	s.save(a, due)
	s.await("B's lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })

	c := s.claim("C", short)
	holds(s, c, due.Grant)
	clean(s, c)
	// C presents A's, so its own interruption counts again.
	s.await("C's lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	equal(s, "Interrupted.By", s.claim("D", long).Interrupted.By, "C")
}

// interruptedNotByItself: who repeats a claim got no answer to it and presented nothing, so that the repeated claim is
// as good as a first one.
func interruptedNotByItself(s *subject) {
	s.seed()
	claim := credentials.Claim{ID: rand.Text(), Holder: "A", Lease: short}
	first, _ := s.tryClaim(claim)
	s.await("the lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	claim.Lease = long
	again, made := s.tryClaim(claim)
	if !made || !again.Lease.Live() {
		s.Fatalf("Claim, repeated: got lease %+v", again.Lease)
	}
	equal(s, "Version of the repeated claim", again.Version, first.Version+1)
	clean(s, again)
	clean(s, s.get())
	s.save(again, renewal("A"))
	s.has(renewal("A"))
}

func interruptedSurvives(s *subject) {
	s.seed()
	s.lapsed("A")
	s.release(s.claim("B", long))
	equal(s, "Interrupted.By after a release", s.get().Interrupted.By, "A")

	f := failure(credentials.Transient)
	f.RetryIn = 0
	s.fail(s.claim("C", long), f)
	equal(s, "Interrupted.By after a transient failure", s.get().Interrupted.By, "A")

	s.fail(s.claim("D", long), failure(credentials.Rejected))
	c := s.get()
	equal(s, "Interrupted.By after a rejection", c.Interrupted.By, "A")
	ago(s, "Interrupted.Ago", c.Interrupted.Ago, short)
	equal(s, "Failure.By", c.Failure.By, "D")

	s.seed()
	f.Class = credentials.Unknown
	s.fail(s.claim("E", long), f)
	f.Class = credentials.Transient
	s.fail(s.claim("F", long), f)
	equal(s, "Interrupted.By after unknown, then transient", s.get().Interrupted.By, "E")
}

func interruptedCleared(s *subject) {
	s.seed()
	s.lapsed("A")
	b := s.claim("B", long)
	equal(s, "Interrupted.By", b.Interrupted.By, "A")
	s.save(b, renewal("B"))
	free(s, s.get())

	s.seed()
	f := failure(credentials.Unknown)
	f.RetryIn = 0
	s.fail(s.claim("A", long), f)
	s.save(s.claim("B", long), renewal("B"))
	free(s, s.get())
}
