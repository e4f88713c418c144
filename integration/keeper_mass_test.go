package integration_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Tokens of account n, generation by generation. Their length is that of opaque tokens.
const tokenTail = "-abcdefghijklmnopqrstuvwxyz0123456789ABCD"

func massToken(kind string, n, generation int) string {
	return kind + "-" + strconv.Itoa(n) + "-" + strconv.Itoa(generation) + tokenTail
}

func parseToken(text string) (n, generation int, ok bool) {
	parts := strings.SplitN(text, "-", 4)
	if len(parts) != 4 || parts[0] != "refresh" || "-"+parts[3] != tokenTail {
		return 0, 0, false
	}
	n, err1 := strconv.Atoi(parts[1])
	generation, err2 := strconv.Atoi(parts[2])
	return n, generation, err1 == nil && err2 == nil
}

// massLifetime is so long that no benchmark sees a token renewed twice.
const massLifetime = 4 * time.Hour

func massGrant(n, generation int) credentials.Grant {
	return credentials.Grant{
		AccessToken:  credentials.NewSecret(massToken("access", n, generation)),
		RefreshToken: credentials.NewSecret(massToken("refresh", n, generation)),
		Lifetime:     massLifetime,
		Extra:        map[string]credentials.Secret{"token_type": credentials.NewSecret("Bearer")},
	}
}

// spread says when the accounts of a table become due: one each step, in an order that is not that
// of their rows, and all of them again a period later.
type spread struct {
	rows int
	step time.Duration
	base time.Time     // of the first one
	next time.Time     // what would have been due before is due a period later: zero for none
	life time.Duration // from due to expired
}

// stride takes rows far apart for neighbours in time; a prime, so that it meets all of them.
const stride = 7919

func (s spread) period() time.Duration { return time.Duration(s.rows) * s.step }

func (s spread) due(n int) time.Time {
	due := s.base.Add(time.Duration(n*stride%s.rows) * s.step)
	if due.Before(s.next) {
		due = due.Add(s.period())
	}
	return due
}

// seedSpread inserts the accounts' rows, of alice's service, with ids from 1 on. Those that were
// due before lead from now, when it has ended, are due a period later, as if they had just been
// renewed; with a lead of zero none is.
func seedSpread(t testing.TB, db *sql.DB, rows int, step, life, first, lead time.Duration) spread {
	t.Helper()
	began := time.Now()
	base := query[string](t, db, "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)")
	s := spread{rows: rows, step: step, life: life, base: time.Now().Add(first)}
	due := fmt.Sprintf("TIMESTAMP '%s' + INTERVAL (%d + n * %d %% %d * %d) MICROSECOND",
		base, first.Microseconds(), stride, rows, step.Microseconds())
	insertMass(t, db, alice.Service, 1, rows, due, life)
	for range 2 { // the first time takes as long as there are many such rows
		if lead == 0 {
			break
		}
		s.next = time.Now().Add(lead)
		execute(t, db, fmt.Sprintf("UPDATE credentials SET due_at = due_at + INTERVAL %[1]d MICROSECOND, expiration = expiration + INTERVAL %[1]d MICROSECOND "+
			"WHERE service_name = '%[2]s' AND due_at < TIMESTAMP '%[3]s' + INTERVAL %[4]d MICROSECOND",
			s.period().Microseconds(), alice.Service, base, s.next.Sub(s.base.Add(-first)).Microseconds()))
	}
	t.Logf("%d rows seeded in %.1f s", rows, time.Since(began).Seconds())
	return s
}

// insertMass inserts rows with ids from first on, for accounts from 0 on. Due is SQL in terms of
// the account's number n.
func insertMass(t testing.TB, db *sql.DB, service string, first, rows int, due string, life time.Duration) {
	t.Helper()
	const chunk = 10_000 // of four digits
	digits := "(SELECT 0 AS i" + func() (more string) {
		for i := 1; i < 10; i++ {
			more += fmt.Sprint(" UNION ALL SELECT ", i)
		}
		return more
	}() + ")"
	for from := 0; from < rows; from += chunk {
		execute(t, db, fmt.Sprintf(`
INSERT INTO credentials (id, service_name, account_name, access_token, refresh_token, extra, expiration, due_at, created_at)
SELECT %[1]d + n, '%[2]s', CONCAT('account ', n), CONCAT('access-', n, '-0%[3]s'), CONCAT('refresh-', n, '-0%[3]s'), '{"token_type":"Bearer"}',
       due + INTERVAL %[4]d MICROSECOND, due, UTC_TIMESTAMP(6)
FROM (SELECT n, %[5]s AS due
      FROM (SELECT %[6]d + a.i + 10 * b.i + 100 * c.i + 1000 * d.i AS n
            FROM %[7]s AS a, %[7]s AS b, %[7]s AS c, %[7]s AS d) AS numbers
      WHERE n < %[8]d) AS accounts
ORDER BY n`, first, service, tokenTail, life.Microseconds(), due, from, digits, rows))
	}
	execute(t, db, "ANALYZE TABLE credentials")
}

