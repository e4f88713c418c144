package integration_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// BenchmarkKeeperDueScan is what a look at what is due costs, and a claim of nothing and of a batch, in tables of 10,000
// rows, ten times as many, and so on up to LATCHKEY_BENCH_ROWS. The ratios are those of the largest table to the smallest.
// The second half is measured while an open snapshot (a backup, say) keeps the server from removing what claims take out
// of the index: history_batch is the median then, history_last that of the last tenth.
func BenchmarkKeeperDueScan(b *testing.B) {
	const looks, batch = 300, 16
	s := servers[0]
	most := benchNumber(b, "ROWS", 100_000)
	measures := []string{"due_services", "nothing_due", "batch", "history_due", "history_batch", "history_last"}
	medians := make(map[string][]float64)
	for b.Loop() {
		var stores []*latchkey.Store
		for rows := 10_000; rows <= most; rows *= 10 {
			database := s.migrated(b)
			db := s.open(b, database, interpolated)
			// A part of the rows is due. The other half becomes due later.
			seedSpread(b, db, rows/2, time.Minute, time.Hour, -(looks*batch+1)*time.Minute, 0)
			insertMass(b, db, "later", rows/2+1, rows/2, "UTC_TIMESTAMP(6) + INTERVAL n % 1000 + 60 MINUTE", time.Hour)
			stores = append(stores, newStore(b, db))
		}
		took := make(map[string][][]float64) // µs by measure and table
		for _, name := range measures {
			took[name] = make([][]float64, len(stores))
		}
		measure := func(name string, i int, call func() (n int, err error), want int) {
			began := time.Now()
			n, err := call()
			if err != nil || n != want {
				b.Fatalf("%s: got %d, want %d, error %v", name, n, want, err)
			}
			took[name][i] = append(took[name][i], float64(time.Since(began).Microseconds()))
		}
		end := func() {}
		for look := range looks {
			history := ""
			if look >= looks/2 {
				history = "history_"
			}
			if look == looks/2 {
				end = s.openSnapshot(b)
			}
			for i, store := range stores { // in turn, so that what else the machine does meets all of them
				dueServices := func() (int, error) {
					due, err := store.DueServices(context.Background())
					return len(due), err
				}
				claimDue := func(service string) func() (int, error) {
					return func() (int, error) {
						claim := credentials.Batch{Claim: claimOf("holder"), Service: service, Limit: batch}
						claim.Lease = 20 * time.Minute
						claimed, err := store.ClaimDue(context.Background(), claim)
						return len(claimed), err
					}
				}
				if history == "" {
					measure("due_services", i, dueServices, 2)
					measure("nothing_due", i, claimDue("later"), 0)
				} else {
					measure("history_due", i, dueServices, 2)
				}
				measure(history+"batch", i, claimDue(alice.Service), batch)
			}
		}
		end()
		for i, all := range took["history_batch"] {
			took["history_last"][i] = slices.Clone(all[len(all)*9/10:])
		}
		for _, name := range measures {
			medians[name] = nil
			for _, samples := range took[name] {
				slices.Sort(samples)
				medians[name] = append(medians[name], samples[len(samples)/2])
			}
		}
	}
	for _, name := range measures {
		rows := 10_000.0
		for _, median := range medians[name] {
			b.ReportMetric(median, fmt.Sprintf("µs_%s_%.0e", name, rows))
			rows *= 10
		}
		b.ReportMetric(medians[name][len(medians[name])-1]/medians[name][0], "ratio_"+name)
	}
}

// BenchmarkKeeperHistory is the same under a snapshot that stays open while many are claimed: what a look and a claim of a
// batch cost before, and after 50,000 claims.
func BenchmarkKeeperHistory(b *testing.B) {
	const claims, most, batch, looks = 50_000, 1000, 16, 15
	s, ctx := servers[0], context.Background()
	for b.Loop() {
		database := s.migrated(b)
		db := s.open(b, database, interpolated)
		store := newStore(b, db)
		seedSpread(b, db, 2*claims, time.Millisecond, time.Hour, -2*claims*time.Millisecond, 0)
		claim := func(limit int) time.Duration {
			services, err := store.DueServices(ctx)
			if err != nil {
				b.Fatal(err)
			}
			due := credentials.Batch{Claim: claimOf("holder"), Service: alice.Service, Limit: limit}
			due.Lease, due.Longest = 20*time.Minute, 10*time.Second-services[alice.Service] // as the keeper has it
			began := time.Now()
			claimed, err := store.ClaimDue(ctx, due)
			if err != nil || len(claimed) != limit {
				b.Fatalf("ClaimDue: %d credentials, want %d, error %v", len(claimed), limit, err)
			}
			return time.Since(began)
		}
		report := func(when string) {
			var looked, claimed []time.Duration
			for range looks {
				began := time.Now()
				if _, err := store.DueServices(ctx); err != nil {
					b.Fatal(err)
				}
				looked = append(looked, time.Since(began))
				claimed = append(claimed, claim(batch))
			}
			slices.Sort(looked)
			slices.Sort(claimed)
			b.ReportMetric(float64(looked[looks/2].Microseconds()), "µs_due_services_"+when)
			b.ReportMetric(float64(claimed[looks/2].Microseconds()), "µs_batch_"+when)
		}
		end := s.openSnapshot(b)
		report("before")
		for range claims / most {
			claim(most)
		}
		report("after")
		end()
	}
}

// openSnapshot begins a transaction that sees what is committed now, until end is called.
func (s *server) openSnapshot(b *testing.B) (end func()) {
	b.Helper()
	conn, err := s.admin.Conn(bounded(b))
	if err != nil {
		b.Fatal(err)
	}
	for _, statement := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"} {
		if _, err := conn.ExecContext(bounded(b), statement); err != nil {
			b.Fatal(err)
		}
	}
	return func() {
		if _, err := conn.ExecContext(bounded(b), "ROLLBACK"); err != nil {
			b.Error(err)
		}
		_ = conn.Close()
	}
}
