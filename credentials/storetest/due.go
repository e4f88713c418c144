package storetest

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var claimDueTests = []test{
	{"claims what is due, what has been due for longest first", claimDueTakes},
	{"gives the credentials as they then are", claimDueGives},
	{"nothing is due", claimDueNothing},
	{"passes over what Claim refuses, and what is not due", claimDuePasses},
	{"only what has been due for so long", claimDueOverdue},
	{"only what has been due for no longer", claimDueLongest},
	{"a probe takes what did not fail, and became due last", claimDueProbe},
	{"each credential's result is its own", claimDueResults},
	{"invariant 1: batches at the same time share nothing and leave nothing", claimDueConcurrent},
	{"refuses a batch that cannot be right", claimDueRefuses},
}

// account returns a subject of the same service.
func (s *subject) account(name string) *subject {
	return s.under(credentials.Key{Service: s.key.Service, Account: name})
}

// overdue makes the credential due, with a token that is good.
func (s *subject) overdue() credentials.Credential {
	s.Helper()
	s.put(credentials.Grant{})
	return s.save(s.claim("seed", long), renewalDue(s.key.Account))
}

// batch returns a batch of the subject's service.
func (s *subject) batch(holder string, limit int) credentials.Batch {
	return credentials.Batch{
		Claim:   credentials.Claim{ID: rand.Text(), Holder: holder, Lease: long, Lapsed: time.Microsecond},
		Service: s.key.Service, Limit: limit,
	}
}

// claimDue makes a batch claim, which fails the test unless it claims these, in any order.
func (s *subject) claimDue(
	batch credentials.Batch, want ...*subject,
) (claimed map[credentials.Key]credentials.Credential) {
	s.Helper()
	got, err := s.store.ClaimDue(s.Context(), batch)
	if err != nil {
		s.Fatalf("ClaimDue: %v", err)
	}
	claimed = make(map[credentials.Key]credentials.Credential, len(got))
	for _, c := range got {
		claimed[c.Key] = c
		if c.Lease.ID != batch.ID || !c.Lease.Live() {
			s.Errorf("ClaimDue returned %v under the lease %+v, want that of %s", c.Key, c.Lease, batch.ID)
		}
	}
	for _, other := range want {
		if _, ok := claimed[other.key]; !ok {
			s.Errorf("ClaimDue by %s did not claim %v: %+v", batch.Holder, other.key.Account, steady(other.get()))
		}
	}
	if len(got) != len(want) {
		s.Fatalf("ClaimDue by %s claimed %d, want %d: %v", batch.Holder, len(got), len(want), got)
	}
	return claimed
}

func claimDueTakes(s *subject) {
	var rows []*subject
	for i := range 5 {
		rows = append(rows, s.account(fmt.Sprint("account ", i)))
		rows[i].seed()
	}
	order := []int{3, 0, 4, 1, 2} // neither the rows' nor the names'
	for _, i := range order {
		rows[i].overdue()
	}
	got, err := s.store.ClaimDue(s.Context(), s.batch("A", 3))
	if err != nil || len(got) != 3 {
		s.Fatalf("ClaimDue of at most 3 of 5: got %d, error %v", len(got), err)
	}
	for i, c := range got {
		equal(s, fmt.Sprint("number ", i), c.Key, rows[order[i]].key)
	}
	s.claimDue(s.batch("B", 10), rows[order[3]], rows[order[4]])
	s.claimDue(s.batch("C", 10))
}

func claimDueGives(s *subject) {
	g := credentials.Grant{
		AccessToken: secret("access"), RefreshToken: secret("refresh"),
		Lifetime: 2 * time.Hour, RefreshLifetime: 3 * time.Hour, Extra: secrets(map[string]string{"scope": "all"}),
	}
	bob := s.account("bob")
	for _, one := range []*subject{s, bob} {
		one.seed()
		one.save(one.claim("seed", long), credentials.Renewal{Grant: g, By: "seed"})
	}
	bob.release(bob.claim("seed", long)) // so that the versions differ
	before := map[*subject]credentials.Credential{s: s.get(), bob: bob.get()}

	batch := s.batch("host-1 pid 4711", 10)
	batch.Lease = 40 * time.Minute
	claimed := s.claimDue(batch, s, bob)
	for one, was := range before {
		one.claimed(claimed[one.key], was, batch.Claim)
	}
}

