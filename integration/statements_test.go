package integration_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// TestStatementCounts has the server count the statements of each call (its status variable
// Questions, of the one session).
func TestStatementCounts(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, params := range []string{"", interpolated} {
			store, db := s.store(t, params)
			db.SetMaxOpenConns(1)
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
				{"the store's first transaction, before which it asks for the version", 6, func() error {
					return store.Ensure(ctx, alice, refreshToken("seed"))
				}},
				{"Put: SELECT, and INSERT in a transaction", 5, func() error {
					return store.Put(ctx, alice, refreshToken("seed"))
				}},
				{"Get", 1, func() error { return errOf(store.Get(ctx, alice)) }},
				{"GetAll of 500", 1, func() error { return errOf(store.GetAll(ctx, keysOf(500))) }},
				{"GetAll of 501", 2, func() error { return errOf(store.GetAll(ctx, keysOf(501))) }},
				{"Claim: ROLLBACK AND CHAIN, SELECT, UPDATE, COMMIT", 4, claim},
				{"Versions", 1, func() error {
					return errOf(store.Versions(ctx, map[uint64]credentials.Key{held.Row: alice, 1 << 40: alice}))
				}},
				{"Claim that is refused", 3, func() error { return errOf(store.Claim(ctx, alice, claimOf("second"))) }},
				{"Release", 3, func() error { return store.Release(ctx, held.Fence()) }},
				{"Claim after the release", 4, claim},
				{"Fail", 3, func() error { f := failure(); f.RetryIn = 0; return store.Fail(ctx, held.Fence(), f) }},
				{"Claim after the failure", 4, claim},
				{"Save: ROLLBACK AND CHAIN, UPDATE, COMMIT", 3, func() error { return store.Save(ctx, held.Fence(), renewal("new")) }},
				{"Delete: SELECT, and SELECT … FOR UPDATE, DELETE in a transaction", 5, func() error { return store.Delete(ctx, alice) }},
				{"ClaimDue when nothing is due", 4, func() error { return errOf(store.ClaimDue(ctx, batchOf("holder", 3))) }},
				{"three puts", 15, func() error {
					for _, account := range []string{"alice", "bob", "carol"} {
						seed(t, store, keyOf(account))
					}
					return nil
				}},
				{"ClaimDue: SET TRANSACTION, START TRANSACTION, SELECT, UPDATE, COMMIT", 5, func() error {
					claimed, err := store.ClaimDue(ctx, batch)
					equal(t, "credentials claimed", len(claimed), 3)
					return err
				}},
				{"FindClaims", 1, func() error {
					claimed, err := store.FindClaims(ctx, batch, 0)
					equal(t, "credentials found again", len(claimed), 3)
					return err
				}},
				{"DueServices", 1, func() error { return errOf(store.DueServices(ctx)) }},
			} {
				before := questions(t, db, "SESSION")
				if err := step.call(); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
				equal(t, "statements of "+step.name+" with "+params, questions(t, db, "SESSION")-before-1, step.want) // the 1 is the counting's own
			}
		}
	})
}

