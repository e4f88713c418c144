package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// TestInvariant16Copies: a copy of the table, or the table itself, under another deployment's name.
// Nothing is claimed, written or revived there, with or without sealing, until the rows are
// adopted.
func TestInvariant16Copies(t *testing.T) {
	for name, aead := range map[string]latchkey.AEAD{"unsealed": nil, "sealed": testkit.NewKeyring(1)} {
		t.Run(name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				db := s.open(t, s.migrated(t), "")
				home := storeWith(t, db, latchkey.Options{AEAD: aead, Deployment: "production"})
				away := storeWith(t, db, latchkey.Options{AEAD: aead, Deployment: "staging"})
				nameless := storeWith(t, db, latchkey.Options{AEAD: aead})
				bob := keyOf("bob")
				seed(t, home, alice)
				seed(t, home, bob)
				must(t, home.Fail(bounded(t), claim(t, home, bob).Fence(), credentials.Failure{
					Class: credentials.ClassDead, Code: "invalid_grant",
				}))
				before := rowsOf(t, db, "SELECT * FROM credentials")
				for _, store := range []*latchkey.Store{away, nameless} {
					stranger(t, store)
				}
				equal(t, "the rows", fmt.Sprint(rowsOf(t, db, "SELECT * FROM credentials")), fmt.Sprint(before))
				adopts(t, home, away)
			})
		})
	}
}

// stranger makes every call as a deployment whose rows alice's and bob's are not.
func stranger(t *testing.T, store *latchkey.Store) {
	t.Helper()
	ctx, ch := bounded(t), credentials.Change{Key: alice, By: "stranger"}
	for call, err := range map[string]error{
		"Get":       errOf(store.Get(ctx, alice)),
		"Claim":     errOf(store.Claim(ctx, alice, claimOf("stranger"))),
		"ClaimDue":  errOf(store.ClaimDue(ctx, batchOf("stranger", 3))),
		"Put":       store.Put(ctx, alice, refreshToken("stranger's")),
		"Delete":    store.Delete(ctx, alice),
		"Disable":   store.Disable(ctx, ch),
		"Enable":    store.Enable(ctx, ch), // which alice is
		"EndLease":  store.EndLease(ctx, ch),
		"ReviveOne": store.ReviveOne(ctx, credentials.Change{Key: keyOf("bob")}, true),
		"Remove":    store.Remove(ctx, ch),
		"Import": errOf(store.Import(ctx, latchkey.Exported{
			Key: alice, RefreshToken: credentials.NewSecret("stranger's"),
		}, latchkey.ImportOptions{Replace: true})),
		"Disconnect": errOf(credentials.Disconnect(ctx, store, ch, time.Minute)),
	} {
		failsAs(t, call, err, credentials.ErrOtherDeployment)
		failsWith(t, call, err, `"production"`)
	}
	revived, err := store.Revive(ctx, credentials.Revival{Service: alice.Service, Since: time.Hour, DryRun: true})
	must(t, err)
	equal(t, "revived", revived, 0)
	deleted, err := store.DeleteAll(ctx, latchkey.Deletion{Service: alice.Service})
	must(t, err)
	equal(t, "deleted", deleted, 0)
	for _, err := range store.Export(ctx, alice.Service, true) {
		failsAs(t, "Export", err, credentials.ErrOtherDeployment)
	}
	listed := 0
	for _, err := range store.List(ctx, latchkey.Filter{}) {
		must(t, err)
		listed++
	}
	equal(t, "listed", listed, 2)
}

// adopts has another deployment take the rows over, but for one that is being exchanged.
func adopts(t *testing.T, home, away *latchkey.Store) {
	t.Helper()
	held := claim(t, home, alice)
	got, err := away.Adopt(bounded(t), "production", latchkey.ResealOptions{})
	must(t, err)
	equal(t, "Adopt beside an exchange", got, latchkey.Resealed{Last: got.Last, Rows: 2, Written: 1, Left: 1})
	must(t, home.Save(bounded(t), held.Fence(), renewal("saved")))
	got, err = away.Adopt(bounded(t), "production", latchkey.ResealOptions{DryRun: true})
	must(t, err)
	equal(t, "a dry run", got, latchkey.Resealed{Last: got.Last, Rows: 2, Written: 1, Current: 1})
	failsAs(t, "Get after a dry run", errOf(away.Get(bounded(t), alice)), credentials.ErrOtherDeployment)
	must(t, errOf(away.Adopt(bounded(t), "production", latchkey.ResealOptions{})))
	equal(t, "the token", get(t, away, alice).AccessToken.Reveal(), "saved")
	failsAs(t, "Get by the deployment that had it", errOf(home.Get(bounded(t), alice)), credentials.ErrOtherDeployment)
	failsWith(t, "Adopt from its own", errOf(away.Adopt(bounded(t), "staging", latchkey.ResealOptions{})), "no other deployment")
}
