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
	r := renewal(s.key.Account)
	r.DueIn = 0
	s.save(s.claim("seed", long), r)
	return s.get()
}

// batch returns a batch of the subject's service.
func (s *subject) batch(holder string, limit int) credentials.Batch {
	return credentials.Batch{
		Claim: credentials.Claim{ID: rand.Text(), Holder: holder, Lease: long}, Service: s.key.Service, Limit: limit,
	}
}

// claimDue makes a batch claim, which fails the test unless it claims these, in any order.
func (s *subject) claimDue(batch credentials.Batch, want ...*subject) (claimed map[credentials.Key]credentials.Credential) {
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
		Token: credentials.NewSecret("access"), RefreshToken: credentials.NewSecret("refresh"),
		Lifetime: 2 * time.Hour, RefreshLifetime: 3 * time.Hour, Extra: secrets(map[string]string{"scope": "all"}),
	}
	bob := s.account("bob")
	for _, one := range []*subject{s, bob} {
		one.seed()
		one.save(one.claim("seed", long), credentials.Renewal{Grant: g, By: "seed"})
	}
	bob.release(bob.claim("seed", long))
	before := map[credentials.Key]credentials.Credential{s.key: s.get(), bob.key: bob.get()}

	const lease = 40 * time.Minute
	batch := s.batch("host-1 pid 4711", 10)
	batch.Lease = lease
	for key, c := range s.claimDue(batch, s, bob) {
		holds(s, c, g)
		equal(s, "Row", c.Row, before[key].Row)
		equal(s, "Version", c.Version, before[key].Version+1)
		equal(s, "TokenVersion", c.TokenVersion, before[key].TokenVersion)
		equal(s, "Lease.Holder", c.Lease.Holder, batch.Holder)
		equal(s, "Lease.Version", c.Lease.Version, c.Version)
		equal(s, "Fence", c.Fence(), credentials.Fence{Row: c.Row, Claim: batch.ID, Version: c.Version})
		ago(s, "Lease.Age", c.Lease.Age, 0)
		left(s, "Lease.EndsIn", c.Lease.EndsIn, lease)
		left(s, "DueIn", c.DueIn, lease)
		left(s, "ExpiresIn", c.ExpiresIn, g.Lifetime)
		left(s, "RefreshExpiresIn", c.RefreshExpiresIn, g.RefreshLifetime)
		clean(s, c)
		one := &subject{T: s.T, store: s.store, key: key}
		one.unchanged(c)
		ago(s, "Lease.Age, read again", one.get().Lease.Age, c.Lease.Age)
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
		s.account("leased"), s.account("leased, and due after a late success"), s.account("backing off"), s.account("dead"),
		s.account("fresh"), s.account("expired, and never due"), s.account("deleted"), other,
	}
	passed[0].seed()
	passed[0].claim("L", long)

	passed[1].seed()
	late := passed[1].lapsed("A")
	passed[1].claim("B", long)
	due := renewal("A")
	due.DueIn = 0
	passed[1].save(late, due)

	passed[2].seed()
	passed[2].fail(passed[2].claim("A", long), failure(credentials.Transient))

	passed[3].seed()
	passed[3].fail(passed[3].claim("A", long), failure(credentials.Rejected))

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
	f := failure(credentials.Transient)
	f.RetryIn = short
	passed[2].fail(passed[2].claim("A", long), f)
	passed[2].await("the back-off to end", func(c credentials.Credential) bool { return c.Failure.RetryIn <= 0 })
	s.claimDue(s.batch("D", 10), passed[2])
}

// claimDueOverdue and claimDueLongest claim one of two, of which one has been due for long.
func claimDueOverdue(s *subject) {
	s.claimDuePart(func(batch *credentials.Batch, window time.Duration) (long bool) {
		batch.Overdue = window
		return true
	})
}

func claimDueLongest(s *subject) {
	s.claimDuePart(func(batch *credentials.Batch, window time.Duration) (long bool) {
		batch.Longest = window
		return false
	})
}

// claimDuePart has one be due for two windows, and the other for less than one: so long may the store take to make it due
// and to claim. With a store that is slower, or on a busy machine, it tries again with a window twice as long.
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
			s.Errorf("ClaimDue of what has been due for %v to %v: got %d credentials", batch.Overdue, batch.Longest, len(got))
		}
		try.claimDue(try.batch("B", 10), other)
		return
	}
	s.Fatal("the store was too slow for every window; this test tests nothing")
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

	s.save(claimed[s.key], renewal("A"))
	free(s, s.has(renewal("A")))
	failed.fail(claimed[failed.key], failure(credentials.Transient))
	equal(s, "Failure.By", failed.get().Failure.By, "A")
	state(s, failed.get(), credentials.BackingOff)
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
			if done { // what another had locked is passed over: a batch of none is not the end
				return
			}
		}
	})
	equal(s, "credentials claimed", len(taken), rows)
	for key, n := range taken {
		equal(s, "claims of "+key.Account, n, 1)
		equal(s, "Version of "+key.Account, (&subject{T: s.T, store: s.store, key: key}).get().Version, before[key].Version+1)
	}
}

func claimDueRefuses(s *subject) {
	before := s.overdue()
	for name, change := range map[string]func(b *credentials.Batch){
		"no ID":            func(b *credentials.Batch) { b.ID = "" },
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