// TestIndexes: every statement that names a key or a row finds it by a unique key, however many
// rows there are, so that it locks that row alone.
func TestIndexes(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{}
		database := s.migrated(t)
		db := s.open(t, database, interpolated)
		insertRows(t, db, 1000, func(i int) newRow {
			due := fmt.Sprintf("UTC_TIMESTAMP(6) + INTERVAL %d MINUTE", i-5)
			return newRow{service: service(i), account: fmt.Sprint("account ", i), due: due}
		})
		for _, charset := range []string{"", "charset=latin1", "sql_mode=%27%27"} {
			everything(t, newStore(t, s.openWire(t, database, charset, w)))
		}

		explained := 0
		for _, text := range w.statements() {
			command, _, _ := strings.Cut(text, " ")
			if !strings.Contains(text, "`credentials`") || command == "INSERT" ||
				strings.Contains(text, "LIMIT") {
				continue // Check reads many rows, or none
			}
			if strings.HasPrefix(text, beginsServices) || strings.Contains(text, "FORCE INDEX (due)") ||
				strings.Contains(text, "ORDER BY id") {
				continue // TestListPlans
			}
			if strings.HasPrefix(text, beginsDueServices) || strings.Contains(text, "AND due_at ") {
				continue // TestDuePlans has what goes by the time
			}
			plan := explain(t, s, database, text)
			explained++
			want := "service_account" // no statement but a probe of Check names an id alone
			if strings.Contains(text, "FORCE INDEX (PRIMARY)") || strings.HasSuffix(text, "WHERE id = 0") {
				want = "PRIMARY"
			}
			if command == "DELETE" && plan.text("key") == "PRIMARY" {
				want = "PRIMARY" // either will do, since the row is locked by its key already
			}
			if plan.text("key") != want || plan.text("rows") != "1" {
				t.Errorf("got the plan %v, want the index %s and 1 row: %s", plan, want, text)
			}
			if command == "SELECT" && !strings.HasPrefix(text, beginsVersions) {
				equal(t, "the access type of "+text, plan.text("type"), "const")
			}
		}
		if explained < 20 {
			t.Errorf("only %d statements were explained", explained)
		}
	})
}

// TestVersionsReadEachRowOnce: a look at many rows is one search of the primary key for each,
// however many rows there are beside them, and no more than one statement.
func TestVersionsReadEachRowOnce(t *testing.T) {
	const rows = 20_000
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		insertRows(t, s.open(t, database, interpolated), rows, func(i int) newRow {
			return newRow{service: service(i), account: fmt.Sprint("account ", i)}
		})
		db := s.open(t, database, "")
		db.SetMaxOpenConns(1)
		store := newStore(t, db)
		for _, n := range []int{1, 100, 5000} {
			looked := make(map[uint64]credentials.Key, n)
			for i := range n {
				place := i * (rows / n)
				looked[uint64(place)+1] = credentials.Key{Service: service(place), Account: fmt.Sprint("account ", place)}
			}
			before := handlerReads(t, db)
			statements := questions(t, db, "SESSION")
			versions, err := store.Versions(bounded(t), looked)
			must(t, err)
			equal(t, "statements", questions(t, db, "SESSION")-statements-1, 1)
			equal(t, "rows found", len(versions), n)
			for name, reads := range handlerReads(t, db) {
				want := 0
				switch {
				case name == "Handler_read_key":
					want = n
				case name == "Handler_read_rnd_next" && s.mariadb && n >= 1000:
					continue // of its own tables, into which it puts long lists
				}
				equal(t, fmt.Sprintf("%s of a look at %d rows", name, n), reads-before[name], want)
			}
		}
	})
}

// explain returns the statement's plan, a single line, by column. A row that is not found, because
// it is gone by now, is planned all the same for an id and a key that are there.
func explain(t *testing.T, s *server, database, text string) row {
	t.Helper()
	text = strings.ReplaceAll(text, hexOf(alice), hexOf(keyOf("account 10")))
	text = strings.ReplaceAll(text, fmt.Sprintf("%x", passing.Service), fmt.Sprintf("%x", alice.Service))
	text = strings.ReplaceAll(text, "'"+passing.Service+"'", "'"+alice.Service+"'")
	text = regexp.MustCompile(`\bid = [1-9]\d*`).ReplaceAllString(text, "id = 11")
	text = regexp.MustCompile(`AND version = \d+`).ReplaceAllString(text, "AND version = 1")
	text = regexp.MustCompile(`\(id, version\) IN \(\(\d+, \d+\)\)`).ReplaceAllString(text,
		"(id, version) IN ((11, 1))")
	text = regexp.MustCompile(`\bid IN \(\d+\)`).ReplaceAllString(text, "id IN (11)")
	command := "EXPLAIN FORMAT = TRADITIONAL "
	if s.mariadb {
		command = "EXPLAIN " // which knows no name for its only table
	}
	return rowsOf(t, s.open(t, database, ""), command+text)[0]
}

