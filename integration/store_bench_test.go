package integration_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// The benchmarks of the store hold its calls against the same statements sent by hand, in turn on
// one pool: x_bare is the quotient of the two medians. ns/op is of both together.

// duel times two ways to do the same.
type duel struct{ store, bare []float64 }

// turn does each once, the first of them last the next time.
func (d *duel) turn(b *testing.B, store, bare func() error) {
	sides := []func(){
		func() { d.store = append(d.store, timed(b, store)) }, func() { d.bare = append(d.bare, timed(b, bare)) },
	}
	if len(d.store)%2 == 1 {
		slices.Reverse(sides)
	}
	for _, side := range sides {
		side()
	}
}

func timed(b *testing.B, do func() error) float64 {
	began := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return float64(time.Since(began).Nanoseconds())
}

func (d *duel) report(b *testing.B, name string) {
	store, bare := median(d.store), median(d.bare)
	b.ReportMetric(store/1000, "µs/"+name)
	b.ReportMetric(bare/1000, "µs/bare_"+name)
	b.ReportMetric(store/bare, name+"_x_bare")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// reportAllocs reports the allocations of one call. Those of the driver are in it.
func reportAllocs(b *testing.B, name string, do func() error) {
	b.ReportMetric(testing.AllocsPerRun(50, func() {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}), "allocs/"+name)
}

// tokens are as long as a JWT.
var longGrant = renewal(strings.Repeat("token", 200))

// BenchmarkRead is a Get beside the bare SELECT of all the same columns by the same key.
func BenchmarkRead(b *testing.B) {
	s := servers[0]
	database := s.migrated(b)
	db := s.open(b, database, interpolated)
	store := newStore(b, db)
	put(b, store, alice, longGrant.Grant)
	ctx := context.Background()
	query := captureStatements(b, s, database).read
	get := func() error { return errOf(store.Get(ctx, alice)) }
	bare := func() error { return errOf(scanOne(db.QueryContext(ctx, query, alice.Service, hexOf(alice)))) }
	var d duel
	for b.Loop() {
		d.turn(b, get, bare)
	}
	d.report(b, "read")
	reportAllocs(b, "read", get)
	reportAllocs(b, "bare_read", bare)
}

// BenchmarkReadTogether is a GetAll of 100 credentials, beside one Get for each of them.
func BenchmarkReadTogether(b *testing.B) {
	const n = 100
	store, _ := servers[0].store(b, interpolated)
	keys := keysOf(n)
	for _, key := range keys {
		put(b, store, key, longGrant.Grant)
	}
	ctx := context.Background()
	var d duel
	for b.Loop() {
		d.turn(b, func() error { return errOf(store.GetAll(ctx, keys)) }, func() (err error) {
			for _, key := range keys {
				err = errors.Join(err, errOf(store.Get(ctx, key)))
			}
			return err
		})
	}
	b.ReportMetric(median(d.store)/n/1000, "µs/together")
	b.ReportMetric(median(d.bare)/n/1000, "µs/alone")
}

// BenchmarkClaim is the database's part of a refresh: a claim and its save, each of them a durable
// commit. Beside them are the same statements by hand, on one connection.
func BenchmarkClaim(b *testing.B) {
	s := servers[0]
	database := s.migrated(b)
	db := s.open(b, database, interpolated)
	store, bob := newStore(b, db), keyOf("bob")
	seed(b, store, alice)
	seed(b, store, bob)
	due := longGrant
	due.DueIn = 0
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	must(b, err)
	defer func() { _ = conn.Close() }()
	byHand := &bareConn{conn, captureStatements(b, s, database)}

	var held credentials.Credential
	var asked credentials.Claim
	claim := func() (err error) {
		asked = claimOf("holder")
		if held, err = store.Claim(ctx, alice, asked); err == nil && held.Lease.ID != asked.ID {
			err = fmt.Errorf("not made: %+v", held.Lease)
		}
		return err
	}
	save := func() error { return store.Save(ctx, held.Fence(), due) }
	var row bareRow
	bareClaim := func() (err error) { row, err = byHand.claim(ctx, bob, asked.ID); return err }
	bareSave := func() error { return byHand.save(ctx, row, asked.ID) }
	var claims, saves duel
	for b.Loop() {
		claims.turn(b, claim, bareClaim)
		saves.turn(b, save, bareSave)
	}
	claims.report(b, "claim")
	saves.report(b, "save")
	reportAllocs(b, "claim_and_save", func() error { return errors.Join(claim(), save()) })
	reportAllocs(b, "bare_claim_and_save", func() error { return errors.Join(bareClaim(), bareSave()) })
}

// statements are the store's, with question marks in place of the values that change.
type statements struct{ read, lock, claim, save string }

var (
	fencedID = regexp.MustCompile(`\bid IN \(\d+\) AND \(id, version\) IN \(\(\d+, \d+\)\)`)
	fenced   = regexp.MustCompile(`(version, |version < |\bid = )\d+\b`)
)

// captureStatements has the store get, claim and save, and returns the statements that it sends.
func captureStatements(b *testing.B, s *server, database string) (sent statements) {
	b.Helper()
	w := &wire{}
	store := newStore(b, s.openWire(b, database, "", w))
	carol := keyOf("carol")
	due := longGrant
	due.DueIn = 0
	seed(b, store, carol)
	must(b, errOf(store.Get(bounded(b), carol)))
	c := claim(b, store, carol)
	must(b, store.Save(bounded(b), c.Fence(), due))
	values := strings.NewReplacer("'github'", "?", "'"+hexOf(carol)+"'", "?", "'"+c.Lease.ID+"'", "?")
	for _, text := range w.statements() {
		text := values.Replace(text)
		switch {
		case strings.HasPrefix(text, beginsSelect) && strings.HasSuffix(text, "FOR UPDATE"):
			sent.lock = text
		case strings.HasPrefix(text, beginsSelect):
			sent.read = text
		case strings.HasPrefix(text, beginsClaim):
			sent.claim = fencedID.ReplaceAllString(text, "id IN (?) AND (id, version) IN ((?, ?))")
		case strings.HasPrefix(text, beginsSave):
			sent.save = fenced.ReplaceAllString(text, "${1}?")
		}
	}
	for text, marks := range map[string]int{sent.read: 2, sent.lock: 2, sent.claim: 6, sent.save: 10} {
		if n := strings.Count(text, "?"); n != marks {
			b.Fatalf("a statement of the store has %d values that change, want %d: %s", n, marks, text)
		}
	}
	return sent
}

// hexOf is the account as the store sends it.
func hexOf(key credentials.Key) string { return hex.EncodeToString([]byte(key.Account)) }

// bareConn sends the store's statements by hand.
type bareConn struct {
	*sql.Conn
	statements
}

// bareRow is what the first columns of a row hold.
type bareRow struct{ id, version uint64 }

func (c *bareConn) claim(ctx context.Context, key credentials.Key, id string) (row bareRow, err error) {
	return row, c.transaction(ctx, func() (sql.Result, error) {
		if row, err = scanOne(c.QueryContext(ctx, c.lock, key.Service, hexOf(key))); err != nil {
			return nil, err
		}
		return c.ExecContext(ctx, c.statements.claim, id, id, id, row.id, row.id, row.version)
	})
}

func (c *bareConn) save(ctx context.Context, row bareRow, id string) error {
	version := row.version + 1
	return c.transaction(ctx, func() (sql.Result, error) {
		return c.ExecContext(ctx, c.statements.save, version, version, id, id, id, id, id, row.id, id, version)
	})
}

// transaction runs a write that must change one row.
func (c *bareConn) transaction(ctx context.Context, write func() (sql.Result, error)) error {
	if _, err := c.ExecContext(ctx, "ROLLBACK AND CHAIN NO RELEASE"); err != nil {
		return err
	}
	result, err := write()
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows changed, error %w", n, err)
	}
	_, err = c.ExecContext(ctx, "COMMIT AND NO CHAIN NO RELEASE")
	return err
}

// scanOne reads all columns of one row.
func scanOne(rows *sql.Rows, err error) (row bareRow, _ error) {
	if err != nil {
		return row, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return row, err
	}
	values, targets := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i, name := range columns {
		switch targets[i] = &values[i]; name {
		case "id":
			targets[i] = &row.id
		case "version":
			targets[i] = &row.version
		}
	}
	if !rows.Next() {
		return row, errors.Join(rows.Err(), sql.ErrNoRows)
	}
	return row, errors.Join(rows.Scan(targets...), rows.Err())
}
