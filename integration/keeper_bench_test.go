package integration_test

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// The benchmarks of Keeper.Run run keeper processes on tables of many rows. The environment sizes
// them:
//
//	LATCHKEY_BENCH_ROWS      rows in the table; default 100000; README's figures are of 1000000
//	LATCHKEY_BENCH_SECONDS   the time that is measured; default 15, and 60 from a million rows on;
//	                         each turn at saturation takes a third
//	LATCHKEY_BENCH_OUTAGE    the seconds for which the provider is down; default 30; README's figure
//	                         is of 300. The benchmark takes some three times as long, since the
//	                         backlog is taken up little by little
//	LATCHKEY_BENCH_PARALLEL  KeepParallel at saturation; default 64
//
//	LATCHKEY_BENCH_ROWS=1000000 go test -run '^$' -bench Keeper -timeout 1h ./integration
//
// Their ns/op say nothing.
const (
	keeperProcesses = 4
	keeperLatency   = 50 * time.Millisecond
	keeperPool      = 30 // connections of each; 4 times that is below a server's default of 151

	// keeperStep is between two rows that become due where a million of them is spread over an
	// hour, whatever the number of rows in the table.
	keeperStep = time.Hour / 1_000_000
	keeperPace = float64(time.Second) / float64(keeperStep)
)

func benchNumber(b *testing.B, name string, standard int) int {
	b.Helper()
	text := os.Getenv("LATCHKEY_BENCH_" + name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("LATCHKEY_BENCH_%s=%q is no positive number", name, text)
	}
	return n
}

func benchSeconds(b *testing.B, rows int) time.Duration {
	standard := 15
	if rows >= 1_000_000 {
		standard = 60
	}
	return time.Duration(benchNumber(b, "SECONDS", standard)) * time.Second
}

// sample is how many renewals were saved, and statements sent, at a time.
type sample struct {
	at                 time.Time
	renewed, questions int
}

func (s *server) sample(t testing.TB, renewers []renewer) sample {
	t.Helper()
	at := time.Now()
	return sample{at, renewed(renewers), questions(t, s.admin, "GLOBAL")}
}

// rate is renewals per second since before, and statements per renewal.
func (s sample) rate(before sample) (perSecond, statements float64) {
	n := float64(s.renewed - before.renewed)
	return n / s.at.Sub(before.at).Seconds(), float64(s.questions-before.questions-1) / n // the 1 is the counting's own
}

func (s *server) renewerWork(database, tokenURL string) renewerWork {
	return renewerWork{DSN: s.dsn(database, interpolated), Pool: keeperPool, TokenURL: tokenURL,
		Latency: keeperLatency}
}

// BenchmarkKeeperShare has 8 processes renew 10,000 rows that are due, with as many exchanges.
func BenchmarkKeeperShare(b *testing.B) {
	const rows = 10_000
	for b.Loop() {
		shareDue(b, servers[0], rows)
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "renewals/s")
}

// BenchmarkKeeperPace has rows become due at the pace of a million an hour. The keepers should hold
// it, though a slow machine may not: renewals/s is near due/s, longest_due, from due to presented,
// remains some seconds, and none expires.
func BenchmarkKeeperPace(b *testing.B) {
	s := servers[0]
	rows := benchNumber(b, "ROWS", 100_000)
	lasts := benchSeconds(b, rows)
	const life, lead = 30 * time.Second, 5 * time.Second
	for b.Loop() {
		database := s.migrated(b)
		db := s.open(b, database, interpolated)
		spread := seedSpread(b, db, rows, keeperStep, life, 0, lead)
		e := startMass(b, keeperLatency, spread)
		renewers := startRenewers(b, keeperProcesses, s.renewerWork(database, e.url), nil)
		time.Sleep(time.Until(spread.next.Add(5 * time.Second)))
		warm := e.take()
		before := s.sample(b, renewers)
		time.Sleep(lasts)
		after := s.sample(b, renewers)
		stats := e.take()
		saved := stopAll(renewers)
		rest := e.take()
		perSecond, statements := after.rate(before)

		expired := query[int](b, db,
			"SELECT COUNT(*) FROM credentials WHERE expiration <= UTC_TIMESTAMP(6)") +
			warm.expired + stats.expired + rest.expired
		twice := warm.twice + stats.twice + rest.twice
		equal(b, "refresh tokens presented twice", twice, 0)
		equal(b, "renewals saved", saved, warm.issued+stats.issued+rest.issued)
		equal(b, "leases left", query[int](b, db,
			"SELECT COUNT(*) FROM credentials WHERE lease_end > UTC_TIMESTAMP(6)"), 0)
		b.ReportMetric(keeperPace, "due/s")
		b.ReportMetric(perSecond, "renewals/s")
		b.ReportMetric(float64(max(warm.late, stats.late).Milliseconds()), "ms_longest_due")
		b.ReportMetric(float64(expired), "expired")
		b.ReportMetric(float64(twice), "twice")
		b.ReportMetric(statements, "statements/renewal")
	}
}