func claimDueNothing(s *subject) {
	s.claimDue(s.batch("A", 3))
	s.put(renewal("put").Grant)
	s.claimDue(s.batch("A", 3))
}

func claimDuePasses(s *subject) {
	other := s.fresh()
	other.overdue()
	passed := []*subject{
		s.account("leased"), s.account("leased, and due after a late success"), s.account("backing off"),
		s.account("dead"), s.account("fresh"), s.account("expired, and never due"), s.account("deleted"), other,
	}
	passed[0].seed()
	passed[0].claim("L", long)

	late, _ := passed[1].overlapping()
	passed[1].save(late, renewalDue("A"))

	passed[2].seed()
	passed[2].fail(passed[2].claim("A", long), failure(credentials.ClassTransient))

	passed[3].seed()
	passed[3].fail(passed[3].claim("A", long), failure(credentials.ClassDead))

	passed[4].put(renewal("put").Grant)

	passed[5].seed()
	never := renewal("A")
	never.Lifetime, never.DueIn = short, credentials.Never
	passed[5].save(passed[5].claim("A", long), never)
	passed[5].await("the token to expire", func(c credentials.Credential) bool { return c.ExpiresIn <= 0 })

	passed[6].overdue()
	passed[6].delete()

	before := make(map[*subject]credentials.Credential)
	for _, one := range passed {
		if one != passed[6] {
			before[one] = one.get()
		}
	}
	// None of them takes the place of one that can be claimed.
	s.overdue()
	s.claimDue(s.batch("C", 1), s)
	s.claimDue(s.batch("C", 10))
	for one, c := range before {
		one.unchanged(c)
	}

	// When the back-off is over, it is due.
	passed[2].put(credentials.Grant{})
	passed[2].backedOff(failure(credentials.ClassTransient))
	s.claimDue(s.batch("D", 10), passed[2])
}

// claimDueOverdue and claimDueLongest claim one of two, of which one has been due for long.
func claimDueOverdue(s *subject) {
	s.claimDuePart(func(batch *credentials.Batch, window time.Duration) (long bool) {
		batch.MinOverdue = window
		return true
	})
}

func claimDueLongest(s *subject) {
	s.claimDuePart(func(batch *credentials.Batch, window time.Duration) (long bool) {
		batch.MaxOverdue = window
		return false
	})
}

// claimDuePart has one be due for two windows, and the other for less than one: so long may the
// store take to make it due and to claim. With a store that is slower, or on a busy machine, it
// tries again with a window twice as long.
func (s *subject) claimDuePart(bound func(batch *credentials.Batch, window time.Duration) (long bool)) {
	for window := 100 * time.Millisecond; window < patience/2; window *= 2 {
		try := s.fresh()
		long, soon := try.account("due for long"), try.account("due just now")
		long.overdue()
		long.await("some time to pass", func(c credentials.Credential) bool { return c.DueIn <= -2*window })
		began := time.Now()
		soon.overdue()
		batch := try.batch("A", 10)
		want, other := long, soon
		if !bound(&batch, window) {
			want, other = soon, long
		}
		got, err := s.store.ClaimDue(s.Context(), batch)
		if err != nil {
			s.Fatalf("ClaimDue: %v", err)
		}
		if time.Since(began) >= window {
			continue
		}
		if len(got) != 1 || got[0].Key != want.key {
			s.Errorf("ClaimDue, overdue for %v to %v: got %d credentials", batch.MinOverdue, batch.MaxOverdue, len(got))
		}
		try.claimDue(try.batch("B", 10), other)
		return
	}
	s.Fatal("the store was too slow for every window; this test tests nothing")
}

