package integration_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// A hundred accounts that answer 400, 403 or a 429 of their own, half of them in a row: none of a
// thousand others is late.
func TestBadApplesSpoilNone(t *testing.T) {
	t.Parallel()
	const rows, processes = 1100, 2
	const step, life, lead = 20 * time.Millisecond, 30 * time.Second, 5 * time.Second
	s := servers[0]
	database := s.migrated(t)
	db := s.open(t, database, interpolated)
	spread := seedSpread(t, db, rows, step, life, lead, 0)
	e := startMass(t, 20*time.Millisecond, spread)
	e.bad = func(place int) int {
		if place%20 == 7 && place < 1000 || place >= 500 && place < 553 {
			return []int{http.StatusBadRequest, http.StatusForbidden, http.StatusTooManyRequests}[place%3]
		}
		return 0
	}
	bad := 0
	for place := range rows {
		if e.bad(place) != 0 {
			bad++
		}
	}
	renewers := startRenewers(t, processes, s.renewerWork(database, e.url), nil)
	time.Sleep(time.Until(spread.base.Add(rows * step)))
	eventually(t, "the healthy rows to be renewed", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.stats.issued >= rows-bad
	})
	stopAll(renewers)
	stats := e.take()
	t.Logf("%d of %d rows are bad; the healthy ones are late by at most %v", bad, rows, stats.late)
	equal(t, "healthy rows renewed", stats.issued, rows-bad)
	equal(t, "tokens presented twice", stats.twice, 0)
	equal(t, "healthy rows expired", stats.expired, 0)
}

// A wrong client over 500 rows that are due at once, in four processes: each marks three grants.
// When the client is right, the others are renewed, and the marked ones are once they are revived.
func TestWrongClient(t *testing.T) {
	t.Parallel()
	const rows, processes = 500, 4
	s := servers[0]
	database := s.migrated(t)
	db := s.open(t, database, interpolated)
	e := startMass(t, 20*time.Millisecond, seedSpread(t, db, rows, time.Millisecond, time.Hour, 0, 0))
	e.dead.Store(true)
	renewers := startRenewers(t, processes, s.renewerWork(database, e.url), nil)
	time.Sleep(15 * time.Second)
	dead := query[int](t, db, "SELECT COUNT(*) FROM credentials WHERE failure_class = 'dead'")
	t.Logf("%d processes marked %d of %d grants", processes, dead, rows)
	if dead == 0 || dead > 3*processes {
		t.Errorf("%d grants are marked, want at most 3 by each of %d processes", dead, processes)
	}
	e.dead.Store(false)
	n, err := newStore(t, db).Revive(bounded(t), credentials.Revival{Service: alice.Service, Since: time.Hour})
	must(t, err)
	equal(t, "grants revived", n, dead)
	untilRenewed(t, db)
	stopAll(renewers)
	equal(t, "grants renewed", query[int](t, db,
		"SELECT COUNT(*) FROM credentials WHERE failures = 0 AND expiration > UTC_TIMESTAMP(6) + INTERVAL 3 HOUR"), rows)
	equal(t, "tokens presented twice", e.take().twice, 0)
}
