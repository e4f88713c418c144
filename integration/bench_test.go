package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm"
)

// BenchmarkRead is the store's Get; BenchmarkBareSelect, the least that a read by key can cost on the same pool, is the
// measure for it.
func BenchmarkRead(b *testing.B) {
	store, _ := servers[0].store(b, interpolated)
	put(b, store, alice, renewal("token").Grant)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Get(ctx, alice); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareSelect(b *testing.B) {
	store, db := servers[0].store(b, interpolated)
	put(b, store, alice, renewal("token").Grant)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		var token []byte
		row := db.QueryRowContext(ctx, "SELECT token FROM credentials WHERE service_name = ? AND account_name = ?", alice.Service, alice.Account)
		if err := row.Scan(&token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClaim is the database's part of a refresh: a claim and its save, each of them a durable commit, on one row
// after the other.
func BenchmarkClaim(b *testing.B) {
	store, _ := servers[0].store(b, interpolated)
	keys := make([]credentials.Key, 100)
	for i := range keys {
		keys[i] = credentials.Key{Service: alice.Service, Account: fmt.Sprint("account ", i)}
		seed(b, store, keys[i])
	}
	due := renewal("token")
	due.DueIn = 0
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		asked := claimOf("holder")
		c, err := store.Claim(ctx, keys[i%len(keys)], asked)
		if err != nil || c.Lease.ID != asked.ID {
			b.Fatalf("Claim: lease %+v, error %v", c.Lease, err)
		}
		if err := store.Save(ctx, c.Fence(), due); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStorm is the default storm: how much later than the endpoint's answer the slowest of its callers has the token
// (ms_over_endpoint, the mean of the storms, and the worst of them). The ns/op contain the start of the processes.
func BenchmarkStorm(b *testing.B) {
	var sum, worst float64
	storms := 0
	for b.Loop() {
		report := runStorm(b, servers[0], storm.Config{Latency: 200 * time.Millisecond})
		over := report.LatencyMS.Max - report.EndpointLatencyMS
		sum, worst = sum+over, max(worst, over)
		storms++
	}
	b.ReportMetric(sum/float64(storms), "ms_over_endpoint")
	b.ReportMetric(worst, "ms_over_endpoint_max")
}
