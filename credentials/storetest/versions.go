package storetest

import "github.com/latchkey-go/latchkey/credentials"

var versionsTests = []test{
	{"of rows present and missing", versionsPresentAndMissing},
	{"of no rows", versionsOfNone},
	{"of more rows than a statement has parameters", versionsOfMany},
	{"they move on with every write", versionsMove},
}

// versions returns the versions of these credentials' rows, by row.
func (s *subject) versions(of ...credentials.Credential) map[uint64]uint64 {
	s.Helper()
	rows := make(map[uint64]credentials.Key, len(of))
	for _, c := range of {
		rows[c.Row] = c.Key
	}
	versions, err := s.store.Versions(s.Context(), rows)
	if err != nil {
		s.Fatalf("Versions(%v): %v", rows, err)
	}
	return versions
}

func versionsPresentAndMissing(s *subject) {
	other := s.fresh()
	s.seed()
	one, two := s.claim("A", long), other.seed()
	never := one
	never.Row = 1<<63 - 1

	got := s.versions(one, never, two)
	equal(s, "the number of rows in the answer", len(got), 2)
	equal(s, "version of the first", got[one.Row], one.Version)
	equal(s, "version of the second", got[two.Row], two.Version)

	got = s.versions(two)
	equal(s, "the number of rows in the answer about one", len(got), 1)
	equal(s, "its version", got[two.Row], two.Version)
	equal(s, "the number of rows in the answer about a missing one", len(s.versions(never)), 0)
}

func versionsOfNone(s *subject) {
	s.seed()
	equal(s, "the number of rows in the answer", len(s.versions()), 0)
}

func versionsOfMany(s *subject) {
	one := s.seed()
	of := make([]credentials.Credential, 70_000)
	for i := range of {
		of[i].Key, of[i].Row = one.Key, 1<<62+uint64(i)
	}
	of[len(of)-1] = one
	got := s.versions(of...)
	equal(s, "the number of rows in the answer", len(got), 1)
	equal(s, "its version", got[one.Row], one.Version)
}

func versionsMove(s *subject) {
	seed := s.seed()
	last := s.versions(seed)[seed.Row]
	var held credentials.Credential
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"a claim", func() { held = s.claim("A", long) }},
		{"a release", func() { s.release(held) }},
		{"another claim", func() { held = s.claim("B", long) }},
		{"a failure", func() { s.fail(held, credentials.Failure{Class: credentials.ClassTransient}) }},
		{"a claim after the failure", func() { held = s.claim("C", long) }},
		{"a success", func() { s.save(held, renewal("C")) }},
		{"a put", func() { s.put(credentials.Grant{}) }},
		{"a put of the same grant", func() { s.put(credentials.Grant{}) }},
		{"a claim whose lease ended", func() { held = s.lapsed("D") }},
		{"a claim after it", func() { s.claim("E", long) }},
		{"a late success", func() { s.save(held, renewal("D")) }},
	} {
		step.do()
		got := s.versions(seed)[seed.Row]
		if got <= last {
			s.Errorf("after %s: Versions says %d, want more than %d", step.name, got, last)
		}
		equal(s, "Version after "+step.name, s.get().Version, got)
		last = got
	}
}
