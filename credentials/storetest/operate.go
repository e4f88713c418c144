package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
)

var endLeaseTests = []test{
	{"a live lease, which counts as interrupted", endLeaseLive},
	{"a lease that has ended", endLeaseEnded},
	{"one that was overtaken is no interruption", endLeaseOvertaken},
	{"of a disabled credential, which is not due", endLeaseDisabled},
	{"the holder's success is stored, unless a later one is", endLeaseSave},
	{"no lease", endLeaseNone},
}

var reviveOneTests = []test{
	{"a grant that was declared dead", reviveOneDead},
	{"a grant that a policy gave up", reviveOnePolicy},
	{"a grant that is not dead", reviveOneAlive},
}

var changeTests = []test{
	{"of a credential that has moved", changeMoved},
	{"of a credential that there is not", changeMissing},
	{"by nobody, or an odd name", changeBy},
	{"removes the credential that was seen", changeRemove},
}

// endLease ends the lease in the row and returns the row.
func (s *subject) endLease() credentials.Credential {
	s.Helper()
	before := s.get()
	if err := s.store.EndLease(s.Context(), s.by("ann@host")); err != nil {
		s.Fatalf("EndLease: %v", err)
	}
	c := s.get()
	equal(s, "Lease", c.Lease, credentials.Lease{})
	hasVersions(s, c, before.Version+1, before.TokenVersion)
	return c
}

func endLeaseLive(s *subject) {
	s.put(renewal("put").Grant)
	a := s.claimInvalidating("A")
	c := s.endLease()
	s.has(renewal("put").Grant)
	left(s, "DueIn", c.DueIn, 0)
	equal(s, "Interrupted.By", c.Interrupted.By, "A")
	s.failMisses(a, failure(credentials.ClassDead))
	s.release(a)
	s.unchanged(c)
	b := s.claim("B", long)
	equal(s, "TookOver", b.TookOver, true) // so that A is given the time to save
	s.save(b, renewal("B"))
}

func endLeaseEnded(s *subject) {
	s.seed()
	s.lapsed("A")
	c := s.endLease()
	equal(s, "Interrupted.By", c.Interrupted.By, "A")
	state(s, c, credentials.StateClaimable)
}

func endLeaseOvertaken(s *subject) {
	_, b := s.lateUnderAnother()
	before := s.get()
	c := s.endLease()
	clean(s, c)
	left(s, "DueIn", c.DueIn, before.DueIn)
	state(s, s.save(b, renewal("B")), credentials.StateFresh)
}

func endLeaseDisabled(s *subject) {
	s.seed()
	s.claim("A", long)
	s.disable()
	s.endLease()
	equal(s, "Interrupted.By", s.isDisabled().Interrupted.By, "A")
}

func endLeaseSave(s *subject) {
	s.seed()
	a := s.claim("A", long)
	s.endLease()
	b := s.claim("B", long)
	equal(s, "Lease.ID", s.save(a, renewal("A")).Lease.ID, b.Lease.ID)
	s.save(b, renewal("B"))
	s.saveMisses(a, renewal("A, later"))
}

func endLeaseNone(s *subject) {
	before := s.seed()
	err := s.store.EndLease(s.Context(), s.by("ann@host"))
	s.refuses(err, credentials.ErrNotApplicable)
	s.unchanged(before)
}

// refuses fails the test unless the error wraps want.
func (s *subject) refuses(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("got error %v, want %v", err, want)
	}
}

func (s *subject) reviveOne(replay bool) credentials.Credential {
	s.Helper()
	before := s.get()
	if err := s.store.ReviveOne(s.Context(), s.by("ann@host"), replay); err != nil {
		s.Fatalf("ReviveOne: %v", err)
	}
	c := s.get()
	equal(s, "Failure", c.Failure, credentials.Failure{})
	equal(s, "RefreshToken", c.RefreshToken.Reveal(), before.RefreshToken.Reveal())
	hasVersions(s, c, before.Version+1, before.TokenVersion)
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
	return c
}

