package integration_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// everything does everything that the store can do, at least once.
func everything(t *testing.T, store *latchkey.Store) {
	t.Helper()
	ctx := bounded(t)
	seed(t, store, alice)
	c := claim(t, store, alice)
	if err := store.Release(ctx, c.Fence()); err != nil {
		t.Fatal(err)
	}
	batch := batchOf("holder", 1)
	claimDue(t, store, batch, 1)
	batch.Repeated = true
	for _, c := range claimDue(t, store, batch, 1) {
		if err := store.Release(ctx, c.Fence()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DueServices(ctx); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		store.Check(ctx),
		store.Fail(ctx, claim(t, store, alice).Fence(), credentials.Failure{Class: credentials.Unknown, Reason: "cut off"}),
		store.Save(ctx, claim(t, store, alice).Fence(), renewal("new")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Versions(ctx, []uint64{c.Row}); err != nil {
		t.Fatal(err)
	}
	for _, err := range store.List(ctx, alice.Service) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Delete(ctx, alice); err != nil {
		t.Fatal(err)
	}
}

// TestColumns holds the schema against what the store's statements read and write: a column that one of the two sides
// forgot is found. (A column that the table lacks gives an error in everything.)
func TestColumns(t *testing.T) {
	// What the store does not write, or not read, on purpose.
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
		rows, err := s.admin.QueryContext(bounded(t),
			"SELECT column_name FROM information_schema.columns WHERE table_schema = ? AND table_name = 'credentials'", database)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		columns := 0
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			columns++
			equal(t, "the store writes "+name, slices.Contains(written, name), !slices.Contains(neverWritten, name))
			equal(t, "the store reads "+name, slices.Contains(read, name), !slices.Contains(neverRead, name))
		}
		if err := rows.Err(); err != nil || columns < 20 {
			t.Fatalf("found %d columns, error %v", columns, err)
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
			_, err := db.ExecContext(bounded(t), `INSERT INTO credentials (service_name, account_name, token, refresh_token, extra, created_at)
				VALUES (?, ?, '', '', '{}', UTC_TIMESTAMP(6))`, test.service, test.account)
			var refused *mysql.MySQLError
			isCheck := errors.As(err, &refused) && (refused.Number == 3819 || refused.Number == 4025)
			if test.ok && err != nil || !test.ok && !isCheck {
				t.Errorf("INSERT of service %q, account %q: got error %v, want it accepted: %v", test.service, test.account, err, test.ok)
			}
		}
	})
}

// TestWrongTable: a table that is missing, not ours, older or newer is one clear error with a remedy, and not written to.
func TestWrongTable(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		t.Run("missing", func(t *testing.T) {
			db := s.open(t, s.database(t), interpolated)
			everyCallRefuses(t, newStore(t, db), "migrate up")
			m := newManager(t, newStore(t, db), credentials.RefresherFunc(
				func(context.Context, credentials.Credential) (credentials.Grant, error) {
					t.Error("the refresher is called")
					return credentials.Grant{}, errors.New("called")
				}))
			if _, err := m.Token(bounded(t), alice); !errors.Is(err, credentials.ErrSchema) {
				t.Errorf("Manager.Token: got error %v, want ErrSchema", err)
			}
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
			execute(t, db, "CREATE TABLE credentials (id INT, password TEXT) COMMENT = 'the host''s own'")
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
	for _, err := range store.List(ctx, "") {
		refuses(t, "List", err, remedy)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the calls took %v; they should not be repeated", took)
	}
}