// passing is a credential that everything makes and deletes.
var passing = credentials.Key{Service: "passing", Account: alice.Account}

// everything does everything that the store can do, at least once.
func everything(t *testing.T, store *latchkey.Store) {
	t.Helper()
	ctx := bounded(t)
	seed(t, store, alice)
	c := claim(t, store, alice)
	must(t, store.Release(ctx, c.Fence()))
	batch := batchOf("holder", 1)
	claimDue(t, store, batch, 1)
	for _, c := range findClaims(t, store, batch, 1) {
		must(t, store.Release(ctx, c.Fence()))
	}
	must(t, errOf(store.DueServices(ctx)))
	for _, err := range []error{
		store.Check(ctx),
		store.Fail(ctx, claim(t, store, alice).Fence(),
			credentials.Failure{Class: credentials.ClassUnknown, Reason: "cut off"}),
		store.Save(ctx, claim(t, store, alice).Fence(), renewal("new")),
	} {
		must(t, err)
	}
	must(t, errOf(store.GetAll(ctx, []credentials.Key{alice})))
	must(t, errOf(store.Versions(ctx, map[uint64]credentials.Key{c.Row: alice})))
	for _, err := range store.List(ctx, latchkey.Filter{}) {
		must(t, err)
	}
	operated(t, store)
	must(t, store.Delete(ctx, alice))
}

// operated makes each change that an operator can make to alice's credential.
func operated(t *testing.T, store *latchkey.Store) {
	t.Helper()
	ctx, ch := bounded(t), credentials.Change{Key: alice, By: "ann@host"}
	must(t, errOf(store.Status(ctx, alice)))
	must(t, store.Disable(ctx, ch))
	must(t, store.Enable(ctx, ch))
	claim(t, store, alice)
	must(t, store.EndLease(ctx, ch))
	must(t, store.Fail(ctx, claim(t, store, alice).Fence(), credentials.Failure{Class: credentials.ClassDead}))
	for e, err := range store.Export(ctx, alice.Service, true) {
		must(t, err)
		if e.Key == alice {
			must(t, errOf(store.Import(ctx, e, latchkey.ImportOptions{Replace: true})))
		}
	}
	must(t, store.ReviveOne(ctx, ch, true))
	must(t, store.Remove(ctx, ch))
	seed(t, store, passing)
	must(t, errOf(store.DeleteAll(ctx, latchkey.Deletion{Service: passing.Service})))
	seed(t, store, alice)
}

// TestColumns holds the schema against what the store's statements read and write: a column that
// one of the two sides forgot is found. (A column that the table lacks gives an error in
// everything.)
func TestColumns(t *testing.T) {
	// These the store does not write, or not read, on purpose.
	neverWritten := []string{"id"}
	neverRead := []string{"created_at"} // for people

	word := regexp.MustCompile(`[a-z_]+`)
	assigned := regexp.MustCompile("([a-z_]+) += ")
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{}
		database := s.migrated(t)
		everything(t, newStore(t, s.openWire(t, database, "", w)))

		var read, written []string
		for _, text := range w.statements() {
			switch command, _, _ := strings.Cut(text, " "); command {
			case "SELECT":
				read = append(read, word.FindAllString(text, -1)...)
			case "INSERT":
				_, columns, _ := strings.Cut(text, "(")
				columns, _, _ = strings.Cut(columns, ")")
				written = append(written, word.FindAllString(columns, -1)...)
				fallthrough
			case "UPDATE":
				text, _, _ = strings.Cut(text, "\nWHERE ")
				for _, match := range assigned.FindAllStringSubmatch(text, -1) {
					written = append(written, match[1])
				}
			}
		}
		columns := rowsOf(t, s.admin, "SELECT column_name AS name FROM information_schema.columns "+
			"WHERE table_schema = ? AND table_name = 'credentials'", database)
		for _, column := range columns {
			name := column.text("name")
			equal(t, "the store writes "+name, slices.Contains(written, name),
				!slices.Contains(neverWritten, name))
			equal(t, "the store reads "+name, slices.Contains(read, name),
				!slices.Contains(neverRead, name))
		}
		if len(columns) < 20 {
			t.Fatalf("found %d columns", len(columns))
		}
	})
}

