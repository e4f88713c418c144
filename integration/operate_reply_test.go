package integration_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// changeInDoubt is an operator's change of alice's credential whose COMMIT gets no reply.
type changeInDoubt struct {
	name   string
	before func(t *testing.T, store *latchkey.Store)
	change func(t *testing.T, store *latchkey.Store, ch credentials.Change) error
	check  func(t *testing.T, c credentials.Credential) // nil: the credential is gone
	writes uint64                                       // how far the version moves on
}

var changesInDoubt = []changeInDoubt{
	{
		"disable", func(*testing.T, *latchkey.Store) {}, disables,
		func(t *testing.T, c credentials.Credential) { equal(t, "Disabled.By", c.Disabled.By, "ann@host") }, 1,
	},
	{
		"enable", isDisabled,
		func(t *testing.T, store *latchkey.Store, ch credentials.Change) error {
			return store.Enable(bounded(t), ch)
		},
		func(t *testing.T, c credentials.Credential) { equal(t, "Disabled.By", c.Disabled.By, "") }, 1,
	},
	{
		"end a lease", func(t *testing.T, store *latchkey.Store) { claim(t, store, alice) },
		func(t *testing.T, store *latchkey.Store, ch credentials.Change) error {
			return store.EndLease(bounded(t), ch)
		},
		func(t *testing.T, c credentials.Credential) {
			equal(t, "Lease.ID", c.Lease.ID, "")
			equal(t, "Interrupted.By", c.Interrupted.By, "holder")
		}, 1,
	},
	{
		"revive", dies,
		func(t *testing.T, store *latchkey.Store, ch credentials.Change) error {
			return store.ReviveOne(bounded(t), ch, false)
		},
		func(t *testing.T, c credentials.Credential) { equal(t, "Failure.Class", c.Failure.Class, "") }, 1,
	},
	{
		"import", isDisabled, importsItself,
		func(t *testing.T, c credentials.Credential) { equal(t, "Disabled.By", c.Disabled.By, "ann@host") }, 2,
	},
	{"remove", func(*testing.T, *latchkey.Store) {}, removes, nil, 0},
	{"delete a service", func(*testing.T, *latchkey.Store) {}, deletesAll, nil, 0},
}

// TestChangesWhoseCommitIsLost cuts the connection at the COMMIT of an operator's change, before or
// after the server carried it out, and at the COMMIT of the second try, too. The operator learns
// nothing of it, and the change is made once.
func TestChangesWhoseCommitIsLost(t *testing.T) {
	for _, test := range changesInDoubt {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				for i := range 2 * len(cuts) {
					cut, times := cuts[i%len(cuts)], 1+i/len(cuts)
					t.Run(fmt.Sprint(cut.name, " ", times), func(t *testing.T) {
						test.try(t, s, &loser{fate: cut.fate}, times)
					})
				}
			})
		})
	}
}

// try makes the change, of which so many COMMITs get no reply.
func (test changeInDoubt) try(t *testing.T, s *server, lost *loser, times int) {
	w := &wire{statement: lost.commit}
	store := newStore(t, s.openWire(t, s.migrated(t), "", w))
	seed(t, store, alice)
	test.before(t, store)
	c := get(t, store, alice)
	lost.left.Store(int32(times))
	succeeds(t, test.name, test.change(t, store, credentials.Change{
		Key: alice, By: "ann@host", Row: c.Row, Version: c.Version,
	}))
	equal(t, "connections that broke", w.broken(), times)
	if test.check == nil {
		failsAs(t, "Get", errOf(store.Get(bounded(t), alice)), credentials.ErrNotFound)
		return
	}
	now := get(t, store, alice)
	test.check(t, now)
	equal(t, "Version", now.Version, c.Version+test.writes)
}

// loser gives the next COMMITs their fate, as many as are left.
type loser struct {
	left atomic.Int32
	fate fate
}

func (l *loser) commit(text []byte) fate {
	if strings.HasPrefix(string(text), "COMMIT") && l.left.Add(-1) >= 0 {
		return l.fate
	}
	return deliver
}

func disables(t *testing.T, store *latchkey.Store, ch credentials.Change) error {
	return store.Disable(bounded(t), ch)
}

func isDisabled(t *testing.T, store *latchkey.Store) {
	t.Helper()
	must(t, disables(t, store, credentials.Change{Key: alice, By: "ann@host"}))
}

// dies has alice's grant be declared dead.
func dies(t *testing.T, store *latchkey.Store) {
	t.Helper()
	held := claim(t, store, alice)
	must(t, store.Fail(bounded(t), held.Fence(), credentials.Failure{Class: credentials.ClassDead}))
}

// importsItself imports what there is in the place of itself.
func importsItself(t *testing.T, store *latchkey.Store, _ credentials.Change) error {
	for e, err := range store.Export(bounded(t), "", true) {
		must(t, err)
		outcome, err := store.Import(bounded(t), e, latchkey.ImportOptions{Replace: true})
		equal(t, "outcome", outcome, latchkey.ImportedReplaced)
		return err
	}
	return credentials.ErrNotFound
}

func removes(t *testing.T, store *latchkey.Store, ch credentials.Change) error {
	return store.Remove(bounded(t), ch)
}

// deletesAll counts what it deleted, whether it learned of that or not.
func deletesAll(t *testing.T, store *latchkey.Store, ch credentials.Change) error {
	n, err := store.DeleteAll(bounded(t), latchkey.Deletion{Service: ch.Key.Service})
	equal(t, "deleted", n, 1)
	return err
}

// TestDeleteAll deletes the many credentials of a service in batches, and no other's.
func TestDeleteAll(t *testing.T) {
	const rows = 1200
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, "")
		seedMany(t, db, rows, 2)
		services := query[int](t, db, "SELECT COUNT(DISTINCT service_name) FROM credentials")
		all := query[int](t, db, "SELECT COUNT(*) FROM credentials")
		name := query[string](t, db, "SELECT MIN(service_name) FROM credentials")
		execute(t, db, "UPDATE credentials SET deployment = 'another' WHERE service_name = '"+name+"' LIMIT 1")
		n, err := store.DeleteAll(bounded(t), latchkey.Deletion{Service: name, DryRun: true})
		must(t, err)
		told := 0
		deleted, err := store.DeleteAll(bounded(t), latchkey.Deletion{
			Service: name, Each: func(credentials.Key) { told++ },
		})
		must(t, err)
		equal(t, "deleted", deleted, n)
		equal(t, "names told", told, n)
		equal(t, "credentials that are left", query[int](t, db, "SELECT COUNT(*) FROM credentials"), all-n)
		equal(t, "another deployment's credentials", query[int](t, db,
			"SELECT COUNT(*) FROM credentials WHERE service_name = '"+name+"'"), 1)
		if services < 2 || n < 500 {
			t.Errorf("%d of %d services' credentials were deleted; this test tests nothing", n, services)
		}
	})
}
