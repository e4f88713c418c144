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

// BenchmarkKeeperDueScan is the cost of a look at the due services, of a claim of nothing and of a
// batch, in tables of 10,000 rows, ten times as many, and so on up to LATCHKEY_BENCH_ROWS. The
// ratios are those of the largest table to the smallest. The second half is measured while an open
// snapshot (a backup, say) keeps the server from removing old entries of the index: history_batch
// is the median then, history_last that of the last tenth.
func BenchmarkKeeperDueScan(b *testing.B) {
	const looks = 300
	s := servers[0]
	measures := []string{
		"due_services", "nothing_due", "batch", "history_due", "history_batch", "history_last",
	}
	medians := make(map[string][]float64)
	for b.Loop() {
		d := newDueScan(b, s, looks)
		end := func() {}
		for look := range looks {
			if look == looks/2 {
				end = s.openSnapshot(b)
			}
			d.look(b, look >= looks/2)
		}
		end()
		for i, all := range d.took["history_batch"] {
			last := d.samples("history_last")
			last[i] = slices.Clone(all[len(all)*9/10:])
		}
		for _, name := range measures {
			medians[name] = nil
			for _, samples := range d.samples(name) {
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

// dueScan measures calls with tables of more and more rows.
type dueScan struct {
	stores []*latchkey.Store
	took   map[string][][]float64 // µs by measure and table
}

const scanBatch = 16

// newDueScan seeds tables of which a part is due, enough for that many looks. The other half
// becomes due later.
func newDueScan(b *testing.B, s *server, looks int) *dueScan {
	b.Helper()
	d := &dueScan{took: make(map[string][][]float64)}
	maxRows := benchNumber(b, "ROWS", 100_000)
	for rows := 10_000; rows <= maxRows; rows *= 10 {
		db := s.open(b, s.migrated(b), interpolated)
		due := -time.Duration(looks*scanBatch+1) * time.Minute
		seedSpread(b, db, rows/2, time.Minute, time.Hour, due, 0)
		insertMass(b, db, "later", rows/2+1, rows/2,
			"UTC_TIMESTAMP(6) + INTERVAL n % 1000 + 60 MINUTE", time.Hour)
		d.stores = append(d.stores, newStore(b, db))
	}
	return d
}

func (d *dueScan) samples(name string) [][]float64 {
	if d.took[name] == nil {
		d.took[name] = make([][]float64, len(d.stores))
	}
	return d.took[name]
}

// look makes the calls with one table after the other, so that the machine's other work meets all
// of them.
func (d *dueScan) look(b *testing.B, history bool) {
	b.Helper()
	ctx := context.Background()
	for i, store := range d.stores {
		measure := func(name string, want int, call func() (n int, err error)) {
			began := time.Now()
			n, err := call()
			if err != nil || n != want {
				b.Fatalf("%s: got %d, want %d, error %v", name, n, want, err)
			}
			samples := d.samples(name)
			samples[i] = append(samples[i], float64(time.Since(began).Microseconds()))
		}
		dueServices := func() (int, error) {
			due, err := store.DueServices(ctx)
			return len(due), err
		}
		claimDue := func(service string) func() (int, error) {
			return func() (int, error) {
				due := credentials.Batch{Claim: claimOf("holder"), Service: service,
					Limit: scanBatch}
				due.Lease = 20 * time.Minute
				claimed, err := store.ClaimDue(ctx, due)
				return len(claimed), err
			}
		}
		if history {
			measure("history_due", 2, dueServices)
			measure("history_batch", scanBatch, claimDue(alice.Service))
		} else {
			measure("due_services", 2, dueServices)
			measure("nothing_due", 0, claimDue("later"))
			measure("batch", scanBatch, claimDue(alice.Service))
		}
	}
}

// BenchmarkKeeperHistory is the cost of a look and of a claim under a snapshot that stays open
// while many are claimed: before, and after 50,000 claims.
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
			must(b, err)
			due := credentials.Batch{Claim: claimOf("holder"), Service: alice.Service, Limit: limit}
			due.Lease, due.MaxOverdue = 20*time.Minute, 10*time.Second-services[alice.Service] // as the keeper has it
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
				must(b, errOf(store.DueServices(ctx)))
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
	must(b, err)
	for _, statement := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"} {
		must(b, errOf(conn.ExecContext(bounded(b), statement)))
	}
	return func() {
		if _, err := conn.ExecContext(bounded(b), "ROLLBACK"); err != nil {
			b.Error(err)
		}
		_ = conn.Close()
	}
}
