package storetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var claimAllTests = []test{
	{"claims each, and answers in the order asked for", claimAllInOrder},
	{"gives the credentials as they then are", claimAllGives},
	{"leaves what Claim refuses, and says why", claimAllRefused},
	{"uses nothing of the claim that is about one credential", claimAllShared},
	{"repeated, it finds what it claimed and claims the rest", claimAllAgain},
	{"repeated, it finds nothing of another ID", claimAllByAnother},
	{"a lease that ended is left alone, unless it ended long ago", claimAllLapsed},
	{"of no credential", claimAllOfNone},
	{"of hundreds of credentials, of several services", claimAllOfHundreds},
	{"each credential's result is its own", claimAllResults},
	{"invariant 1: at the same time each credential is claimed once", claimAllConcurrent},
}

// anyID returns a claim of that holder under an ID of its own.
func anyID(holder string) credentials.Claim {
	return credentials.Claim{ID: rand.Text(), Holder: holder, Lease: long}
}

// claimAll returns one answer per key.
func (s *subject) claimAll(claim credentials.Claim, keys ...credentials.Key) []credentials.Found {
	s.Helper()
	found, err := s.store.ClaimAll(s.Context(), keys, claim)
	if err != nil {
		s.Fatalf("ClaimAll of %d keys by %q: %v", len(keys), claim.Holder, err)
	}
	if len(found) != len(keys) {
		s.Fatalf("ClaimAll of %d keys: got %d answers", len(keys), len(found))
	}
	return found
}

// isClaimed fails the test unless the answer is the credential under that claim, as it is in
// the store.
func isClaimed(s *subject, what string, got credentials.Found, claim credentials.Claim, on *subject) {
	s.Helper()
	if got.Err != nil {
		s.Fatalf("%s: got error %v, want the claim", what, got.Err)
	}
	row := on.get()
	equal(s, what+": Key", got.Credential.Key, on.key)
	same(s, what, row, got.Credential)
	equal(s, what+": Lease.ID", row.Lease.ID, claim.ID)
	equal(s, what+": Lease.Holder", row.Lease.Holder, claim.Holder)
}

func claimAllInOrder(s *subject) {
	other, absent := s.fresh(), s.fresh()
	s.seed()
	other.seed()
	claim := anyID("A")
	odd := credentials.Key{Service: other.key.Service, Account: other.key.Account + " "}
	found := s.claimAll(claim, odd, absent.key, s.key, credentials.Key{Account: "alice"})
	isClaimed(s, "the first answer", found[0], claim, other)
	isMissing(s, "the second", found[1])
	isClaimed(s, "the third", found[2], claim, s)
	if err := found[3].Err; !errors.Is(err, credentials.ErrInvalidKey) {
		s.Errorf("a key without a service: got error %v, want ErrInvalidKey", err)
	}
}

func claimAllGives(s *subject) {
	before := s.overdue()
	claim := anyID("A")
	found := s.claimAll(claim, s.key)
	isClaimed(s, "the answer", found[0], claim, s)
	holds(s, found[0].Credential, renewalDue(s.key.Account).Grant)
	equal(s, "Version", found[0].Credential.Version, before.Version+1)
	equal(s, "Lease.Version", found[0].Credential.Lease.Version, before.Version+1)
}

func claimAllRefused(s *subject) {
	leased, dead, backingOff, good := s.fresh(), s.fresh(), s.fresh(), s.fresh()
	s.seed()
	for _, other := range []*subject{leased, dead, backingOff} {
		other.seed()
	}
	leased.claim("another", long)
	dead.fail(dead.claim("another", long), failure(credentials.ClassDead))
	backingOff.fail(backingOff.claim("another", long), failure(credentials.ClassTransient))
	good.put(renewal("put").Grant)
	refused := []struct {
		*subject
		want credentials.State
	}{
		{leased, credentials.StateLeased}, {dead, credentials.StateDead},
		{backingOff, credentials.StateBackingOff}, {good, credentials.StateFresh},
	}
	var keys []credentials.Key
	var before []credentials.Credential
	for _, other := range refused {
		keys, before = append(keys, other.key), append(before, other.get())
	}
	claim := anyID("A")
	found := s.claimAll(claim, append(keys, s.key)...)
	for i, other := range refused {
		what := "the answer about what is " + stateName(other.want)
		isFound(s, what, found[i], before[i])
		equal(s, what, stateName(found[i].Credential.State(claim)), stateName(other.want))
		other.unchanged(before[i])
	}
	isClaimed(s, "the last", found[len(refused)], claim, s)
}

func claimAllShared(s *subject) {
	lapsed := s.fresh()
	fresh := s.put(renewal("put").Grant)
	lapsed.seed()
	lapsed.lapsed("another")
	before := lapsed.get()
	for _, claim := range []credentials.Claim{
		{Invalidated: fresh.TokenID()}, {TakeOver: before.Lease.ID}, {Unused: before.Lease.ID},
	} {
		claim.ID, claim.Holder, claim.Lease = rand.Text(), "A", long
		s.claimAll(claim, s.key, lapsed.key)
		s.unchanged(fresh)
		lapsed.unchanged(before)
	}
}

