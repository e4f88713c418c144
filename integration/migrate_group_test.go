package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/migrations"
)

// TestMigrateOneOfSeveralPrimaries runs on a group of MySQL servers with one member so far, which
// takes writes whoever joins it. MariaDB knows no such groups.
func TestMigrateOneOfSeveralPrimaries(t *testing.T) {
	onPrivateServers(t, func(t *testing.T, s *private) {
		database := s.database(t)
		db := s.open(t, database, "")
		up := func(opts *migrations.Options) ([]*goose.MigrationResult, error) {
			return migrations.Up(bounded(t), db, opts)
		}
		refuses := func(when string, err error) {
			t.Helper()
			if !errors.Is(err, migrations.ErrSeveralPrimaries) ||
				!strings.Contains(err.Error(), "--only-caller") {
				t.Errorf("%s: got error %v; want ErrSeveralPrimaries with the remedy", when, err)
			}
		}
		if s.mariadb {
			migrate(t, db, nil)
			return
		}
		prepareGroup(t, s)
		migrate(t, db, nil) // the group is not running
		downAll(t, db, nil)
		execute(t, db, "DROP TABLE credentials_migrations")

		execute(t, s.admin, "SET GLOBAL group_replication_bootstrap_group = ON")
		execute(t, s.admin, "START GROUP_REPLICATION")
		_, err := up(nil)
		refuses("Up", err)
		applied(t, db, nil, false)
		equal(t, "tables", tables(t, db), "")

		execute(t, s.admin, "CREATE USER migrator@'%' IDENTIFIED BY 'Migrat0r!'")
		execute(t, s.admin, "GRANT ALL ON `"+database+"`.* TO migrator@'%'")
		config := s.configFor(t, database, "")
		config.User, config.Passwd = "migrator", "Migrat0r!"
		limited := open(config)
		t.Cleanup(func() { _ = limited.Close() })
		_, err = migrations.Up(bounded(t), limited, nil)
		refuses("Up by a user who sees nothing of the group", err)

		only := &migrations.Options{OnlyCaller: true}
		results, err := up(only)
		if err != nil || len(results) == 0 {
			t.Fatalf("Up of the only caller: got %v, error %v", results, err)
		}
		results, err = up(nil)
		if err != nil || len(results) != 0 {
			t.Errorf("Up of what is there: got %v, error %v; want nothing to do", results, err)
		}
		applied(t, db, nil, true)
		_, err = migrations.Down(bounded(t), db, nil)
		refuses("Down", err)
		equal(t, "tables", tables(t, db), "credentials credentials_migrations")
		downAll(t, db, only)

		// One primary, which any number of callers reach.
		execute(t, s.admin, "DO group_replication_switch_to_single_primary_mode()")
		migrate(t, db, nil)
	})
}

// prepareGroup has the server ready to start a group of several primaries.
func prepareGroup(t *testing.T, s *private) {
	t.Helper()
	port := 33061
	if listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0"); err == nil {
		port = listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
	}
	execute(t, s.admin, "SET GLOBAL enforce_gtid_consistency = ON")
	if query[string](t, s.admin, "SELECT @@gtid_mode") == "OFF" { // as it is by default before MySQL 9.7
		execute(t, s.admin, "SET GLOBAL gtid_mode = OFF_PERMISSIVE")
		execute(t, s.admin, "SET GLOBAL gtid_mode = ON_PERMISSIVE")
		execute(t, s.admin, "SET GLOBAL gtid_mode = ON")
	}
	for _, statement := range []string{
		"INSTALL PLUGIN group_replication SONAME 'group_replication.so'",
		"SET GLOBAL group_replication_group_name = '6a7e0000-0000-4000-8000-000000000002'",
		fmt.Sprintf("SET GLOBAL group_replication_local_address = '127.0.0.1:%d'", port),
		"SET GLOBAL group_replication_single_primary_mode = OFF",
		"SET GLOBAL group_replication_enforce_update_everywhere_checks = ON",
	} {
		execute(t, s.admin, statement)
	}
}

// TestClocksOfSeveralPrimaries: a credential was saved by a clock that is 40 s ahead. On a single
// server, whose clock was set back, claims go on. On one of several primaries they are refused: all
// of them for a while, since another credential shows nothing of it.
func TestClocksOfSeveralPrimaries(t *testing.T) {
	onPrivateServers(t, func(t *testing.T, s *private) {
		database := s.migrated(t)
		bob := keyOf("bob")
		seed(t, newStore(t, s.open(t, database, "")), bob)

		saveAhead(t, s, database)
		behind := newStore(t, s.open(t, database, interpolated))
		again := credentials.Claim{Holder: "behind", Lease: time.Minute,
			Invalidated: get(t, behind, alice).TokenID()}
		again.ID = "A1"
		c, err := behind.Claim(bounded(t), alice, again)
		if err != nil || c.Lease.ID != again.ID {
			t.Fatalf("Claim on a single server: got lease %q, error %v", c.Lease.ID, err)
		}
		if s.mariadb {
			return // several primaries of MariaDB's are several servers
		}
		prepareGroup(t, s)
		must(t, behind.Release(bounded(t), c.Fence()))
		saveAhead(t, s, database)

		process := newStore(t, s.open(t, database, interpolated))
		again.ID, again.Invalidated = "A2", get(t, process, alice).TokenID()
		_, err = process.Claim(bounded(t), alice, again)
		disagrees(t, "Claim", err)

		reader := newStore(t, s.open(t, database, interpolated))
		get(t, reader, alice) // tokens are served
		_, err = reader.Claim(bounded(t), bob, claimOf("behind"))
		disagrees(t, "Claim of another credential", err)
		_, err = reader.ClaimDue(bounded(t), batchOf("behind", 1))
		disagrees(t, "ClaimDue", err)
		reader = newStore(t, s.open(t, database, interpolated))
		must(t, errOf(reader.GetAll(bounded(t), []credentials.Key{alice, bob})))
		_, err = reader.Claim(bounded(t), bob, claimOf("behind"))
		disagrees(t, "Claim of the other of two that were read together", err)

		disagrees(t, "Check", newStore(t, s.open(t, database, "")).Check(bounded(t)))

		// The clock of a statement that waited for the row stands still; a write since is not from
		// the future.
		waiting := newStore(t, s.open(t, database, interpolated))
		other := transaction(t, s.open(t, database, ""),
			"SELECT id FROM credentials WHERE account_name = 'bob' FOR UPDATE")
		claimed := start(func() error {
			return errOf(waiting.Claim(bounded(t), bob, claimOf("waiting")))
		})
		blocked(t, s.server, database)
		for _, statement := range []string{
			"DO SLEEP(3)",
			"UPDATE credentials SET refreshed_at = UTC_TIMESTAMP(6) WHERE account_name = 'bob'",
			"COMMIT",
		} {
			must(t, errOf(other.Exec(statement)))
		}
		succeeds(t, "Claim that waited for the row", receive(t, "the claim", claimed))
	})
}

// saveAhead renews alice's token by a clock that is ahead.
func saveAhead(t *testing.T, s *private, database string) {
	t.Helper()
	store := newStore(t,
		s.open(t, database, fmt.Sprint("timestamp=", time.Now().Add(40*time.Second).Unix())))
	seed(t, store, alice)
	must(t, store.Save(bounded(t), claim(t, store, alice).Fence(), renewal("new")))
}

func disagrees(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, credentials.ErrUnavailable) || !strings.Contains(err.Error(), "NTP") {
		t.Errorf("%s on one of several primaries: got error %v, want ErrUnavailable that says what to do", what, err)
	}
}