// massEndpoint is a token endpoint with single-use refresh tokens for very many accounts, of each
// of which it remembers two numbers. (internal/provider remembers every presentation.) Its times
// are those of the requests' arrival.
type massEndpoint struct {
	latency time.Duration
	spread  spread
	down    atomic.Bool // it refuses, at once and without looking
	dead    atomic.Bool // it calls every grant dead, at once and without looking

	// bad, if set, gives the status with which an account is refused, by its place in the order in
	// which they become due; 0 for one that is not.
	bad func(place int) int

	url string

	mu      sync.Mutex // guards what follows
	newest  []uint16   // generation of each account's newest refresh token
	under   []bool     // that one is being presented
	refused []uint16   // calls that were refused
	stats   massStats
}

// massStats is what it has seen since they were last taken.
type massStats struct {
	issued  int           // new tokens
	twice   int           // refresh tokens that were presented before, or never issued
	refused int           // calls while it was down
	rows    int           // accounts of these
	most    int           // refusals of one account since it was started
	late    time.Duration // longest from due to presented
	expired int           // presented after the access token's end
	calls   []int         // by the second of arrival
	began   time.Time
}

func startMass(t testing.TB, latency time.Duration, s spread) *massEndpoint {
	t.Helper()
	e := &massEndpoint{
		latency: latency, spread: s,
		newest: make([]uint16, s.rows), under: make([]bool, s.rows), refused: make([]uint16,
			s.rows),
		stats: massStats{began: time.Now()},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	e.url = "http://" + listener.Addr().String() + "/token"
	server := &http.Server{Handler: e, ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // until it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return e
}

// take returns what was seen since it was last called.
func (e *massEndpoint) take() massStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	taken := e.stats
	e.stats = massStats{began: time.Now()}
	return taken
}

// ServeHTTP implements [http.Handler].
func (e *massEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	n, generation, ok := parseToken(r.PostFormValue("refresh_token"))
	down := e.down.Load()
	if !ok || n >= len(e.newest) {
		down, n, ok = true, 0, false // a mistake of the benchmark
	}
	if e.refuses(w, n) {
		return
	}
	if !e.arrive(arrived, n, generation, down, ok) {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	time.Sleep(e.latency)
	e.mu.Lock()
	e.under[n] = false
	e.newest[n]++
	next := int(e.newest[n])
	e.stats.issued++
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token":  massToken("access", n, next),
		"refresh_token": massToken("refresh", n, next),
		"token_type":    "Bearer", "expires_in": int(massLifetime.Seconds()),
	})
}

// refuses answers for an account that is bad, and for all where the client is wrong.
func (e *massEndpoint) refuses(w http.ResponseWriter, n int) bool {
	status := 0
	if e.bad != nil {
		status = e.bad(n * stride % e.spread.rows)
	}
	switch {
	case e.dead.Load():
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
		return true
	case status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "3600")
	}
	if status != 0 {
		http.Error(w, "not this one", status)
	}
	return status != 0
}

// arrive records a call and reports whether there will be an answer. One that presents what was
// presented before gets one too: it is counted, and the benchmark fails.
func (e *massEndpoint) arrive(at time.Time, n, generation int, down, known bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	second := max(int(at.Sub(e.stats.began)/time.Second), 0)
	for len(e.stats.calls) <= second {
		e.stats.calls = append(e.stats.calls, 0)
	}
	e.stats.calls[second]++
	if !known {
		e.stats.twice++
	}
	if down {
		if e.refused[n]++; e.refused[n] == 1 {
			e.stats.rows++
		}
		e.stats.refused++
		e.stats.most = max(e.stats.most, int(e.refused[n]))
		return false
	}
	if e.under[n] || generation != int(e.newest[n]) {
		e.stats.twice++
	}
	e.under[n] = true
	if generation == 0 {
		late := at.Sub(e.spread.due(n))
		e.stats.late = max(e.stats.late, late)
		if late > e.spread.life {
			e.stats.expired++
		}
	}
	return true
}
