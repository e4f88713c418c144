package storetest

import (
	"crypto/rand"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// The tests of this file are claims where a lease stands in the row, or stood: claim.go lists them.

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
	state(s, ended, credentials.StateClaimable)

	b := s.claim("B", long)
	equal(s, "Version", b.Version, a.Version+1)
	equal(s, "Lease.Holder", b.Lease.Holder, "B")
	left(s, "Lease.EndsIn", b.Lease.EndsIn, long)
	left(s, "DueIn", b.DueIn, long)
}

// claimNotNamed: the end of a lease entitles nobody, but for a claim that names it.
func claimNotNamed(s *subject) {
	s.seed()
	a := s.lapsed("A")
	s.refused(credentials.Claim{}, credentials.StateLeased)
	s.refused(credentials.Claim{TakeOver: rand.Text(), Unused: rand.Text()}, credentials.StateLeased)
	equal(s, "Lease.ID", s.get().Lease.ID, a.Lease.ID)
}

// claimLive: the process that counted the lease's end decides, whatever the store's clock says.
func claimLive(s *subject) {
	s.seed()
	a := s.claim("A", long)
	b, made := s.tryClaim(credentials.Claim{Holder: "B", Lease: long, TakeOver: a.Lease.ID})
	if !made {
		s.Fatalf("Claim that names the lease: refused: %+v", steady(b))
	}
	equal(s, "Interrupted.By", b.Interrupted.By, "A")
	equal(s, "Interrupted.By, read again", s.get().Interrupted.By, "A")
	equal(s, "TookOver", b.TookOver, true)
	again, _ := s.tryClaim(credentials.Claim{ID: b.Lease.ID, Holder: "B", Lease: long})
	equal(s, "TookOver of the repeated claim", again.TookOver, true)
	equal(s, "TookOver of a read", s.get().TookOver, false)
	// A fresh token is no reason to take anything over.
	s.save(a, renewal("A"))
	s.refused(credentials.Claim{TakeOver: b.Lease.ID}, credentials.StateFresh)
}

// claimAfterTakeover: a lease that took another's place was given up, or is known to be unused. The
// holder whose lease it took over has not had the grace, so the next claim owes it still, and none
// after an exchange that failed.
func claimAfterTakeover(s *subject) {
	s.seed()
	s.lapsed("A")
	b := s.claim("B", long)
	unused, made := s.tryClaim(credentials.Claim{Holder: "B", Lease: long, Unused: b.Lease.ID})
	equal(s, "the claim over the unused lease: made", made, true)
	equal(s, "TookOver over the unused lease", unused.TookOver, true)
	s.release(unused)
	c := s.claim("C", long)
	equal(s, "TookOver after the release", c.TookOver, true)
	equal(s, "Interrupted.By", c.Interrupted.By, "A")
	s.fail(c, failureNow(credentials.ClassTransient))
	d := s.claim("D", long)
	equal(s, "TookOver after a failure", d.TookOver, false)
	equal(s, "Interrupted.By after a failure", d.Interrupted.By, "A")
}

// claimUnused: the process knows that nothing was presented under its own earlier claims.
func claimUnused(s *subject) {
	for _, lease := range []time.Duration{short, long} {
		s.seed()
		a := s.claim("A", lease)
		if lease == short {
			s.awaitLapse()
		}
		b, made := s.tryClaim(credentials.Claim{Holder: "A", Lease: long, Unused: a.Lease.ID})
		if !made {
			s.Fatalf("Claim that knows the lease for unused: refused: %+v", steady(b))
		}
		clean(s, b)
		clean(s, s.get())
		equal(s, "TookOver", b.TookOver, false)
	}
}

// claimOvertaken: the version moves on under the claim, and the repeated claim has the same fence.
func claimOvertaken(s *subject) {
	s.seed()
	a := s.lapsed("A")
	claim := credentials.Claim{ID: rand.Text(), Holder: "B", Lease: long, TakeOver: a.Lease.ID}
	b, _ := s.tryClaim(claim)
	s.save(a, renewal("A"))
	again, made := s.tryClaim(claim)
	if !made {
		s.Fatalf("Claim, repeated with its ID: refused: %+v", steady(again))
	}
	equal(s, "Version", again.Version, b.Version+1)
	equal(s, "Lease.Version", again.Lease.Version, b.Version)
	equal(s, "Fence of the repeated claim", again.Fence(), b.Fence())
	s.failUnderLease(again, failure(credentials.ClassDead))
	free(s, s.has(renewal("A").Grant))
}
