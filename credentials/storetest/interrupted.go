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
	{"survives a release, a transient failure and a dead grant", interruptedSurvives},
	{"cleared by a success", interruptedCleared},
	{"named as survived from its success to the next one", survivedOneSuccess},
	{"not survived by a late success, nor by a put", survivedByNothingElse},
}

func interruptedByLapse(s *subject) {
	s.seed()
	// The lease is long enough to tell the time since the claim from the time since the lease's
	// end.
	const lease = 50 * time.Millisecond
	s.claim("A", lease)
	clean(s, s.awaitLapse())

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
	f := failureNow(credentials.ClassUnknown)
	// The exchange is long enough to tell the time since the claim from the time since the failure.
	const exchange = 50 * time.Millisecond
	s.await("the exchange to take a while", func(c credentials.Credential) bool {
		return c.Lease.Age >= exchange
	})
	c := s.fail(a, f)
	equal(s, "Interrupted.By", c.Interrupted.By, "A")
	ago(s, "Interrupted.Ago", c.Interrupted.Ago, exchange)

	b := s.claim("B", long)
	equal(s, "Interrupted.By under the next claim", b.Interrupted.By, "A")
	equal(s, "Interrupted.By after another of unknown outcome", s.fail(b, f).Interrupted.By, "B")
}

func interruptedNotByFailure(s *subject) {
	none := func(when string, c credentials.Credential) {
		s.Helper()
		equal(s, "Interrupted "+when, c.Interrupted, credentials.Interruption{})
	}
	s.seed()
	f := failureNow(credentials.ClassTransient)
	none("after a transient failure", s.fail(s.claim("A", long), f))
	none("under the next claim", s.claim("B", long))

	s.seed()
	none("when the grant is dead", s.fail(s.claim("A", long), failure(credentials.ClassDead)))

	// A failure whose lease had ended by then is known as well.
	s.seed()
	none("after a late failure", s.fail(s.lapsed("A"), f))
	none("under the claim after it", s.claim("B", long))
}

func interruptedNotByRelease(s *subject) {
	s.seed()
	s.release(s.lapsed("A"))
	clean(s, s.claim("B", long))
}

func interruptedNotBySuccess(s *subject) {
	s.seed()
	s.save(s.lapsed("A"), renewalDue("A"))
	clean(s, s.claim("B", long))

	a, b := s.overlapping()
	clean(s, s.save(a, renewalDue("A")))
	s.release(b)
	clean(s, s.claim("C", long))
}

// interruptedNotUnderSuccess: B may have presented a refresh token, but not the one that A's
// success brought, so nothing is known to be wrong with that one.
func interruptedNotUnderSuccess(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.claim("B", short) // maybe at the same moment, by the store's clock: that decides nothing
	due := renewalDue("A")
	s.save(a, due)
	s.awaitLapse()

	c := s.claim("C", short)
	holds(s, c, due.Grant)
	clean(s, c)
	// C presents A's refresh token, so C's own interruption counts again.
	s.awaitLapse()
	equal(s, "Interrupted.By", s.claim("D", long).Interrupted.By, "C")
}

// interruptedNotByItself: a holder that repeats a claim got no answer to it and presented nothing,
// so that the repeated claim is as good as a first one.
func interruptedNotByItself(s *subject) {
	s.seed()
	claim := credentials.Claim{ID: rand.Text(), Holder: "A", Lease: short}
	first, _ := s.tryClaim(claim)
	s.awaitLapse()
	claim.Lease = long
	again, made := s.tryClaim(claim)
	if !made || !again.Lease.Live() {
		s.Fatalf("Claim, repeated: got lease %+v", again.Lease)
	}
	equal(s, "Version of the repeated claim", again.Version, first.Version+1)
	clean(s, again)
	clean(s, s.get())
	s.save(again, renewal("A"))
}

func interruptedSurvives(s *subject) {
	s.seed()
	s.lapsed("A")
	s.release(s.claim("B", long))
	equal(s, "Interrupted.By after a release", s.get().Interrupted.By, "A")

	transient := failureNow(credentials.ClassTransient)
	c := s.fail(s.claim("C", long), transient)
	equal(s, "Interrupted.By after a transient failure", c.Interrupted.By, "A")

	c = s.fail(s.claim("D", long), failure(credentials.ClassDead))
	equal(s, "Interrupted.By when the grant is dead", c.Interrupted.By, "A")
	ago(s, "Interrupted.Ago", c.Interrupted.Ago, short)
	equal(s, "Failure.By", c.Failure.By, "D")

	s.seed()
	s.fail(s.claim("E", long), failureNow(credentials.ClassUnknown))
	c = s.fail(s.claim("F", long), transient)
	equal(s, "Interrupted.By after unknown, then transient", c.Interrupted.By, "E")
}

func interruptedCleared(s *subject) {
	_, b := s.overlapping()
	equal(s, "Interrupted.By", b.Interrupted.By, "A")
	free(s, s.save(b, renewal("B")))

	s.seed()
	s.fail(s.claim("A", long), failureNow(credentials.ClassUnknown))
	free(s, s.save(s.claim("B", long), renewal("B")))
}

// survivedOneSuccess: a provider that took two requests for reuse may revoke the grant after it has
// answered the second with a token.
func survivedOneSuccess(s *subject) {
	s.seed()
	s.lapsed("A")
	s.save(s.claim("B", long), renewalDue("B"))
	c := s.get()
	equal(s, "Survived.By", c.Survived.By, "A")
	ago(s, "Survived.Ago", c.Survived.Ago, short)

	c = s.fail(s.claim("C", long), failureNow(credentials.ClassUnknown))
	equal(s, "Survived.By after a failure", c.Survived.By, "A")
	equal(s, "Interrupted.By after a failure of unknown outcome", c.Interrupted.By, "C")

	s.save(s.claim("D", long), renewalDue("D"))
	equal(s, "Survived.By after another success", s.get().Survived.By, "C")
	s.save(s.claim("E", long), renewalDue("E"))
	equal(s, "Survived after a success without interruption", s.get().Survived, credentials.Interruption{})
}

func survivedByNothingElse(s *subject) {
	a, _ := s.overlapping()
	equal(s, "Interrupted.By", s.get().Interrupted.By, "A")
	s.save(a, renewalDue("A")) // the interrupted exchange's own
	equal(s, "Survived after a late success", s.get().Survived, credentials.Interruption{})

	s.seed()
	s.lapsed("A")
	s.save(s.claim("B", long), renewalDue("B"))
	s.put(renewalDue("C").Grant)
	equal(s, "Survived after a put", s.get().Survived, credentials.Interruption{})
}
