package integration_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/model"
	"github.com/latchkey-go/latchkey/internal/testkit"
	"github.com/latchkey-go/latchkey/migrations"
)

// hosts are the DSNs and tables that the store has to work with, whatever the host chose them for.
var hosts = []struct {
	name    string
	params  string
	mariadb string // instead of params on MariaDB; empty: the same
	table   string
	seals   latchkey.Options // but for the table
}{
	{name: "plain"},
	{name: "sealed", seals: latchkey.Options{AEAD: testkit.NewKeyring(1), Deployment: "production", RequireSealed: true}},
	{name: "sealed, interpolated, a character set without emoji", params: "charset=utf8mb3&interpolateParams=true",
		seals: latchkey.Options{AEAD: testkit.NewKeyring(1)}},
	{
		name: "every habit at once",
		params: "parseTime=true&loc=America%2FNew_York&clientFoundRows=true&interpolateParams=true&multiStatements=true" +
			"&charset=latin1",
	},
	{name: "aliases, no strict mode, a table of that name",
		params: "columnsWithAlias=true&sql_mode=%27%27", table: "Acme_tokens"},
	{name: "a character set without emoji", params: "charset=utf8mb3"},
	{name: "the same, interpolated", params: "charset=utf8mb3&interpolateParams=true"},
	{
		name:    "strict and odd quoting",
		params:  "interpolateParams=true&sql_mode=%27ANSI,TRADITIONAL,NO_BACKSLASH_ESCAPES%27",
		mariadb: "interpolateParams=true&sql_mode=%27ANSI,TRADITIONAL,NO_BACKSLASH_ESCAPES,SIMULTANEOUS_ASSIGNMENT%27",
	},
	{
		name:    "serializable, in another time zone",
		params:  "time_zone=%27%2B09:00%27&transaction_isolation=%27SERIALIZABLE%27",
		mariadb: "time_zone=%27%2B09:00%27&tx_isolation=%27SERIALIZABLE%27",
	},
}

// TestStore runs the contract's suite. Its subtests name the invariants that they show.
func TestStore(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, host := range hosts {
			if s.mariadb && host.mariadb != "" {
				host.params = host.mariadb
			}
			t.Run(host.name, func(t *testing.T) {
				t.Parallel()
				db := s.open(t, s.database(t), host.params)
				migrate(t, db, &migrations.Options{Table: host.table})
				opts := host.seals
				opts.Table = host.table
				store := storeWith(t, db, opts)
				if err := store.Check(bounded(t)); err != nil {
					t.Fatalf("Check: %v", err)
				}
				storetest.Run(t, func(*testing.T) storetest.Store { return store })
				idle(t, db)
			})
		}
	})
}

func TestDeleteEndsOneCredential(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, "")
		bob := keyOf("bob")
		seed(t, store, alice)
		seed(t, store, bob)
		must(t, store.Delete(bounded(t), alice))
		get(t, store, bob)
	})
}

// TestModel has holders claim, save, fail, put and delete at random on the real store, late,
// repeated and at the same time, and holds every answer and every row against the model. In memory
// the same machine takes many more steps.
func TestModel(t *testing.T) {
	const steps = 1500
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, interpolated)
		model.RunStore(t, func(*testing.T) storetest.Store { return store }, steps)
	})
}

// TestConcurrentPut: two processes of 16 goroutines put one key and keys of their own at once. Each
// put counts, and none meets a deadlock.
func TestConcurrentPut(t *testing.T) {
	const processes, goroutines = 2, 16
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		inProcesses(t, processes, "putter", work{DSN: s.dsn(database, ""), Puts: goroutines})
		store := newStore(t, s.open(t, database, ""))
		c := get(t, store, alice)
		equal(t, "Version", c.Version, processes*goroutines)
		equal(t, "TokenVersion", c.TokenVersion, processes*goroutines)
		rows := 0
		for c, err := range store.List(bounded(t), latchkey.Filter{}) {
			must(t, err)
			if c.Key != alice {
				equal(t, fmt.Sprintf("Version of %v", c.Key), c.Version, 1)
			}
			rows++
		}
		equal(t, "rows", rows, 1+processes*goroutines)
	})
}

// TestPutAgainstSave: a put meets the save of a claim that is older. Whichever is first, the put
// stays.
func TestPutAgainstSave(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, interpolated)
		for range 20 {
			seed(t, store, alice)
			c := claim(t, store, alice)
			var both sync.WaitGroup
			var putErr, saveErr error
			both.Go(func() { putErr = store.Put(bounded(t), alice, renewal("put").Grant) })
			both.Go(func() { saveErr = store.Save(bounded(t), c.Fence(), renewal("saved")) })
			both.Wait()
			if putErr != nil {
				t.Errorf("Put: %v", putErr)
			}
			if saveErr != nil && !errors.Is(saveErr, credentials.ErrSuperseded) {
				t.Errorf("Save: %v", saveErr)
			}
			equal(t, "the token in the row", get(t, store, alice).AccessToken.Reveal(), "put")
			failsAs(t, "Save after the put", store.Save(bounded(t), c.Fence(), renewal("late")),
				credentials.ErrSuperseded)
		}
	})
}