// BenchmarkKeeperSaturation has everything due at once, and compares the renewals per second with a
// bare loop's: the same two UPDATEs by primary key, as many at a time over as many connections,
// without anything else. The keepers' exchanges go over HTTP to an endpoint that shares the
// processors; those of local/s are a pause in the keeper. The three take turns, and the figures are
// the means.
func BenchmarkKeeperSaturation(b *testing.B) {
	const turns = 2
	s := servers[0]
	rows := benchNumber(b, "ROWS", 100_000)
	parallel := benchNumber(b, "PARALLEL", 64)
	lasts := benchSeconds(b, 0) / 3 // six of them
	database := s.migrated(b)
	db := s.open(b, database, interpolated)
	bare := captureWrites(b, s, database)
	bare.Step, bare.Parallel = keeperProcesses, parallel
	execute(b, db, "DELETE FROM credentials")
	spread := seedSpread(b, db, rows, time.Millisecond, 100*time.Hour,
		-time.Duration(rows)*time.Millisecond, 0)
	insertMass(b, db, "bare", rows+1, rows, "UTC_TIMESTAMP(6)", 100*time.Hour)
	nextBare := rows + 1
	e := startMass(b, keeperLatency, spread)

	var kept, keptStatements, local, limit, limitStatements float64
	n := 0.0
	for b.Loop() {
		for range turns {
			work := s.renewerWork(database, e.url)
			work.Parallel = parallel
			perSecond, statements := s.saturated(b, work, lasts, nil)
			kept, keptStatements = kept+perSecond, keptStatements+statements
			if stats := e.take(); stats.twice > 0 {
				b.Errorf("%d refresh tokens were presented twice", stats.twice)
			}

			work.TokenURL = ""
			inside, _ := s.saturated(b, work, lasts, nil)
			local += inside
			// The endpoint knows nothing of these renewals; their rows are not due again.

			bare.Last = 2 * rows
			writes, statementsEach := s.saturated(b, work, lasts, func(i int, w *renewerWork) {
				own := bare
				own.First = nextBare + i
				w.Bare = &own
			})
			limit, limitStatements = limit+writes, limitStatements+statementsEach
			nextBare = 1 + query[int](b, db,
				"SELECT MAX(id) FROM credentials WHERE service_name = 'bare' AND version > 1")
			n++
			b.Logf("keepers %.0f/s, without HTTP %.0f/s, bare loop %.0f/s",
				perSecond, inside, writes)
		}
	}
	if left := query[int](b, db, "SELECT COUNT(*) FROM credentials WHERE service_name = 'github' AND due_at <= UTC_TIMESTAMP(6)"); left == 0 {
		b.Errorf("%d rows were too few: the keepers ran out of them", rows)
	}
	b.ReportMetric(kept/n, "renewals/s")
	b.ReportMetric(local/n, "local/s")
	b.ReportMetric(limit/n, "bare/s")
	b.ReportMetric(kept/limit, "ratio")
	b.ReportMetric(local/limit, "local_ratio")
	b.ReportMetric(keptStatements/n, "statements/renewal")
	b.ReportMetric(limitStatements/n, "bare_statements")
}

// saturated is the rate of processes with that work, some seconds after their start.
func (s *server) saturated(
	b *testing.B, work renewerWork, lasts time.Duration, change func(int, *renewerWork),
) (perSecond, statements float64) {
	b.Helper()
	renewers := startRenewers(b, keeperProcesses, work, change)
	eventually(b, "the first renewal", func() bool { return renewed(renewers) > 0 })
	time.Sleep(3 * time.Second)
	before := s.sample(b, renewers)
	time.Sleep(lasts)
	perSecond, statements = s.sample(b, renewers).rate(before)
	stopAll(renewers)
	return perSecond, statements
}