// TestChecks: the binary collations ignore trailing spaces, and so would the unique key.
func TestChecks(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), interpolated)
		for _, test := range []struct {
			service, account string
			ok               bool
		}{
			{"github", "alice", true},
			{"github", "", true},
			{"github ", "bob", false},
			{"github", "bob ", false},
			{"", "bob", false},
			{" github", " bob", true}, // unusual, but one key on both sides
		} {
			_, err := db.ExecContext(bounded(t), `INSERT INTO credentials (service_name, account_name, access_token, refresh_token, extra, created_at)
				VALUES (?, ?, '', '', '{}', UTC_TIMESTAMP(6))`, test.service, test.account)
			var refused *mysql.MySQLError
			isCheck := errors.As(err, &refused) &&
				(refused.Number == 3819 || refused.Number == 4025)
			if test.ok && err != nil || !test.ok && !isCheck {
				t.Errorf("INSERT of service %q, account %q: got error %v, want it accepted: %v",
					test.service, test.account, err, test.ok)
			}
		}
	})
}

// TestWrongTable: a table that is missing, not ours, older or newer is one clear error with a
// remedy, and not written to.
func TestWrongTable(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		t.Run("missing", func(t *testing.T) {
			db := s.open(t, s.database(t), interpolated)
			everyCallRefuses(t, newStore(t, db), "migrate up")
			m := newManager(t, newStore(t, db), credentials.RefresherFunc(
				func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
					t.Error("the refresher is called")
					return credentials.Grant{}, errors.New("called")
				}))
			failsAs(t, "Manager.Token", errOf(m.Token(bounded(t), alice)), credentials.ErrSchema)
			equal(t, "tables", tables(t, db), "")
		})
		t.Run("a column is missing", func(t *testing.T) {
			db := s.open(t, s.migrated(t), "")
			execute(t, db, "ALTER TABLE credentials DROP COLUMN extra")
			everyCallRefuses(t, newStore(t, db), "migrate up")
		})
		t.Run("newer", func(t *testing.T) {
			db := s.open(t, s.migrated(t), "")
			execute(t, db, "ALTER TABLE credentials COMMENT = 'latchkey schema 2'")
			refuses(t, "Check", newStore(t, db).Check(bounded(t)), "update the program")
		})
		t.Run("not ours", func(t *testing.T) {
			db := s.open(t, s.database(t), "")
			execute(t, db,
				"CREATE TABLE credentials (id INT, password TEXT) COMMENT = 'the host''s own'")
			refuses(t, "Check", newStore(t, db).Check(bounded(t)), "choose another table name")
			everyCallRefuses(t, newStore(t, db), "")
		})
	})
}

// refuses fails the test unless err is ErrSchema and names the remedy.
func refuses(t *testing.T, what string, err error, remedy string) {
	t.Helper()
	if !errors.Is(err, credentials.ErrSchema) || !strings.Contains(err.Error(), remedy) {
		t.Errorf("%s: got error %v, want ErrSchema with %q", what, err, remedy)
	}
}

func everyCallRefuses(t *testing.T, store *latchkey.Store, remedy string) {
	t.Helper()
	ctx := bounded(t)
	began := time.Now()
	refuses(t, "Check", store.Check(ctx), remedy)
	_, err := store.Get(ctx, alice)
	refuses(t, "Get", err, remedy)
	_, err = store.Claim(ctx, alice, claimOf("holder"))
	refuses(t, "Claim", err, remedy)
	_, err = store.ClaimDue(ctx, batchOf("holder", 1))
	refuses(t, "ClaimDue", err, remedy)
	refuses(t, "Put", store.Put(ctx, alice, renewal("new").Grant), remedy)
	for _, err := range store.List(ctx, latchkey.Filter{}) {
		refuses(t, "List", err, remedy)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the calls took %v; they should not be repeated", took)
	}
}
