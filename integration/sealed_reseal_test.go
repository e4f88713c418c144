package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// TestReseal: rows that are plain or under an old key are re-sealed, and nothing else of them
// changes. A call that was broken off goes on after the last row.
func TestReseal(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "")
		plain, old, renewed := newStore(t, db), sealedStore(t, db, 1), sealedStore(t, db, 2, 1)
		var want []credentials.Credential
		for i, store := range []*latchkey.Store{plain, plain, old, old, old, renewed} {
			key := keyOf(fmt.Sprint("account ", i))
			put(t, store, key, longGrant.Grant)
			want = append(want, get(t, store, key))
		}
		counts(t, renewed, latchkey.KeyCount{Rows: 6, Plain: 2, Keys: map[uint32]int{1: 3, 2: 1}, Primary: 2}, 5)

		got, err := renewed.Reseal(bounded(t), latchkey.ResealOptions{DryRun: true})
		must(t, err)
		equal(t, "a dry run", got, latchkey.Resealed{Last: want[5].Row, Rows: 6, Written: 5, Current: 1})
		var first latchkey.Resealed
		got, err = renewed.Reseal(bounded(t), latchkey.ResealOptions{Batch: 2, Each: func(r latchkey.Resealed) {
			if first.Rows == 0 {
				first = r
			}
		}})
		must(t, err)
		equal(t, "the first batch", first, latchkey.Resealed{Last: want[1].Row, Rows: 2, Written: 2})
		equal(t, "all", got, latchkey.Resealed{Last: want[5].Row, Rows: 6, Written: 5, Current: 1})
		counts(t, renewed, latchkey.KeyCount{Rows: 6, Keys: map[uint32]int{2: 6}, Primary: 2}, 0)
		got, err = renewed.Reseal(bounded(t), latchkey.ResealOptions{After: first.Last})
		must(t, err)
		equal(t, "what is left after the first batch", got, latchkey.Resealed{Last: want[5].Row, Rows: 4, Current: 4})
		for _, before := range want {
			after := get(t, sealedStore(t, db, 2), before.Key)
			equal(t, "Version", after.Version, before.Version)
			equal(t, "TokenVersion", after.TokenVersion, before.TokenVersion)
			equal(t, "the access token", after.AccessToken.Reveal(), before.AccessToken.Reveal())
			equal(t, "the refresh token", after.RefreshToken.Reveal(), before.RefreshToken.Reveal())
		}
	})
}

func counts(t testing.TB, store *latchkey.Store, want latchkey.KeyCount, others int) {
	t.Helper()
	got, err := store.CountKeys(bounded(t))
	must(t, err)
	equal(t, "rows that need another key", got.Others(), others)
	same := got.Rows == want.Rows && got.Plain == want.Plain && got.Unnamed == want.Unnamed &&
		got.Primary == want.Primary && maps.Equal(got.Keys, want.Keys)
	if !same {
		t.Errorf("CountKeys: got %+v, want %+v", got, want)
	}
}

// TestResealBesideTraffic: rows are claimed, saved and put while they are re-sealed, several
// times over. No call fails, no save is superseded, every row has the last token that was written,
// and none needs the old key.
func TestResealBesideTraffic(t *testing.T) {
	const writers, rows = 4, 10
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		old, renewed := sealedStore(t, db, 1), sealedStore(t, db, 2, 1)
		for i := range writers * rows {
			put(t, old, keyOf(fmt.Sprint("account ", i)), refreshToken("seed"))
		}
		stop := make(chan struct{})
		var working sync.WaitGroup
		last := make([]map[credentials.Key]string, writers)
		for w := range writers {
			last[w] = make(map[credentials.Key]string)
			working.Go(func() {
				for turn := 0; ; turn++ {
					select {
					case <-stop:
						return
					default:
					}
					key, token := keyOf(fmt.Sprint("account ", w*rows+turn%rows)), fmt.Sprint("token ", w, turn)
					if err := writeOnce(renewed, key, token, turn); err != nil {
						t.Errorf("%v: %v", key, err)
						return
					}
					last[w][key] = token
				}
			})
		}
		for range 5 {
			got, err := renewed.Reseal(bounded(t), latchkey.ResealOptions{Batch: 7})
			if err != nil || got.Unreadable > 0 {
				t.Errorf("Reseal: %+v, error %v", got, err)
			}
		}
		close(stop)
		working.Wait()
		must(t, errOf(renewed.Reseal(bounded(t), latchkey.ResealOptions{})))
		counts(t, renewed, latchkey.KeyCount{
			Rows: writers * rows, Keys: map[uint32]int{2: writers * rows}, Primary: 2,
		}, 0)
		for _, written := range last {
			for key, token := range written {
				equal(t, key.String(), get(t, renewed, key).AccessToken.Reveal(), token)
			}
		}
	})
}

// writeOnce writes the row by a put or by an exchange, which nobody else does.
func writeOnce(store *latchkey.Store, key credentials.Key, token string, turn int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := renewal(token)
	r.DueIn = 0
	if turn%3 == 0 {
		r.AccessToken = credentials.NewSecret(token)
		return store.Put(ctx, key, credentials.Grant{AccessToken: r.AccessToken, Lifetime: time.Microsecond})
	}
	asked := claimOf("holder")
	c, err := store.Claim(ctx, key, asked)
	if err != nil {
		return err
	}
	if c.Lease.ID != asked.ID {
		return fmt.Errorf("the claim was not made: %+v", c.Lease)
	}
	return store.Save(ctx, c.Fence(), r)
}

