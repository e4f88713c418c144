package integration_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm"
)

// BenchmarkStorm is the default storm: how much later than the endpoint's answer the slowest of its
// callers has the token (ms_over_endpoint, the mean of the storms, and the worst of them). The
// ns/op contain the start of the processes.
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

// BenchmarkNeighbours has one account whose endpoint takes 5 s, and processes with 2 connections
// each, half of whose callers ask for it. The callers of the other accounts should wait no longer
// than without it: the slowest of them is reported with and without such a neighbour, from one run.
func BenchmarkNeighbours(b *testing.B) {
	const slow = 5 * time.Second
	var alone, beside time.Duration
	for b.Loop() {
		alone = max(alone, slowestOthers(b, 200*time.Millisecond))
		beside = max(beside, slowestOthers(b, slow))
	}
	b.ReportMetric(float64(alone.Milliseconds()), "ms_without")
	b.ReportMetric(float64(beside.Milliseconds()), "ms_beside_slow")
	b.ReportMetric(float64(beside)/float64(alone), "ratio")
}

// slowestOthers has alice's callers ask, whose endpoint takes that long, and once her exchange is
// under way those of five other accounts, whose endpoint takes 200 ms. It returns how long the
// slowest of the others waited.
func slowestOthers(b *testing.B, latency time.Duration) time.Duration {
	const processes, threads, pool, others = 4, 8, 2, 5
	ctx, s := context.Background(), servers[0]
	underWay := make(chan struct{})
	var once sync.Once
	p := provider.New(provider.Options{Latency: 200 * time.Millisecond, OnPresentation: func(p provider.Presentation) {
		if p.Account == alice.Account {
			once.Do(func() { close(underWay) })
		}
	}})
	p.SetLatency(alice.Account, latency)
	served, err := provider.Start("", p)
	must(b, err)
	defer func() { _ = served.Close() }()

	database := s.migrated(b)
	keys := []credentials.Key{alice}
	for i := range others {
		keys = append(keys, keyOf(fmt.Sprint("other ", i)))
	}
	for _, key := range keys {
		put(b, newStore(b, s.open(b, database, "")), key, refreshToken(p.Register(key.Account)))
	}
	managers := make([]*credentials.Manager, processes)
	for i := range managers {
		db := s.open(b, database, interpolated)
		db.SetMaxOpenConns(pool)
		managers[i] = newManager(b, newStore(b, db), refresherAt(served.TokenURL()))
	}
	var callers sync.WaitGroup
	waits := make(chan time.Duration, processes*threads*len(keys))
	each := func(keys []credentials.Key) {
		for i := range processes * threads * len(keys) {
			m, key := managers[i%processes], keys[i/processes%len(keys)]
			callers.Go(func() {
				began := time.Now()
				succeeds(b, "a caller", errOf(m.Token(ctx, key)))
				if key != alice {
					waits <- time.Since(began)
				}
			})
		}
	}
	each(keys[:1])
	receive(b, "the slow exchange", underWay)
	each(keys[1:])
	callers.Wait()
	close(waits)
	var slowest time.Duration
	for wait := range waits {
		slowest = max(slowest, wait)
	}
	equal(b, "exchanges", p.Stats().Calls, len(keys))
	return slowest
}