// captureWrites has the store make a claim and a save, and returns the two UPDATEs that it sent.
func captureWrites(b *testing.B, s *server, database string) (bare bareWrites) {
	b.Helper()
	w := &wire{}
	store := newStore(b, s.openWire(b, database, "", w))
	seed(b, store, alice)
	claimed, err := store.ClaimDue(bounded(b), batchOf("renewer 0", 1))
	if err != nil || len(claimed) != 1 {
		b.Fatalf("ClaimDue: %d credentials, %v", len(claimed), err)
	}
	renewal := credentials.Renewal{Grant: massGrant(123_456, 1), By: "renewer 0",
		DueIn: massLifetime, Took: keeperLatency}
	renewal.RefreshLifetime = credentials.Never
	must(b, store.Save(bounded(b), claimed[0].Fence(), renewal))
	for _, text := range w.statements() {
		switch {
		case strings.HasPrefix(text, beginsClaim):
			bare.Claim = regexp.MustCompile(`\bid IN \(\d+\) AND \(id, version\) IN \(\(\d+, `).ReplaceAllString(text,
				"id IN ("+rowID+") AND (id, version) IN (("+rowID+", ")
		case strings.HasPrefix(text, "UPDATE"):
			bare.Save = regexp.MustCompile(`\bid = \d+`).ReplaceAllString(text, "id = "+rowID)
		}
	}
	if strings.Count(bare.Claim, rowID) != 2 || strings.Count(bare.Save, rowID) != 1 {
		b.Fatalf("the store's UPDATEs are not what they were: %s; %s", bare.Claim, bare.Save)
	}
	return bare
}

// BenchmarkKeeperOutage has the provider refuse everything for a while, at the pace of a million
// rows an hour, and then answer again. Until then it should get few calls, and afterwards in no
// second more than twice the pace.
func BenchmarkKeeperOutage(b *testing.B) {
	s := servers[0]
	outage := time.Duration(benchNumber(b, "OUTAGE", 30)) * time.Second
	const before, tail = 15 * time.Second, 10 * time.Second
	// So many become due until all is over, at least.
	rows := max(benchNumber(b, "ROWS", 100_000), int((4*outage+2*time.Minute)/keeperStep))
	for b.Loop() {
		database := s.migrated(b)
		db := s.open(b, database, interpolated)
		store := newStore(b, db)
		spread := seedSpread(b, db, rows, keeperStep, time.Hour, 0, 5*time.Second)
		e := startMass(b, keeperLatency, spread)
		renewers := startRenewers(b, keeperProcesses, s.renewerWork(database, e.url), nil)
		time.Sleep(time.Until(spread.next.Add(before)))
		steady := e.take()
		e.down.Store(true)
		time.Sleep(outage)
		e.down.Store(false)
		down := e.take()
		back := time.Now()

		// It is over when nothing has been due for longer than it is in peace.
		limit := 4*outage + time.Minute
		for overdue(b, store) > 2*time.Second {
			if time.Since(back) > limit {
				b.Logf("not recovered: after %v the first row has been due for %v",
					limit, overdue(b, store))
				break
			}
			time.Sleep(time.Second)
		}
		recovery := time.Since(back)
		time.Sleep(tail)
		after := e.take()
		failed := 0
		for _, r := range renewers {
			failed += r.stop().Failed
		}
		rest := e.take()
		equal(b, "refresh tokens presented twice", steady.twice+down.twice+after.twice+rest.twice,
			0)

		minutes := outage.Minutes()
		became := minutes * 60 * keeperPace
		herd := slices.Max(append(after.calls, 0))
		b.Logf("outage: %d calls in %v, of %d rows, at most %d of one; %d failures",
			down.refused, outage, down.rows, down.most, failed)
		b.Logf("calls by the second of the outage: %v", down.calls)
		b.Logf("calls by the second since it is back: %v", after.calls)
		b.Logf("most: %d in second %d", herd, slices.Index(after.calls, herd))
		b.ReportMetric(float64(down.refused)/minutes, "calls/min")
		b.ReportMetric(float64(down.refused)/minutes/became, "calls/(due_row·min)")
		b.ReportMetric(float64(down.most), "calls_of_one_row")
		b.ReportMetric(float64(herd)/keeperPace, "worst_second/pace")
		b.ReportMetric(recovery.Seconds(), "s_recovery")
		b.ReportMetric(recovery.Seconds()/outage.Seconds(), "recovery/outage")
	}
}

// overdue is for how long the first row has been due.
func overdue(b *testing.B, store *latchkey.Store) time.Duration {
	b.Helper()
	due, err := store.DueServices(bounded(b))
	must(b, err)
	return -due[alice.Service]
}
