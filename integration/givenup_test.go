package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// TestAbsentRowUnderCaution: after a write was given up that waited for a lock, writes ask whether
// their row is locked. A row that is gone is locked by nobody, and no write of it hangs.
func TestAbsentRowUnderCaution(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, params := range []string{"", interpolated} {
			database := s.migrated(t)
			store := newStore(t, s.open(t, database, params))
			gone, bob := keyOf("gone"), keyOf("bob")
			seed(t, store, gone)
			seed(t, store, bob)
			fence := claim(t, store, gone).Fence()
			other := transaction(t, s.open(t, database, ""),
				"SELECT id FROM credentials WHERE account_name = 'bob' FOR UPDATE")
			brief, cancel := context.WithTimeout(t.Context(), time.Second)
			failsAs(t, "Delete of a locked row", store.Delete(brief, bob), credentials.ErrUnavailable)
			cancel()
			must(t, other.Rollback())
			must(t, store.Delete(bounded(t), gone))
			must(t, store.Release(bounded(t), fence))
			failsAs(t, "Fail of a deleted row",
				store.Fail(bounded(t), fence, credentials.Failure{Class: credentials.ClassTransient}),
				credentials.ErrSuperseded)
			failsAs(t, "Save of a deleted row", store.Save(bounded(t), fence, renewal("late")),
				credentials.ErrSuperseded)
			must(t, store.Delete(bounded(t), bob))
		}
	})
}

// TestWriteGivenUpTakesNoEffect: the callers of writes give up while another program holds the row.
// They have their errors soon, and no connection stays in use. When the other program lets go, the
// statements that were left in the server change nothing: somebody may have put and exchanged
// another grant since. To repeat a write is safe.
func TestWriteGivenUpTakesNoEffect(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		others := newStore(t, s.open(t, database, interpolated))
		locking := s.open(t, database, "")
		for _, change := range changes {
			if change.name == "ClaimDue" || change.name == "ClaimAll" {
				continue // which pass over the row
			}
			fence := change.prepare(t, others)
			before := get(t, others, alice)
			db := s.open(t, database, interpolated)
			other := transaction(t, locking, lockAliceByID)
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			began := time.Now()
			err := change.call(ctx, newStore(t, db), fence)
			cancel()
			if took := time.Since(began); took > 9*time.Second {
				t.Errorf("%s: ended %v after it began", change.name, took)
			}
			for _, want := range []error{credentials.ErrUnavailable, credentials.ErrRowLocked, context.DeadlineExceeded} {
				failsAs(t, change.name+" of a locked row", err, want)
			}
			idle(t, db)
			// A read waits for no lock.
			equal(t, change.name+": Version while the row is locked", get(t, others, alice).Version,
				before.Version)
			_ = other.Rollback()
			noTransaction(t, s, database)
			after := get(t, others, alice)
			if after.Version != before.Version || after.Lease.ID != before.Lease.ID ||
				!after.RefreshToken.Equal(before.RefreshToken) {
				t.Errorf("%s took effect after its caller had given up: the row was %+v and is %+v",
					change.name, before, after)
			}
			succeeds(t, change.name+", repeated", change.call(bounded(t), newStore(t, db), fence))
			seen, err := others.Get(bounded(t), alice)
			equal(t, change.name+", repeated, is seen by others", change.seen(seen, err), true)
			_ = db.Close()
		}
	})
}