// TestResealUnderALease: a row is re-sealed while its holder exchanges. The failure of that
// exchange is recorded all the same, and a holder that died counts as interrupted: re-sealing is no
// write that anybody waits for.
func TestResealUnderALease(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		old, renewed := sealedStore(t, db, 1), sealedStore(t, db, 2, 1)
		bob := keyOf("bob")
		seed(t, old, alice)
		seed(t, old, bob)
		failing, dying := claim(t, old, alice), claim(t, old, bob)
		got, err := renewed.Reseal(bounded(t), latchkey.ResealOptions{})
		must(t, err)
		equal(t, "written", got.Written, 2)
		succeeds(t, "Fail", renewed.Fail(bounded(t), failing.Fence(), failure()))
		after := claimOf("another")
		after.TakeOver = dying.Lease.ID
		execute(t, db, "UPDATE credentials SET lease_end = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE account_name = 'bob'")
		c, err := renewed.Claim(bounded(t), bob, after)
		must(t, err)
		equal(t, "the interrupted holder", c.Interrupted.By, "holder")
	})
}

// heldLock is a store whose next batch of Reseal stops before it locks its rows, until the gate is
// opened.
func heldLock(t *testing.T, s *server, database string, aead latchkey.AEAD) (store *latchkey.Store, reached, open chan struct{}) {
	reached, open = make(chan struct{}), make(chan struct{})
	var first sync.Once
	w := &wire{statement: func(text []byte) fate {
		if strings.HasPrefix(string(text), "SELECT id FROM `credentials` FORCE INDEX (PRIMARY)") {
			first.Do(func() {
				close(reached)
				<-open
			})
		}
		return deliver
	}}
	return storeWith(t, s.openWire(t, database, "", w), latchkey.Options{AEAD: aead}), reached, open
}

// TestResealAfterAnotherWrite: between the read of a row and its re-sealing, the row is put anew,
// or sealed by somebody whose primary key is newer. Neither is covered.
func TestResealAfterAnotherWrite(t *testing.T) {
	for _, test := range []struct {
		name  string
		write func(t *testing.T, db *sql.DB)
		want  latchkey.Resealed
		key   uint32
		token string
	}{
		{"put by a process that does not seal yet",
			func(t *testing.T, db *sql.DB) { put(t, newStore(t, db), alice, renewal("put").Grant) },
			latchkey.Resealed{Rows: 1, Written: 1}, 2, "put"},
		{"put", func(t *testing.T, db *sql.DB) { put(t, sealedStore(t, db, 2), alice, renewal("put").Grant) },
			latchkey.Resealed{Rows: 1, Current: 1}, 2, "put"},
		{"sealed with a newer key", func(t *testing.T, db *sql.DB) {
			must(t, errOf(sealedStore(t, db, 3, 2, 1).Reseal(bounded(t), latchkey.ResealOptions{})))
		}, latchkey.Resealed{Rows: 1, Unreadable: 1}, 3, "old"},
		{"deleted", func(t *testing.T, db *sql.DB) { must(t, newStore(t, db).Delete(bounded(t), alice)) },
			latchkey.Resealed{Rows: 1, Current: 1}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				database := s.migrated(t)
				db := s.open(t, database, "")
				put(t, newStore(t, db), alice, renewal("old").Grant)
				store, reached, open := heldLock(t, s, database, testkit.NewKeyring(2, 1))
				var got latchkey.Resealed
				ended := start(func() (err error) {
					got, err = store.Reseal(bounded(t), latchkey.ResealOptions{})
					return err
				})
				receive(t, "the batch to be read", reached)
				test.write(t, db)
				close(open)
				must(t, receive(t, "Reseal", ended))
				got.Last = 0
				equal(t, "Reseal", got, test.want)
				if test.key == 0 {
					return
				}
				equal(t, "the token", get(t, sealedStore(t, db, 3, 2), alice).AccessToken.Reveal(), test.token)
				counts(t, sealedStore(t, db, 3), latchkey.KeyCount{Rows: 1, Keys: map[uint32]int{test.key: 1}, Primary: 3},
					int(3-test.key))
			})
		})
	}
}

// TestResealPassesOverALockedRow: a row that another program has locked keeps Reseal from no other.
func TestResealPassesOverALockedRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		seed(t, sealedStore(t, db, 1), alice)
		seed(t, sealedStore(t, db, 1), keyOf("bob"))
		tx := transaction(t, db, lockAliceByID)
		renewed := sealedStore(t, db, 2, 1)
		got, err := renewed.Reseal(bounded(t), latchkey.ResealOptions{})
		must(t, err)
		equal(t, "beside a lock", got, latchkey.Resealed{Last: got.Last, Rows: 2, Written: 1, Left: 1})
		must(t, tx.Rollback())
		got, err = renewed.Reseal(bounded(t), latchkey.ResealOptions{})
		must(t, err)
		equal(t, "afterwards", got, latchkey.Resealed{Last: got.Last, Rows: 2, Written: 1, Current: 1})
	})
}