const leaked = "hunter2-the-secret-that-must-not-leak"

// TestErrorsQuoteNoValue (invariant 14): an operator has altered the table, so that the server
// turns values down and says which. Neither that text nor a failed conversion leaves the store.
func TestErrorsQuoteNoValue(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter []string
		fails bool // in strict mode, on every server
	}{
		{"unique key",
			[]string{"ALTER TABLE credentials ADD UNIQUE KEY one_token (access_token(40))"}, true},
		{"number", []string{"ALTER TABLE credentials MODIFY access_token INT NOT NULL"}, true},
		{"time", []string{"ALTER TABLE credentials MODIFY access_token DATETIME NOT NULL"}, true},
		{"text of another character set", []string{"ALTER TABLE credentials MODIFY access_token VARCHAR(40) CHARACTER SET ascii NOT NULL"}, false},
		{"choice", []string{"ALTER TABLE credentials MODIFY access_token ENUM('', 'a') NOT NULL"},
			true},
		{"short", []string{"ALTER TABLE credentials MODIFY access_token VARBINARY(8) NOT NULL"},
			true},
		{"JSON", []string{"ALTER TABLE credentials MODIFY refresh_token JSON"}, false},
		{"CHECK", []string{"ALTER TABLE credentials ADD CONSTRAINT short_token CHECK (LENGTH(access_token) < 8)"}, true},
		{"version of another type", []string{"ALTER TABLE credentials MODIFY version VARCHAR(80)",
			"UPDATE credentials SET version = '" + leaked + "'"}, true},
		{"trigger", []string{"CREATE TRIGGER telling BEFORE UPDATE ON credentials FOR EACH ROW " +
			"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '" + leaked + "'"}, true},
		{"no table", []string{"DROP TABLE credentials"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				for _, mode := range []string{"STRICT_ALL_TABLES", "", "ANSI_QUOTES,STRICT_ALL_TABLES"} {
					for _, params := range []string{"", interpolated + "&"} {
						params += "sql_mode=%27" + mode + "%27"
						failed := alteredTable(t, s, params, test.alter)
						if test.fails && failed == 0 && mode != "" {
							t.Errorf("with %s no call failed; this test tests nothing", params)
						}
					}
				}
			})
		})
	}
}

// alteredTable makes calls with a table that was altered so, and returns how many failed. No error
// may show a token.
func alteredTable(t *testing.T, s *server, params string, alter []string) (failed int) {
	t.Helper()
	database := s.migrated(t)
	store := newStore(t, s.open(t, database, params))
	seed(t, store, alice)
	other := keyOf("other")
	put(t, store, other, refreshToken("other's"))
	fence := claim(t, store, alice).Fence()
	admin := s.open(t, database, "sql_mode=%27%27")
	for _, statement := range alter {
		if strings.Contains(statement, "UNIQUE KEY") {
			execute(t, admin,
				"UPDATE credentials SET access_token = ? WHERE account_name = 'other'",
				leaked)
		}
		_, _ = admin.ExecContext(bounded(t), statement)
	}
	for call, err := range map[string]error{
		"Save":  store.Save(bounded(t), fence, renewal(leaked)),
		"Put":   store.Put(bounded(t), alice, renewal(leaked).Grant),
		"Claim": errOf(store.Claim(bounded(t), other, claimOf("holder"))),
		"Get":   errOf(store.Get(bounded(t), other)),
	} {
		if err == nil {
			continue
		}
		failed++
		t.Logf("%s: %s: %v", params, call, err)
		texts := fmt.Sprintf("%v\n%+v\n%#v", err, err, chain(err))
		for text := range strings.SplitSeq(texts, "\n") {
			if strings.Contains(text, "hunter2") {
				t.Errorf("%s: %s: the error shows a token: %s", params, call, text)
			}
		}
		if errors.Is(err, credentials.ErrUnavailable) {
			t.Errorf("%s: got error %v, which says that it may pass", call, err)
		}
	}
	return failed
}

// chain are all the texts that errors.As can reach.
func chain(err error) (texts []string) {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		texts = append(texts, server.Message)
	}
	for err != nil {
		texts = append(texts, fmt.Sprintf("%#v", err))
		err = errors.Unwrap(err)
	}
	return texts
}