func claimAllAgain(s *subject) {
	later := s.fresh()
	s.seed()
	claim := anyID("A")
	isMissing(s, "the second answer", s.claimAll(claim, s.key, later.key)[1])
	before := s.get()
	later.seed()
	found := s.claimAll(claim, s.key, later.key)
	isClaimed(s, "what was claimed before", found[0], claim, s)
	isClaimed(s, "the rest", found[1], claim, later)
	s.unchanged(before)
}

func claimAllByAnother(s *subject) {
	s.seed()
	claim := anyID("A")
	s.claimAll(claim, s.key)
	before := s.get()
	found := s.claimAll(anyID("B"), s.key)
	isFound(s, "the answer", found[0], before)
	state(s, found[0].Credential, credentials.StateLeased)
	s.unchanged(before)
}

func claimAllLapsed(s *subject) {
	s.seed()
	s.lapsed("another")
	before := s.get()
	isFound(s, "the answer", s.claimAll(anyID("A"), s.key)[0], before)
	s.unchanged(before)

	claim := anyID("A")
	claim.Lapsed = time.Microsecond
	found := s.claimAll(claim, s.key)
	isClaimed(s, "the answer", found[0], claim, s)
	equal(s, "Interrupted.By", found[0].Credential.Interrupted.By, "another")
	equal(s, "TookOver", found[0].Credential.TookOver, true)
	equal(s, "TookOver, found again", s.claimAll(claim, s.key)[0].Credential.TookOver, true)
}

func claimAllOfNone(s *subject) {
	before := s.seed()
	equal(s, "the number of answers", len(s.claimAll(anyID("A"))), 0)
	s.unchanged(before)
}

func claimAllOfHundreds(s *subject) {
	const n = 1100
	keys := make([]credentials.Key, n)
	there := make(map[int]*subject)
	for i := range keys {
		keys[i] = credentials.Key{Service: fmt.Sprintf("%s.%d", s.key.Service, i%3), Account: fmt.Sprint("account ", i)}
		if i%100 == 0 || i == n-1 {
			there[i] = s.under(keys[i])
			there[i].seed()
		}
	}
	claim := anyID("A")
	for i, found := range s.claimAll(claim, keys...) {
		what := fmt.Sprint("answer ", i)
		if on := there[i]; on != nil {
			isClaimed(s, what, found, claim, on)
		} else {
			isMissing(s, what, found)
		}
	}
}

func claimAllResults(s *subject) {
	saved, failed, released := s.account("saved"), s.account("failed"), s.account("released")
	for _, other := range []*subject{saved, failed, released} {
		other.seed()
	}
	found := s.claimAll(anyID("A"), saved.key, failed.key, released.key)
	saved.save(found[0].Credential, renewal("A"))
	failed.fail(found[1].Credential, failure(credentials.ClassDead))
	released.release(found[2].Credential)
	state(s, saved.get(), credentials.StateFresh)
	state(s, failed.get(), credentials.StateDead)
	state(s, released.get(), credentials.StateClaimable)
}

// claimAllConcurrent has callers claim the same credentials at once, in different orders. A caller
// that is told that a row is locked asks again.
func claimAllConcurrent(s *subject) {
	const rows, callers = 60, 8
	keys := make([]credentials.Key, rows)
	before := make(map[credentials.Key]credentials.Credential)
	for i := range keys {
		one := s.account(fmt.Sprint("account ", i))
		keys[i], before[one.key] = one.key, one.seed()
	}
	var mu sync.Mutex
	claimed := make(map[credentials.Key]int)
	deadline := time.Now().Add(patience)
	atOnce(callers, func(caller int) {
		left := append(append([]credentials.Key{}, keys[caller*7:]...), keys[:caller*7]...)
		for len(left) > 0 && time.Now().Before(deadline) {
			claim := anyID(fmt.Sprint("caller ", caller))
			found, err := s.store.ClaimAll(s.Context(), left, claim)
			if err != nil {
				s.Errorf("ClaimAll: %v", err)
				return
			}
			var locked []credentials.Key
			mu.Lock()
			for i, one := range found {
				c := one.Credential
				switch {
				case errors.Is(one.Err, credentials.ErrRowLocked):
					locked = append(locked, left[i])
				case one.Err != nil || !c.Lease.Live() || c.Version != before[left[i]].Version+1:
					s.Errorf("ClaimAll: got %+v, error %v", steady(c), one.Err)
				case c.Lease.ID == claim.ID:
					claimed[c.Key]++
				}
			}
			mu.Unlock()
			left = locked
		}
		equal(s, "keys that stayed locked", len(left), 0)
	})
	equal(s, "credentials claimed", len(claimed), rows)
	for key, n := range claimed {
		equal(s, "claims of "+key.Account, n, 1)
		equal(s, "Version of "+key.Account, s.account(key.Account).get().Version, before[key].Version+1)
	}
}
