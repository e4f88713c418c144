package storetest

import "github.com/latchkey-go/latchkey/credentials"

// claimDueRepeatedTests are about batches that come after a claim of which nothing was saved, or nobody knows.
var claimDueRepeatedTests = []test{
	{"names what a lapsed lease interrupted", claimDueInterrupted},
	{"names nothing where a success was saved under the lease", claimDueNotInterrupted},
	{"repeated, it finds what it claimed and claims no more", claimDueRepeated},
	{"repeated when it claimed nothing, it claims nothing", claimDueRepeatedForNothing},
	{"repeated when its leases have ended, it finds nothing; claimed anew under its ID, nothing was interrupted", claimDueRepeatedLate},
}

func claimDueInterrupted(s *subject) {
	bob := s.account("bob")
	bob.seed()
	s.seed()
	s.lapsed("A")
	claimed := s.claimDue(s.batch("B", 10), s, bob)
	equal(s, "Interrupted.By", claimed[s.key].Interrupted.By, "A")
	ago(s, "Interrupted.Ago", claimed[s.key].Interrupted.Ago, short)
	committed := s.get()
	equal(s, "Interrupted.By, read again", committed.Interrupted.By, "A")
	ago(s, "Interrupted.Ago, read again", committed.Interrupted.Ago, claimed[s.key].Interrupted.Ago)
	clean(s, claimed[bob.key])
	clean(s, bob.get())

	// By a batch that nobody came back from, too.
	s.seed()
	batch := s.batch("C", 1)
	batch.Lease = short
	s.claimDue(batch, s)
	s.await("the lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	equal(s, "Interrupted.By", s.claim("D", long).Interrupted.By, "C")
}

func claimDueNotInterrupted(s *subject) {
	s.seed()
	a := s.lapsed("A")
	batch := s.batch("B", 1)
	batch.Lease = short
	s.claimDue(batch, s)
	due := renewal("A")
	due.DueIn = 0
	s.save(a, due)
	s.await("B's lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	batch = s.batch("C", 1)
	batch.Lease = short
	c := s.claimDue(batch, s)[s.key]
	holds(s, c, due.Grant)
	clean(s, c)
	clean(s, s.get())
	s.await("C's lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	equal(s, "Interrupted.By", s.claimDue(s.batch("D", 1), s)[s.key].Interrupted.By, "C")
}

func claimDueRepeated(s *subject) {
	bob, carol := s.account("bob"), s.account("carol")
	for _, one := range []*subject{s, bob, carol} {
		one.overdue()
	}
	left := carol.get()
	batch := s.batch("A", 2)
	first := s.claimDue(batch, s, bob)
	batch.Repeated = true
	for key, c := range s.claimDue(batch, s, bob) {
		same(s, "what the repeated batch returned", c, first[key])
		equal(s, "Fence", c.Fence(), first[key].Fence())
	}
	s.unchanged(first[s.key])
	carol.unchanged(left)

	// What it has given up is its own no more, and nothing else is claimed while it has one left.
	s.save(first[s.key], renewal("A"))
	s.claimDue(batch, bob)
	carol.unchanged(left)
	// Another batch's claims are not its own.
	other := s.batch("B", 2)
	other.Repeated = true
	s.claimDue(other)
	carol.unchanged(left)
	s.claimDue(batch, bob)
}

func claimDueRepeatedForNothing(s *subject) {
	batch := s.batch("A", 1)
	batch.Repeated = true
	s.claimDue(batch)
	due := s.overdue()
	s.claimDue(batch)
	s.unchanged(due)
}

func claimDueRepeatedLate(s *subject) {
	s.seed()
	batch := s.batch("A", 1)
	batch.Lease = short
	first := s.claimDue(batch, s)[s.key]
	s.await("the lease to end", func(c credentials.Credential) bool { return !c.Lease.Live() })
	batch.Repeated = true
	s.claimDue(batch)
	batch.Lease, batch.Repeated = long, false
	again := s.claimDue(batch, s)[s.key]
	equal(s, "Version", again.Version, first.Version+1)
	equal(s, "Lease.Version", again.Lease.Version, again.Version)
	clean(s, again)
	clean(s, s.get())
}
