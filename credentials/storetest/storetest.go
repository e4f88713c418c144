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

	// Delete removes a credential, or returns ErrNotFound. A later Put makes a new row.
	Delete(ctx context.Context, key credentials.Key) error

	// Revive clears the marks that a revival asks for, and returns how many: the failure is gone,
	// the credential is due within as many seconds as the rate allows, Version moves on. Token,
	// TokenVersion and interruption stay. Revive may be repeated after an error, and goes on where
	// the earlier call ended.
	Revive(ctx context.Context, revival credentials.Revival) (revived int, err error)
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
