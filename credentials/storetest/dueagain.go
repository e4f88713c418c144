package storetest

import (
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// claimDueAgainTests are about batches that come after a claim of which nothing was saved, or
// nobody knows.
var claimDueAgainTests = []test{
	{"names what a lapsed lease interrupted", claimDueInterrupted},
	{"names nothing where a success was saved under the lease", claimDueNotInterrupted},
	{"takes over only leases that ended so long ago", claimDueLapsed},
	{"what a batch claimed is found, and nothing else", findClaims},
	{"where a batch claimed nothing, nothing is found", findClaimsNone},
	{"what a batch claimed is found when its leases have ended", findClaimsLapsed},
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
	s.awaitLapse()
	equal(s, "Interrupted.By", s.claim("D", long).Interrupted.By, "C")
}

func claimDueNotInterrupted(s *subject) {
	s.seed()
	a := s.lapsed("A")
	batch := s.batch("B", 1)
	batch.Lease = short
	s.claimDue(batch, s)
	due := renewalDue("A")
	s.save(a, due)
	s.awaitLapse()
	batch = s.batch("C", 1)
	batch.Lease = short
	c := s.claimDue(batch, s)[s.key]
	holds(s, c, due.Grant)
	clean(s, c)
	clean(s, s.get())
	s.awaitLapse()
	equal(s, "Interrupted.By", s.claimDue(s.batch("D", 1), s)[s.key].Interrupted.By, "C")
}

func claimDueLapsed(s *subject) {
	bob := s.account("bob")
	s.seed()
	s.lapsed("A")
	bob.seed()
	unused := bob.lapsed("B")
	batch := s.batch("C", 10)
	batch.Lapsed = long
	s.claimDue(batch)
	batch.Lapsed = 0
	s.claimDue(batch)
	batch.TakeOver, batch.Unused = unused.Lease.ID, unused.Lease.ID
	s.claimDue(batch)
	batch.Lapsed = time.Microsecond
	for _, c := range s.claimDue(batch, s, bob) {
		equal(s, "TookOver", c.TookOver, true)
	}
}

// find looks for the claims of a batch that began that long ago, and fails the test unless they are
// these.
func (s *subject) find(batch credentials.Batch, age time.Duration, want ...credentials.Credential) {
	s.Helper()
	found, err := s.store.FindClaims(s.Context(), batch, age)
	if err != nil || len(found) != len(want) {
		s.Fatalf("FindClaims: got %d, error %v, want %d", len(found), err, len(want))
	}
	got := make(map[credentials.Key]credentials.Credential)
	for _, c := range found {
		got[c.Key] = c
	}
	for _, c := range want {
		same(s, "what was found", got[c.Key], c)
		equal(s, "Fence", got[c.Key].Fence(), c.Fence())
	}
}

func findClaims(s *subject) {
	bob, carol := s.account("bob"), s.account("carol")
	for _, one := range []*subject{s, bob, carol} {
		one.overdue()
	}
	left := carol.get()
	batch := s.batch("A", 2)
	began := time.Now()
	claimed := s.claimDue(batch, s, bob)
	s.find(batch, time.Since(began), claimed[s.key], claimed[bob.key])
	s.unchanged(claimed[s.key])
	carol.unchanged(left)

	// A claim whose result is stored is over.
	s.save(claimed[s.key], renewal("A"))
	s.find(batch, time.Since(began), claimed[bob.key])
	s.find(s.batch("B", 2), 0) // another batch
	carol.unchanged(left)
}

func findClaimsNone(s *subject) {
	due := s.overdue()
	s.find(s.batch("A", 1), 0)
	s.unchanged(due)
}

func findClaimsLapsed(s *subject) {
	s.seed()
	batch := s.batch("A", 1)
	batch.Lease = short
	began := time.Now()
	claimed := s.claimDue(batch, s)[s.key]
	s.awaitLapse()
	s.find(batch, time.Since(began), claimed)
	s.release(claimed)
	s.find(batch, time.Since(began))
	clean(s, s.claimDue(s.batch("B", 1), s)[s.key])
}
