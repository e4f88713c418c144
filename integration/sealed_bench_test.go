package integration_test

import (
	"context"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// The benchmarks of sealing hold a store that seals against one that does not, in turn on one pool:
// x_unsealed is the quotient of the two medians. The AEAD is AES-256-GCM in this process.

// besideUnsealed returns a store that seals, and one that does not, each on a table of its own.
func besideUnsealed(b *testing.B) (sealed, unsealed *latchkey.Store) {
	b.Helper()
	unsealed, _ = servers[0].store(b, interpolated)
	return sealedStore(b, servers[0].open(b, servers[0].migrated(b), interpolated), 1), unsealed
}

func (d *duel) reportSealed(b *testing.B, name string) {
	sealed, unsealed := median(d.store), median(d.bare)
	b.ReportMetric(sealed/1000, "µs/sealed_"+name)
	b.ReportMetric(unsealed/1000, "µs/unsealed_"+name)
	b.ReportMetric(sealed/unsealed, name+"_x_unsealed")
}

// BenchmarkSealedRead is a Get.
func BenchmarkSealedRead(b *testing.B) {
	sealed, unsealed := besideUnsealed(b)
	ctx := context.Background()
	for _, store := range []*latchkey.Store{sealed, unsealed} {
		put(b, store, alice, longGrant.Grant)
	}
	var d duel
	for b.Loop() {
		d.turn(b, func() error { return errOf(sealed.Get(ctx, alice)) },
			func() error { return errOf(unsealed.Get(ctx, alice)) })
	}
	d.reportSealed(b, "read")
}

// BenchmarkSealedSave is a claim, which opens, and its save, which seals: the saves are compared.
func BenchmarkSealedSave(b *testing.B) {
	sealed, unsealed := besideUnsealed(b)
	ctx := context.Background()
	due := longGrant
	due.DueIn = 0
	for _, store := range []*latchkey.Store{sealed, unsealed} {
		seed(b, store, alice)
	}
	var claims, saves duel
	for b.Loop() {
		var held [2]credentials.Credential
		take := func(i int, store *latchkey.Store) func() error {
			return func() (err error) {
				held[i], err = store.Claim(ctx, alice, claimOf("holder"))
				return err
			}
		}
		claims.turn(b, take(0, sealed), take(1, unsealed))
		saves.turn(b, func() error { return sealed.Save(ctx, held[0].Fence(), due) },
			func() error { return unsealed.Save(ctx, held[1].Fence(), due) })
	}
	claims.reportSealed(b, "claim")
	saves.reportSealed(b, "save")
}
