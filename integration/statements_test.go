package integration_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
)

// TestStatementCounts has the server count what each call costs (its status variable Questions, of the one session).
func TestStatementCounts(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, params := range []string{"", interpolated} {
			store, db := s.store(t, params)
			db.SetMaxOpenConns(1)
			questions := func() int {
				var name string
				var n int
				if err := db.QueryRowContext(bounded(t), "SHOW SESSION STATUS LIKE 'Questions'").Scan(&name, &n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			ctx := context.Background()
			var held credentials.Credential
			batch := batchOf("holder", 3)
			claim := func() (err error) {
				held, err = store.Claim(ctx, alice, claimOf("holder"))
				return err
			}
			for _, step := range []struct {
				name string
				want int
				call func() error
			}{
				{"Put: SELECT, INSERT", 2, func() error {
					return store.Put(ctx, alice, credentials.Grant{RefreshToken: credentials.NewSecret("seed")})
				}},
				{"Get", 1, func() error { _, err := store.Get(ctx, alice); return err }},
				{"Claim: SET TRANSACTION, START TRANSACTION, SELECT, UPDATE, COMMIT", 5, claim},
				{"Versions", 1, func() error { _, err := store.Versions(ctx, []uint64{held.Row, 1 << 40}); return err }},
				{"Claim that is refused", 4, func() error { _, err := store.Claim(ctx, alice, claimOf("second")); return err }},
				{"Release", 1, func() error { return store.Release(ctx, held.Fence()) }},
				{"Claim after the release", 5, claim},
				{"Fail", 1, func() error { f := failure(); f.RetryIn = 0; return store.Fail(ctx, held.Fence(), f) }},
				{"Claim after the failure", 5, claim},
				{"Save", 1, func() error { return store.Save(ctx, held.Fence(), renewal("new")) }},
				{"Delete: SELECT, DELETE", 2, func() error { return store.Delete(ctx, alice) }},
				{"ClaimDue when nothing is due", 4, func() error { _, err := store.ClaimDue(ctx, batchOf("holder", 3)); return err }},
				{"three puts", 6, func() error {
					for _, account := range []string{"alice", "bob", "carol"} {
						seed(t, store, credentials.Key{Service: alice.Service, Account: account})
					}
					return nil
				}},
				{"ClaimDue: as many as a claim", 5, func() error {
					claimed, err := store.ClaimDue(ctx, batch)
					equal(t, "credentials claimed", len(claimed), 3)
					return err
				}},
				{"ClaimDue, repeated", 1, func() error {
					batch.Repeated = true
					claimed, err := store.ClaimDue(ctx, batch)
					equal(t, "credentials found again", len(claimed), 3)
					return err
				}},
				{"DueServices", 1, func() error { _, err := store.DueServices(ctx); return err }},
			} {
				before := questions()
				if err := step.call(); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
				equal(t, "statements of "+step.name+" with "+params, questions()-before-1, step.want) // the 1 is the counting's own
			}
		}
	})
}

// TestIndexes: every statement that names a key or a row finds it by a unique key, however many rows there are, so that
// it locks that row alone.
func TestIndexes(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{}
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		values := make([]string, 0, 1000)
		for i := range 1000 {
			values = append(values, fmt.Sprintf("('%s', 'account %d', '', '', '{}', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL %d MINUTE)",
				service(i), i, i-5))
		}
		execute(t, db, "INSERT INTO credentials (service_name, account_name, token, refresh_token, extra, created_at, due_at) VALUES "+
			strings.Join(values, ", "))
		execute(t, db, "ANALYZE TABLE credentials")
		for _, charset := range []string{"", "charset=latin1", "sql_mode=%27%27"} {
			everything(t, newStore(t, s.openWire(t, database, charset, w)))
		}

		explained := 0
		for _, text := range w.statements() {
			command, _, _ := strings.Cut(text, " ")
			if !strings.Contains(text, "`credentials`") || command == "INSERT" || strings.Contains(text, "LIMIT") {
				continue // List and Check read many rows, or none
			}
			if strings.HasPrefix(text, beginsDueServices) || strings.Contains(text, "AND due_at > ") {
				continue // TestDuePlans has what goes by the time
			}
			plan := explain(t, s, database, text)
			explained++
			want := "PRIMARY"
			if strings.Contains(text, "service_name = '") {
				want = "service_account"
			}
			if plan["key"] != want || plan["rows"] != "1" {
				t.Errorf("got the plan %q, want the index %s and 1 row: %s", plan, want, text)
			}
			if command == "SELECT" && !strings.HasPrefix(text, beginsVersions) {
				equal(t, "the access type of "+text, plan["type"], "const")
			}
		}
		if explained < 10 {
			t.Errorf("only %d statements were explained", explained)
		}
	})
}

// explain returns the statement's plan, a single line, by column. What is not found, because it is gone by now, is planned
// all the same for a key that is there.
func explain(t *testing.T, s *server, database, text string) map[string]string {
	t.Helper()
	text = strings.ReplaceAll(text, "'alice'", "'account 1'")
	text = regexp.MustCompile(`\bid = \d+`).ReplaceAllString(text, "id = 7")
	text = regexp.MustCompile(`\(id, version\) IN \(\(\d+, \d+\)\)`).ReplaceAllString(text, "(id, version) IN ((7, 1))")
	text = regexp.MustCompile(`\bid IN \(\d+\)`).ReplaceAllString(text, "id IN (7)")
	command := "EXPLAIN FORMAT = TRADITIONAL "
	if s.mariadb {
		command = "EXPLAIN " // which knows no name for its only table
	}
	db := s.open(t, database, "")
	rows, err := db.QueryContext(bounded(t), command+text)
	if err != nil {
		t.Fatalf("EXPLAIN %s: %v", text, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		t.Fatalf("EXPLAIN %s: no plan, %v", text, err)
	}
	values, targets := make([]*string, len(names)), make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		t.Fatal(err)
	}
	plan := make(map[string]string, len(names))
	for i, name := range names {
		if values[i] != nil {
			plan[name] = *values[i]
		}
	}
	return plan
}
