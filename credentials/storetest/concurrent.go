package storetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/latchkey-go/latchkey/credentials"
)

var concurrentTests = []test{
	{"invariant 1: one claim among many", concurrentClaims},
	{"invariant 1: one claim among many when a lease has ended", concurrentClaimsAfterLease},
	{"invariant 8: claims of different credentials are all made", concurrentCredentials},
	{"invariant 4: of concurrent successes the latest claim's stays", concurrentSaves},
	{"invariant 5: a failure and a late success", concurrentFailAndSave},
	{"puts of a new credential make one row", concurrentPuts},
}

const (
	rounds   = 20
	claimers = 16
)

// atOnce runs f(0) to f(n-1) at the same time and returns when all have.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// race lets many claim at once and fails the test unless one of them, and one only, gets the lease.
func race(s *subject) {
	s.Helper()
	before := s.get()
	claims := make([]credentials.Claim, claimers)
	got := make([]credentials.Credential, claimers)
	errs := make([]error, claimers)
	for i := range claims {
		claims[i] = credentials.Claim{
			ID: rand.Text(), Holder: fmt.Sprint("claimer ", i), Lease: long, TakeOver: ended(before.Lease),
		}
	}
	atOnce(claimers, func(i int) { got[i], errs[i] = s.store.Claim(s.Context(), s.key, claims[i]) })

	after := s.get()
	made := 0
	for i, c := range got {
		if errs[i] != nil {
			s.Fatalf("Claim: %v", errs[i])
		}
		if c.Lease.ID == claims[i].ID {
			made++
		}
		same(s, fmt.Sprintf("what claimer %d got", i), after, c)
	}
	equal(s, "number of claims made", made, 1)
	equal(s, "Version after all claims", after.Version, before.Version+1)
	state(s, after, credentials.StateLeased)
}

func concurrentClaims(s *subject) {
	for range rounds {
		s.seed()
		race(s)
	}
}

func concurrentClaimsAfterLease(s *subject) {
	for range rounds {
		s.seed()
		s.lapsed("A")
		race(s)
		equal(s, "Interrupted.By", s.get().Interrupted.By, "A")
	}
}

func concurrentCredentials(s *subject) {
	subjects := make([]*subject, claimers)
	for i := range subjects {
		subjects[i] = s.under(credentials.Key{Service: s.key.Service, Account: fmt.Sprint("account ", i)})
		subjects[i].seed()
	}
	claims := make([]credentials.Credential, claimers)
	errs := make([]error, claimers)
	atOnce(claimers, func(i int) {
		claim := credentials.Claim{ID: rand.Text(), Holder: fmt.Sprint("holder ", i), Lease: long}
		claims[i], errs[i] = s.store.Claim(s.Context(), subjects[i].key, claim)
		if errs[i] == nil {
			errs[i] = s.store.Save(s.Context(), claims[i].Fence(), renewal(claim.Holder))
		}
	})
	for i, other := range subjects {
		if errs[i] != nil {
			s.Fatalf("Claim and Save of account %d: %v", i, errs[i])
		}
		equal(s, "Lease.Holder", claims[i].Lease.Holder, fmt.Sprint("holder ", i))
		free(s, other.has(renewal(fmt.Sprint("holder ", i)).Grant))
	}
}

func concurrentSaves(s *subject) {
	for range rounds {
		s.seed()
		claims := []credentials.Credential{s.lapsed("A"), s.lapsed("B"), s.claim("C", long)}
		errs := make([]error, len(claims))
		atOnce(len(claims), func(i int) {
			errs[i] = s.store.Save(s.Context(), claims[i].Fence(), renewal(claims[i].Lease.Holder))
		})
		for i, err := range errs[:2] {
			if err != nil && !errors.Is(err, credentials.ErrSuperseded) {
				s.Errorf("Save by holder %d: %v", i, err)
			}
		}
		if errs[2] != nil {
			s.Errorf("Save by the last holder: %v", errs[2])
		}
		c := s.has(renewal("C").Grant)
		equal(s, "TokenVersion", c.TokenVersion, claims[2].Version)
		free(s, c)
	}
}

func concurrentFailAndSave(s *subject) {
	for range rounds {
		s.seed()
		a := s.lapsed("A")
		b := s.claim("B", long)
		errs := make([]error, 2)
		atOnce(2, func(i int) {
			if i == 0 {
				errs[i] = s.store.Save(s.Context(), a.Fence(), renewal("A"))
			} else {
				errs[i] = s.store.Fail(s.Context(), b.Fence(), failure(credentials.ClassDead))
			}
		})
		if errs[0] != nil {
			s.Errorf("Save: %v", errs[0])
		}
		if errs[1] != nil && !errors.Is(errs[1], credentials.ErrSuperseded) {
			s.Errorf("Fail: %v", errs[1])
		}
		free(s, s.has(renewal("A").Grant))
	}
}

func concurrentPuts(s *subject) {
	for range rounds {
		s := s.fresh()
		errs := make([]error, claimers)
		atOnce(claimers, func(i int) {
			errs[i] = s.store.Put(s.Context(), s.key, renewal(fmt.Sprint("put ", i)).Grant)
		})
		for _, err := range errs {
			if err != nil {
				s.Fatalf("Put: %v", err)
			}
		}
		c := s.get()
		hasVersions(s, c, claimers, c.Version)
		token := c.AccessToken.Reveal()
		equal(s, "the refresh token beside the token "+token, c.RefreshToken.Reveal(), token+"'s refresh token")
	}
}