func reviveOneDead(s *subject) {
	s.dies()
	s.reviveOne(false)
	s.claimDue(s.batch("B", 10), s)
}

func reviveOnePolicy(s *subject) {
	for name, replay := range map[string]bool{"with replay": true, "without": false} {
		one := s.account(name)
		one.seed()
		one.lapsed("A")
		given := failure(credentials.ClassDead)
		given.Code = credentials.CodeInterrupted
		one.fail(one.claim("B", long), given)
		equal(s, "interrupted after a revival "+name, one.reviveOne(replay).Interrupted.By != "", !replay)
	}
}

func reviveOneAlive(s *subject) {
	s.seed()
	before := s.fail(s.claim("A", long), failure(credentials.ClassTransient))
	s.refuses(s.store.ReviveOne(s.Context(), s.by("ann@host"), true), credentials.ErrNotApplicable)
	s.unchanged(before)
}

// changes are those that an operator can make to a row that they fit.
func (s *subject) changes() map[string]func(credentials.Change) error {
	ctx := s.Context()
	return map[string]func(credentials.Change) error{
		"Disable":   func(ch credentials.Change) error { return s.store.Disable(ctx, ch) },
		"EndLease":  func(ch credentials.Change) error { return s.store.EndLease(ctx, ch) },
		"ReviveOne": func(ch credentials.Change) error { return s.store.ReviveOne(ctx, ch, true) },
		"Remove":    func(ch credentials.Change) error { return s.store.Remove(ctx, ch) },
		"Enable":    func(ch credentials.Change) error { return s.store.Enable(ctx, ch) },
	}
}

func changeMoved(s *subject) {
	seen := s.seed()
	s.fail(s.claim("A", long), failure(credentials.ClassDead))
	s.disable()
	row := s.get()
	for name, change := range s.changes() {
		if name == "Disable" {
			continue // it is disabled, as that would leave it
		}
		ch := s.by("ann@host")
		ch.Row, ch.Version = seen.Row, seen.Version
		s.refuses(change(ch), credentials.ErrSuperseded)
		ch.Row, ch.Version = row.Row+1, row.Version
		s.refuses(change(ch), credentials.ErrSuperseded)
	}
	s.unchanged(row)
	s.enable()
	row = s.get()
	ch := s.by("ann@host")
	ch.Row, ch.Version = seen.Row, seen.Version
	s.refuses(s.store.Disable(s.Context(), ch), credentials.ErrSuperseded)
	s.unchanged(row)
}

func changeMissing(s *subject) {
	for name, change := range s.changes() {
		s.Run(name, func(t *testing.T) {
			if err := change(s.by("ann@host")); !errors.Is(err, credentials.ErrNotFound) {
				t.Errorf("got error %v, want ErrNotFound", err)
			}
			if err := change(credentials.Change{By: "ann@host"}); !errors.Is(err, credentials.ErrInvalidKey) {
				t.Errorf("without a service: got error %v, want ErrInvalidKey", err)
			}
		})
	}
}

func changeBy(s *subject) {
	before := s.seed()
	for _, by := range []string{"", "ann\n", "änn", strings.Repeat("a", 256)} {
		if err := s.store.Disable(s.Context(), s.by(by)); err == nil {
			s.Errorf("Disable by %q: no error", by)
		}
	}
	s.unchanged(before)
}

func changeRemove(s *subject) {
	seen := s.seed()
	ch := s.by("ann@host")
	ch.Row, ch.Version = seen.Row, seen.Version
	if err := s.store.Remove(s.Context(), ch); err != nil {
		s.Fatalf("Remove: %v", err)
	}
	missing(s)
	again := s.seed()
	s.refuses(s.store.Remove(s.Context(), ch), credentials.ErrSuperseded)
	s.unchanged(again)
}
