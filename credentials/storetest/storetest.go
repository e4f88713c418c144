// Package storetest holds the contract of [credentials.Store] as a test suite that every store
// passes:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Store { return memstore.New() })
//	}
//
// The suite knows no clock but the store's own: it sees a lease end in the store's answers, and
// takes durations as ranges. So it runs against a real server as well as in memory.
package storetest

import (
	"context"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
)

// Store is the contract and, beside it, the ways in which a person changes credentials.
type Store interface {
	credentials.Store

	// Put stores a new grant, or replaces one: the row stays, Version moves on and TokenVersion
	// with it; lease, failure and interruption are cleared, and Refreshed but for Took. The key is
	// normalized. A Lifetime of zero is that of a token which does not expire, DueIn follows
	// [credentials.Grant.DueIn], and a credential without token is due at once. Errors wrap
	// [credentials.ErrInvalidKey] or [credentials.ErrInvalidGrant], and then nothing was written.
	Put(ctx context.Context, key credentials.Key, grant credentials.Grant) error

	// Delete removes a credential, or returns ErrNotFound. A later Put makes a new row. The
	// provider is not told: see [credentials.Disconnect].
	Delete(ctx context.Context, key credentials.Key) error

	// Revive clears the marks that a revival asks for, and returns how many: the failure is gone,
	// the credential is due within as many seconds as the rate allows, Version moves on. Token,
	// TokenVersion and interruption stay. Revive may be repeated after an error, and goes on where
	// the earlier call ended.
	Revive(ctx context.Context, revival credentials.Revival) (revived int, err error)

	Operator
}

// Operator has the changes that an operator makes to one credential. Each moves Version on. An
// error that wraps ErrNotFound says that there is no such credential; ErrSuperseded, that it is not
// the one that the operator saw; ErrNotApplicable, that the change does not fit it. Then nothing
// was written. A change of a row that is as the change would leave it writes nothing.
type Operator interface {
	// Disable sets Disabled, which every write but Enable keeps, and DueIn is Never as long as it
	// is set. A lease stays, and its Version moves on with the row's if the two were the same: the
	// holder's success is saved and its failure recorded, as if nothing had been written.
	Disable(ctx context.Context, change credentials.Change) error

	// Enable clears Disabled. The credential is due when its lease ends; else never if it is dead;
	// else when its back-off is over; else never if its token does not expire and there is no
	// refresh token; else at once. A lease's Version moves on as for Disable.
	Enable(ctx context.Context, change credentials.Change) error

	// EndLease gives up the lease, live or ended, and sets Interrupted as a claim in its place
	// would. The credential is due at once, unless an earlier holder's success came since the
	// claim.
	EndLease(ctx context.Context, change credentials.Change) error

	// ReviveOne clears the failure of a dead grant, and with replay its interruption too; the
	// credential is due at once.
	ReviveOne(ctx context.Context, change credentials.Change, replay bool) error

	// Remove is Delete.
	Remove(ctx context.Context, change credentials.Change) error
}

// test is one property of a store, tried on one credential.
type test struct {
	name string
	run  func(s *subject)
}

// Run tests the store that newStore returns, which is called once for each test. All of them may
// share one table: every test uses keys of its own, random ones, and deletes them at its end. The
// names of the subtests begin with the number of the design's invariant where they show one.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Put", putTests},
		{"Ensure", ensureTests},
		{"Delete", deleteTests},
		{"Revive", reviveTests},
		{"Disable", disableTests},
		{"Enable", enableTests},
		{"EndLease", endLeaseTests},
		{"ReviveOne", reviveOneTests},
		{"Change", changeTests},
		{"Key", keyTests},
		{"GetAll", getAllTests},
		{"Versions", versionsTests},
		{"Claim", claimTests},
		{"ClaimAll", claimAllTests},
		{"Interrupted", interruptedTests},
		{"Save", saveTests},
		{"Superseded", supersededTests},
		{"Fail", failTests},
		{"Release", releaseTests},
		{"ClaimDue", claimDueTests},
		{"ClaimDue again", claimDueAgainTests},
		{"DueServices", dueServicesTests},
		{"Order", orderTests},
		{"Concurrent", concurrentTests},
		{"Context", contextTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) { test.run(newSubject(t, newStore(t))) })
			}
		})
	}
}
