package integration_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// BenchmarkTokens is one process that serves LATCHKEY_BENCH_TOKENS credentials, on a pool of 20
// connections: their first reads by 200 callers, then each in use about twice a second for
// LATCHKEY_BENCH_SECONDS, then the same after an outage of the store of that length. The metrics
// are statements per thousand first reads, the most statements of a second, and the longest wait of
// a caller, in ms.
func BenchmarkTokens(b *testing.B) {
	n := benchNumber(b, "TOKENS", 20_000)
	long := time.Duration(benchNumber(b, "SECONDS", 60)) * time.Second
	s := servers[0]
	db := s.open(b, s.migrated(b), interpolated)
	db.SetMaxOpenConns(20)
	insertMass(b, db, "github", 1, n, "UTC_TIMESTAMP(6) + INTERVAL 1 DAY", time.Hour)
	for b.Loop() {
		t := newTokens(b, testkit.NewStore(newStore(b, db)), n)
		statements := questions(b, s.admin, "GLOBAL")
		slowest, took := t.cold(200)
		statements = questions(b, s.admin, "GLOBAL") - statements
		b.ReportMetric(1000*float64(statements)/float64(n), "statements/1000_cold_reads")
		b.ReportMetric(ms(slowest), "ms_slowest_cold")
		b.ReportMetric(float64(n)/took.Seconds(), "cold_reads/s")

		most, mean, waited := t.inUse(long)
		b.ReportMetric(float64(most), "calls/s_most")
		b.ReportMetric(mean, "calls/s_mean")
		b.ReportMetric(ms(waited), "ms_longest_wait")

		t.store.Down(true)
		_, _, waited = t.inUse(long)
		t.store.Heal()
		b.ReportMetric(ms(waited), "ms_longest_wait_in_outage")
		most, _, _ = t.inUse(long)
		b.ReportMetric(float64(most), "calls/s_most_after_outage")
		must(b, t.Close(context.Background()))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// tokens is a manager whose tokens are all in use.
type tokens struct {
	*credentials.Manager
	b     *testing.B
	store *testkit.Store
	keys  []credentials.Key
}

func newTokens(b *testing.B, store *testkit.Store, n int) *tokens {
	b.Helper()
	refresher := credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		panic("no token is due")
	})
	m, err := credentials.NewManager(store, credentials.Services{"github": {Refresher: refresher}},
		&credentials.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(b, err)
	t := &tokens{Manager: m, b: b, store: store, keys: make([]credentials.Key, n)}
	for i := range t.keys {
		t.keys[i] = credentials.Key{Service: "github", Account: fmt.Sprint("account ", i)}
	}
	return t
}

// use asks for a token and returns how long that took.
func (t *tokens) use(key credentials.Key) time.Duration {
	began := time.Now()
	if _, err := t.Token(context.Background(), key); err != nil {
		t.b.Errorf("%v: %v", key, err)
	}
	return time.Since(began)
}

// cold has that many callers ask for each token for the first time.
func (t *tokens) cold(callers int) (slowest, took time.Duration) {
	var longest atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for first := range callers {
		group.Go(func() {
			for i := first; i < len(t.keys); i += callers {
				atLeast(&longest, int64(t.use(t.keys[i])))
			}
		})
	}
	group.Wait()
	return time.Duration(longest.Load()), time.Since(began)
}

// inUse uses all tokens for so long, and counts the calls of the store in each second.
func (t *tokens) inUse(long time.Duration) (most int, mean float64, waited time.Duration) {
	var longest atomic.Int64
	over := make(chan struct{})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(10 * time.Millisecond):
				}
				for range len(t.keys) / 1000 {
					atLeast(&longest, int64(t.use(t.keys[rand.N(len(t.keys))])))
				}
			}
		})
	}
	began := t.store.Count()
	for range int(long.Seconds()) {
		before := t.store.Count()
		time.Sleep(time.Second)
		most = max(most, t.store.Count()-before)
	}
	mean = float64(t.store.Count()-began) / long.Seconds()
	close(over)
	group.Wait()
	return most, mean, time.Duration(longest.Load())
}

// atLeast raises a to that value.
func atLeast(a *atomic.Int64, value int64) {
	for old := a.Load(); old < value && !a.CompareAndSwap(old, value); old = a.Load() {
	}
}
