package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var ensureTests = []test{
	{"makes a credential that is not there, as a put does", ensureNew},
	{"leaves a credential alone that is there", ensureThere},
	{"repeated, changes nothing", ensureTwice},
	{"of many at the same time one is stored", ensureAtOnce},
	{"a refused grant or key makes no credential", ensureRefused},
}

func (s *subject) ensure(g credentials.Grant) {
	s.Helper()
	if err := s.store.Ensure(s.Context(), s.key, g); err != nil {
		s.Fatalf("Ensure(%v): %v", s.key, err)
	}
}

func ensureNew(s *subject) {
	g := renewal("ensured").Grant
	s.ensure(g)
	c := s.has(g)
	hasVersions(s, c, 1, 1)
	free(s, c)
	state(s, c, credentials.StateFresh)

	s = s.fresh()
	s.ensure(credentials.Grant{})
	c = s.get()
	left(s, "DueIn of one without a token", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
	s.save(s.claim("A", long), renewal("A"))
}

func ensureThere(s *subject) {
	s.seed()
	s.lapsed("A")
	s.claim("B", long)
	before := s.get()
	s.ensure(renewal("ensured").Grant)
	s.unchanged(before)
}

func ensureTwice(s *subject) {
	s.ensure(credentials.Grant{})
	before := s.get()
	s.ensure(credentials.Grant{})
	s.unchanged(before)
}

func ensureAtOnce(s *subject) {
	for range rounds {
		s := s.fresh()
		errs := make([]error, claimers)
		atOnce(claimers, func(i int) {
			errs[i] = s.store.Ensure(s.Context(), s.key, renewal(fmt.Sprint("ensured ", i)).Grant)
		})
		if err := errors.Join(errs...); err != nil {
			s.Fatalf("Ensure: %v", err)
		}
		c := s.get()
		hasVersions(s, c, 1, 1)
		token := c.AccessToken.Reveal()
		equal(s, "the refresh token beside the token "+token, c.RefreshToken.Reveal(), token+"'s refresh token")
	}
}

func ensureRefused(s *subject) {
	err := s.store.Ensure(s.Context(), s.key, credentials.Grant{Lifetime: time.Hour})
	if !errors.Is(err, credentials.ErrInvalidGrant) {
		s.Errorf("Ensure with a lifetime alone: got error %v, want ErrInvalidGrant", err)
	}
	missing(s)
	err = s.store.Ensure(s.Context(), credentials.Key{}, credentials.Grant{})
	if !errors.Is(err, credentials.ErrInvalidKey) {
		s.Errorf("Ensure without a service: got error %v, want ErrInvalidKey", err)
	}
}
