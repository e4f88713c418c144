package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// markDead marks the accounts of alice's service, of so many rows, as a provider's word does, but
// for those that the condition names.
func markDead(t testing.TB, db *sql.DB, rows int, but string) {
	t.Helper()
	const chunk = 10_000
	for from := 0; from < rows; from += chunk {
		execute(t, db, fmt.Sprintf("UPDATE credentials SET failure_class = 'dead', failure_code = 'invalid_grant', "+
			"failures = 1, failed_at = UTC_TIMESTAMP(6), due_at = NULL, version = version + 1 "+
			"WHERE service_name = '%s' AND NOT (%s) AND id BETWEEN %d AND %d", alice.Service, but, from+1, from+chunk))
	}
}

// A wrong client marked very many grants. Revive clears the marks in bounded transactions, goes on
// where it was broken off, and leaves everything else.
func TestReviveOfManyGrants(t *testing.T) {
	rows := 3000
	if n, err := strconv.Atoi(os.Getenv("REVIVE_ROWS")); err == nil {
		rows = n // REVIVE_ROWS=100000 measures an incident of that size
	}
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		store := newStore(t, db)
		insertMass(t, db, alice.Service, 1, rows, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", time.Hour)
		insertMass(t, db, "another", rows+1, rows, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", time.Hour)
		markDead(t, db, rows, "id % 10 = 0")
		dead := query[int](t, db, "SELECT COUNT(*) FROM credentials WHERE failure_class = 'dead'")

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		told := make(map[credentials.Key]bool)
		revival := credentials.Revival{Service: alice.Service, Since: time.Hour, Rate: 100}
		revival.Each = func(key credentials.Key) {
			if told[key] {
				t.Errorf("%s was revived twice", key)
			}
			if told[key] = true; len(told) == dead/2 {
				cancel()
			}
		}
		n, err := store.Revive(ctx, revival)
		if !errors.Is(err, context.Canceled) || n < dead/2 || n >= dead || n != len(told) {
			t.Fatalf("broken off after %d of %d (%d names): error %v", n, dead, len(told), err)
		}
		began := time.Now()
		rest, err := store.Revive(t.Context(), revival)
		must(t, err)
		t.Logf("%s: the other %d of %d grants were revived in %v", s.product(), rest, dead, time.Since(began))
		equal(t, "revived", n+rest, dead)
		equal(t, "names", len(told), dead)
		equal(t, "dead rows that are left", query[int](t, db, "SELECT COUNT(*) FROM credentials WHERE failure_class <> ''"), 0)
		equal(t, "versions", query[int](t, db, "SELECT SUM(version) FROM credentials"), 2*rows+2*dead)
		// Each call spreads its grants over as many seconds as the rate makes of them.
		last := query[float64](t, db, "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MAX(due_at)) / 1e6 "+
			"FROM credentials WHERE version = 3")
		if most := float64(max(n, rest))/100 + 1; last > most || last < most/2-10 {
			t.Errorf("the last falls due in %.1f s, want about %.1f", last, most)
		}
		equal(t, "rows of others that were written", query[int](t, db, fmt.Sprintf(
			"SELECT COUNT(*) FROM credentials WHERE version <> IF(service_name = '%s' AND id %% 10 <> 0, 3, 1)", alice.Service)), 0)
	})
}

// The index leads to the dead rows of the service, in the order in which they are dealt with.
func TestReviveReadsDeadRowsAlone(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "")
		const rows = 5000
		insertMass(t, db, alice.Service, 1, rows, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", time.Hour)
		markDead(t, db, rows, "id % 10 <> 0")
		one := s.open(t, database, "")
		one.SetMaxOpenConns(1)
		before := rowsRead(t, one)
		n, err := newStore(t, one).Revive(t.Context(), credentials.Revival{
			Service: alice.Service, Since: time.Hour, DryRun: true,
		})
		must(t, err)
		equal(t, "dead", n, rows/10)
		if read := rowsRead(t, one) - before; read > rows/10+50 {
			t.Errorf("%d rows were read for %d", read, n)
		}
	})
}

// rowsRead is how many rows the storage engine has given to the one connection.
func rowsRead(t testing.TB, db *sql.DB) int {
	t.Helper()
	sum := 0
	for _, r := range rowsOf(t, db, "SHOW SESSION STATUS LIKE 'Handler_read%'") {
		n, err := strconv.Atoi(r.text("Value"))
		must(t, err)
		sum += n
	}
	return sum
}
