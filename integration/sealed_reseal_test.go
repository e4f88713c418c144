package integration_test

import (
	"database/sql"
	"fmt"
	"maps"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// TestReseal: rows that are plain or under an old key are sealed anew, and nothing else of them
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

		got, err := renewed.Reseal(bounded(t), latchkey.Reseal{DryRun: true})
		must(t, err)
		equal(t, "a dry run", got, latchkey.Resealed{Last: want[5].Row, Rows: 6, Written: 5, Current: 1})
		var first latchkey.Resealed
		got, err = renewed.Reseal(bounded(t), latchkey.Reseal{Batch: 2, Each: func(r latchkey.Resealed) {
			if first.Rows == 0 {
				first = r
			}
		}})
		must(t, err)
		equal(t, "the first batch", first, latchkey.Resealed{Last: want[1].Row, Rows: 2, Written: 2})
		equal(t, "all", got, latchkey.Resealed{Last: want[5].Row, Rows: 6, Written: 5, Current: 1})
		counts(t, renewed, latchkey.KeyCount{Rows: 6, Keys: map[uint32]int{2: 6}, Primary: 2}, 0)
		got, err = renewed.Reseal(bounded(t), latchkey.Reseal{After: first.Last})
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

// sealedStore returns a store that seals with the primary key, and opens with the others, too.
func sealedStore(t testing.TB, db *sql.DB, primary uint32, others ...uint32) *latchkey.Store {
	t.Helper()
	return storeWith(t, db, latchkey.Options{AEAD: testkit.NewKeyring(primary, others...)})
}

func storeWith(t testing.TB, db *sql.DB, opts latchkey.Options) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(db, &opts)
	must(t, err)
	return store
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
