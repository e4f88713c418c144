package integration_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// BenchmarkNeighbours has one account whose endpoint takes 5 s, and processes with 2 connections each, half of whose
// callers ask for it. The callers of the other accounts should wait no longer than without it: the slowest of them is
// reported with and without such a neighbour, from one run.
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

// slowestOthers has alice's callers ask, whose endpoint takes that long, and once her exchange is under way those of five
// other accounts, whose endpoint takes 200 ms. It returns how long the slowest of the others waited.
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
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = served.Close() }()

	database := s.migrated(b)
	keys := []credentials.Key{alice}
	for i := range others {
		keys = append(keys, credentials.Key{Service: alice.Service, Account: fmt.Sprint("other ", i)})
	}
	managers := make([]*credentials.Manager, processes)
	for i := range managers {
		db := s.open(b, database, interpolated)
		db.SetMaxOpenConns(pool)
		store := newStore(b, db)
		if i == 0 {
			for _, key := range keys {
				put(b, store, key, credentials.Grant{RefreshToken: credentials.NewSecret(p.Register(key.Account))})
			}
		}
		managers[i] = newManager(b, store, refresherAt(served.TokenURL()))
	}

	var callers sync.WaitGroup
	waits := make(chan time.Duration, processes*threads*others)
	ask := func(m *credentials.Manager, key credentials.Key) {
		callers.Go(func() {
			began := time.Now()
			if _, err := m.Token(ctx, key); err != nil {
				b.Error(err)
			}
			if key != alice {
				waits <- time.Since(began)
			}
		})
	}
	each := func(keys []credentials.Key) {
		for _, m := range managers {
			for range threads {
				for _, key := range keys {
					ask(m, key)
				}
			}
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
	if calls := p.Stats().Calls; calls != len(keys) {
		b.Errorf("%d exchanges, want %d", calls, len(keys))
	}
	return slowest
}
