package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var reviveTests = []test{
	{"a grant that was declared dead is due, and holds what it held", reviveDead},
	{"leaves what was not declared dead", reviveLeaves},
	{"leaves what was declared dead before", reviveSince},
	{"at a rate", reviveRate},
	{"a dry run writes nothing", reviveDry},
	{"may be repeated", reviveAgain},
	{"refuses a revival that cannot be right", reviveRefuses},
}

// dies has the provider declare the grant dead.
func (s *subject) dies() credentials.Credential {
	s.Helper()
	s.put(credentials.Grant{RefreshToken: secret("refresh of " + s.key.Account), Extra: secrets(map[string]string{"scope": "all"})})
	return s.fail(s.claim("A", long), failure(credentials.ClassDead))
}

// revival asks for the grants of the subject's service.
func (s *subject) revival() credentials.Revival {
	return credentials.Revival{Service: s.key.Service, Since: time.Hour, Rate: 1e6}
}

// revives makes a revival, which fails the test unless it revives these, in any order.
func (s *subject) revives(revival credentials.Revival, want ...*subject) {
	s.Helper()
	var got []credentials.Key
	revival.Each = func(key credentials.Key) { got = append(got, key) }
	n, err := s.store.Revive(s.Context(), revival)
	if err != nil {
		s.Fatalf("Revive: %v", err)
	}
	equal(s, "revived", n, len(want))
	equal(s, "names told", len(got), len(want))
	for _, one := range want {
		if !slices.Contains(got, one.key) {
			s.Errorf("Revive did not tell %v, but %v", one.key, got)
		}
	}
}

func reviveDead(s *subject) {
	s.put(credentials.Grant{RefreshToken: secret("refresh")})
	s.fail(s.claim("L", long), failureNow(credentials.ClassUnknown)) // which leaves an interruption
	died := failure(credentials.ClassDead)
	died.Code, died.Refusals = credentials.CodeUnconfirmed, 1 // the provider's own words are in the other cases
	before := s.fail(s.claim("A", long), died)
	s.revives(s.revival(), s)
	c := s.get()
	equal(s, "Failure", c.Failure, credentials.Failure{})
	equal(s, "Interrupted.By", c.Interrupted.By, before.Interrupted.By)
	hasVersions(s, c, before.Version+1, before.TokenVersion)
	equal(s, "RefreshToken", c.RefreshToken.Reveal(), before.RefreshToken.Reveal())
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
	s.claimDue(s.batch("B", 10), s)
}

func reviveLeaves(s *subject) {
	put, saved, policy := s.account("put since"), s.account("saved since"), s.account("given up by policy")
	unknown, busy := s.account("of unknown outcome"), s.account("backing off")
	leased, fresh, other := s.account("leased"), s.account("fresh"), s.fresh()
	put.dies()
	put.seed()

	late, _ := saved.overlapping()
	saved.get()
	saved.save(late, renewal("A"))

	given := failure(credentials.ClassDead)
	for one, code := range map[*subject]string{policy: credentials.CodeInterrupted, unknown: credentials.CodeUnknown} {
		one.seed()
		given.Code = code
		one.fail(one.claim("A", long), given)
	}
	busy.seed()
	busy.fail(busy.claim("A", long), failure(credentials.ClassTransient))
	leased.seed()
	leased.claim("A", long)
	fresh.put(renewal("put").Grant)
	other.dies()
	before := make(map[*subject]credentials.Credential)
	for _, one := range []*subject{put, saved, policy, unknown, busy, leased, fresh, other} {
		before[one] = one.get()
	}
	s.dies()
	s.revives(s.revival(), s)
	for one, c := range before {
		one.unchanged(c)
	}
}

// reviveSince has one die two windows ago, and the other within one; see claimDuePart.
func reviveSince(s *subject) {
	for window := 100 * time.Millisecond; window < patience/2; window *= 2 {
		try := s.fresh()
		long, soon := try.account("dead for long"), try.account("dead just now")
		long.dies()
		long.await("some time to pass", func(c credentials.Credential) bool { return c.Failure.Ago >= 2*window })
		began := time.Now()
		soon.dies()
		revival := try.revival()
		revival.Since = window
		n, err := s.store.Revive(s.Context(), revival)
		if err != nil {
			s.Fatalf("Revive: %v", err)
		}
		if time.Since(began) >= window {
			continue
		}
		equal(s, "revived", n, 1)
		state(s, soon.get(), credentials.StateClaimable)
		state(s, long.get(), credentials.StateDead)
		try.revives(try.revival(), long)
		return
	}
	s.Fatal("the store was too slow for every window; this test tests nothing")
}

func reviveRate(s *subject) {
	const n = 12
	var all []*subject
	for i := range n {
		all = append(all, s.account(string(rune('a'+i))))
		all[i].dies()
	}
	revival := s.revival()
	revival.Rate = 1.0 / 600
	s.revives(revival, all...)
	var due []time.Duration
	for _, one := range all {
		c := one.get()
		due = append(due, c.DueIn)
		state(s, c, credentials.StateClaimable) // for a caller who asks, at once
	}
	slices.Sort(due)
	if first, last := due[0], due[n-1]; first > time.Hour || last < time.Hour || last > n*10*time.Minute {
		s.Errorf("at a rate of one in ten minutes, %d fall due in %v to %v", n, first, last)
	}
}

func reviveDry(s *subject) {
	before := s.dies()
	revival := s.revival()
	revival.DryRun = true
	s.revives(revival, s)
	s.unchanged(before)
}

func reviveAgain(s *subject) {
	s.dies()
	s.revives(s.revival(), s)
	before := s.get()
	s.revives(s.revival())
	s.unchanged(before)
	state(s, s.save(s.claim("B", long), renewal("B")), credentials.StateFresh)
}

func reviveRefuses(s *subject) {
	before := s.dies()
	for name, change := range map[string]func(r *credentials.Revival){
		"no service":      func(r *credentials.Revival) { r.Service = "" },
		"since no time":   func(r *credentials.Revival) { r.Since = 0 },
		"a negative time": func(r *credentials.Revival) { r.Since = -time.Hour },
		"a negative rate": func(r *credentials.Revival) { r.Rate = -1 },
	} {
		s.Run(name, func(t *testing.T) {
			revival := s.revival()
			change(&revival)
			if n, err := s.store.Revive(t.Context(), revival); err == nil || n > 0 {
				t.Errorf("Revive: got %d, error %v", n, err)
			}
		})
	}
	s.unchanged(before)
}
