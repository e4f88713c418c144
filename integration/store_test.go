package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/migrations"
)

// hosts are the DSNs and tables that the store has to work with, whatever the host chose them for.
var hosts = []struct {
	name    string
	params  string
	mariadb string // instead of params on MariaDB; empty: the same
	table   string
}{
	{name: "plain"},
	{
		name: "every habit at once",
		params: "parseTime=true&loc=America%2FNew_York&clientFoundRows=true&interpolateParams=true&multiStatements=true" +
			"&charset=latin1",
	},
	{name: "aliases, no strict mode, a table of that name", params: "columnsWithAlias=true&sql_mode=%27%27", table: "Acme_tokens"},
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
				store, err := latchkey.NewStore(db, &latchkey.Options{Table: host.table})
				if err != nil {
					t.Fatal(err)
				}
				if err := store.Check(bounded(t)); err != nil {
					t.Fatalf("Check: %v", err)
				}
				storetest.Run(t, func(*testing.T) storetest.Store { return store })
				idle(t, db)
			})
		}
	})
}

func TestList(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		const n = 450 // three pages
		values := make([]string, 0, n)
		for i := range n {
			values = append(values, fmt.Sprintf("('%s', 'account %03d', '', '', '{}', UTC_TIMESTAMP(6))", service(i), i))
		}
		execute(t, db, "INSERT INTO credentials (service_name, account_name, token, refresh_token, extra, created_at) VALUES "+
			strings.Join(values, ", "))

		for _, test := range []struct {
			service string
			want    func(i int) bool
		}{
			{"", func(int) bool { return true }},
			{" GitHub ", func(i int) bool { return service(i) == "github" }},
			{"nobody", func(int) bool { return false }},
		} {
			var want, got []string
			for i := range n {
				if test.want(i) {
					want = append(want, fmt.Sprintf("%s/account %03d", service(i), i))
				}
			}
			for c, err := range store.List(bounded(t), test.service) {
				if err != nil {
					t.Fatalf("List(%q): %v", test.service, err)
				}
				got = append(got, c.Key.String())
			}
			equal(t, fmt.Sprintf("List(%q)", test.service), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}

		for range store.List(bounded(t), "") {
			break // which must give the connection back
		}
		idle(t, db)

		ctx, cancel := context.WithCancel(bounded(t))
		cancel()
		count := 0
		for _, err := range store.List(ctx, "") {
			count++
			if err == nil {
				t.Error("List under a context that has ended: got no error")
			}
		}
		equal(t, "what List yields under a context that has ended", count, 1)
		for _, err := range store.List(bounded(t), "not a service") {
			if err == nil {
				t.Error("List of a name that cannot be a service: got no error")
			}
		}
	})
}

func service(i int) string {
	if i%3 == 0 {
		return "xero"
	}
	return "github"
}

func TestDeleteEndsOneCredential(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, "")
		bob := credentials.Key{Service: alice.Service, Account: "bob"}
		seed(t, store, alice)
		seed(t, store, bob)
		if err := store.Delete(bounded(t), alice); err != nil {
			t.Fatal(err)
		}
		get(t, store, bob)
	})
}
