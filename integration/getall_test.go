package integration_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// keysOf are the keys of n accounts.
func keysOf(n int) []credentials.Key {
	keys := make([]credentials.Key, n)
	for i := range keys {
		keys[i] = keyOf(fmt.Sprint("account ", i))
	}
	return keys
}

// TestGetAllReadsNoOtherRow has the server count what a GetAll reads: one search of an index for
// each key, and no row beside those. Accounts with other bytes than ASCII's are among them, under
// every character set that a connection may declare.
func TestGetAllReadsNoOtherRow(t *testing.T) {
	const rows, services = 5000, 3
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		keyAt := func(i int) credentials.Key {
			return credentials.Key{Service: fmt.Sprint("service-", i%services), Account: fmt.Sprint("àccount ", i)}
		}
		insertRows(t, s.open(t, database, interpolated), rows, func(i int) newRow {
			return newRow{service: keyAt(i).Service, account: keyAt(i).Account, due: "UTC_TIMESTAMP(6)"}
		})
		for _, params := range []string{"", interpolated, "charset=latin1", interpolated + "&charset=latin1"} {
			db := s.open(t, database, params)
			db.SetMaxOpenConns(1)
			store := newStore(t, db)
			for _, n := range []int{1, 2, 20, 250, 500} {
				for _, step := range []int{7, services} { // accounts of all services, or of one
					keys := make([]credentials.Key, n)
					for i := range keys {
						keys[i] = keyAt(i * step)
					}
					before := handlerReads(t, db)
					found, err := store.GetAll(bounded(t), keys)
					must(t, err)
					got := handlerReads(t, db)
					for i, one := range found {
						if one.Err != nil || one.Credential.Key != keys[i] {
							t.Fatalf("answer %d: got %v, error %v, want %v", i, one.Credential.Key, one.Err, keys[i])
						}
					}
					for name := range got {
						want := 0
						if name == "Handler_read_key" {
							want = n
						}
						equal(t, fmt.Sprintf("%s of %d keys, every %d, %q", name, n, step, params),
							got[name]-before[name], want)
					}
				}
			}
		}
	})
}

// handlerReads is how often the pool's one session has read a row or searched an index, by kind.
func handlerReads(t *testing.T, db *sql.DB) map[string]int {
	t.Helper()
	reads := make(map[string]int)
	for _, r := range rowsOf(t, db, "SHOW SESSION STATUS LIKE 'Handler_read%'") {
		n, err := strconv.Atoi(r.text("Value"))
		must(t, err)
		reads[r.text("Variable_name")] = n
	}
	if len(reads) < 5 {
		t.Fatalf("the server counts %v", reads)
	}
	return reads
}

// TestGetAllUnreadableRow: a row that somebody has broken is an error of its own, which does not
// quote it, and the others are read.
func TestGetAllUnreadableRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		seedAccounts(t, store, 3)
		keys := keysOf(4)
		execute(t, db, `UPDATE credentials SET extra = '["hunter2"]' WHERE account_name = 'account 1'`)
		found, err := store.GetAll(bounded(t), keys)
		must(t, err)
		for _, i := range []int{0, 2} {
			succeeds(t, fmt.Sprint("answer ", i), found[i].Err)
			equal(t, "RefreshToken", found[i].Credential.RefreshToken.Reveal(), "seed")
		}
		_, want := store.Get(bounded(t), keys[1])
		equal(t, "the error about the broken row", found[1].Err.Error(), want.Error())
		failsWith(t, "the broken row", found[1].Err, "column extra of github/account 1")
		if strings.Contains(found[1].Err.Error(), "hunter2") || errors.Is(found[1].Err, credentials.ErrNotFound) {
			t.Errorf("the broken row: got error %v", found[1].Err)
		}
		failsAs(t, "the missing row", found[3].Err, credentials.ErrNotFound)
	})
}

// TestGetAllWaitsForNoLock: another program's transaction has changed and locked all rows.
func TestGetAllWaitsForNoLock(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		for _, level := range []string{"REPEATABLE-READ", "SERIALIZABLE"} {
			store, db := s.store(t, s.isolation(level))
			seedAccounts(t, store, 3)
			other := transaction(t, db, "UPDATE credentials SET version = 77")
			found, err := store.GetAll(within(t, 5*time.Second), keysOf(3))
			must(t, err)
			for _, one := range found {
				must(t, one.Err)
				equal(t, "Version", one.Credential.Version, 1)
			}
			must(t, other.Rollback())
		}
	})
}