func claimDueProbe(s *subject) {
	failed, first, last := s.account("failed"), s.account("first"), s.account("last")
	first.overdue()
	last.overdue()
	failed.seed()
	failed.fail(failed.claim("seed", long), failureNow(credentials.ClassTransient))
	probe := s.batch("A", 1)
	probe.Probe = true
	s.claimDue(probe, last)
	probe.ID = rand.Text()
	s.claimDue(probe, first)
	probe.ID = rand.Text()
	s.claimDue(probe)
	s.claimDue(s.batch("B", 10), failed)
}

func claimDueResults(s *subject) {
	failed, released, kept := s.account("failed"), s.account("released"), s.account("kept")
	for _, one := range []*subject{s, failed, released, kept} {
		one.seed()
	}
	failed.release(failed.claim("seed", long)) // so that the versions differ
	batch := s.batch("A", 10)
	claimed := s.claimDue(batch, s, failed, released, kept)
	fences := make(map[credentials.Fence]bool)
	for _, c := range claimed {
		fences[c.Fence()] = true
	}
	equal(s, "distinct fences", len(fences), 4)

	free(s, s.save(claimed[s.key], renewal("A")))
	c := failed.fail(claimed[failed.key], failure(credentials.ClassTransient))
	equal(s, "Failure.By", c.Failure.By, "A")
	state(s, c, credentials.StateBackingOff)
	released.release(claimed[released.key])
	free(s, released.get())
	kept.unchanged(claimed[kept.key])
	s.claimDue(s.batch("B", 10), released)
	kept.unchanged(claimed[kept.key])
}

func claimDueConcurrent(s *subject) {
	const rows, callers, limit = 60, 8, 4
	before := make(map[credentials.Key]credentials.Credential)
	for i := range rows {
		one := s.account(fmt.Sprint("account ", i))
		before[one.key] = one.seed()
	}
	var mu sync.Mutex
	taken := make(map[credentials.Key]int)
	deadline := time.Now().Add(patience)
	atOnce(callers, func(int) {
		for time.Now().Before(deadline) {
			batch := s.batch("holder", limit)
			claimed, err := s.store.ClaimDue(s.Context(), batch)
			if err != nil || len(claimed) > limit {
				s.Errorf("ClaimDue: got %d, error %v", len(claimed), err)
				return
			}
			mu.Lock()
			for _, c := range claimed {
				taken[c.Key]++
				if c.Lease.ID != batch.ID || c.Version != before[c.Key].Version+1 {
					s.Errorf("ClaimDue: got %+v under %s", steady(c), batch.ID)
				}
			}
			done := len(taken) == rows
			mu.Unlock()
			if done { // an empty batch is not the end: rows that another locked are passed over
				return
			}
		}
	})
	equal(s, "credentials claimed", len(taken), rows)
	for key, n := range taken {
		equal(s, "claims of "+key.Account, n, 1)
		one := &subject{T: s.T, store: s.store, key: key}
		equal(s, "Version of "+key.Account, one.get().Version, before[key].Version+1)
	}
}

func claimDueRefuses(s *subject) {
	before := s.overdue()
	for name, change := range map[string]func(b *credentials.Batch){
		"a limit of 0":     func(b *credentials.Batch) { b.Limit = 0 },
		"a negative limit": func(b *credentials.Batch) { b.Limit = -1 },
		"no service":       func(b *credentials.Batch) { b.Service = "" },
	} {
		s.Run(name, func(t *testing.T) {
			batch := s.batch("A", 1)
			change(&batch)
			if got, err := s.store.ClaimDue(t.Context(), batch); err == nil || len(got) > 0 {
				t.Errorf("ClaimDue: got %d credentials, error %v", len(got), err)
			}
		})
	}
	s.unchanged(before)
}
