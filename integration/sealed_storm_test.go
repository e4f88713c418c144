package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/keyset"
	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/internal/storm/report"
)

// Of resealedRows, the first rowsUnderOldKey are sealed under the old key when the storm begins,
// and the others are not sealed. All of them are re-sealed with transactions of resealBatch rows.
const (
	resealedRows    = 100_000
	rowsUnderOldKey = 10_000
	resealBatch     = 500
)

// rotation is a table amid a rotation: the processes of a storm seal under the old key, and can
// open the new one.
type rotation struct {
	*server
	database string

	before *keyset.Keyset // the old key is the primary
	old    *latchkey.Store
	new    *latchkey.Store // seals under the new key
	newKey uint32

	// turns seal under the new key and under the old one, and take their time.
	turns [2]*latchkey.Store
}

// remoteKMS seals as slowly as a key that is asked for over a network, so that others write a row
// between its being read and re-sealed.
type remoteKMS struct{ latchkey.AEAD }

func (r remoteKMS) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	time.Sleep(10 * time.Millisecond)
	return r.AEAD.Encrypt(plaintext, associatedData)
}

func newRotation(t *testing.T, s *server) *rotation {
	t.Helper()
	before, err := keyset.New()
	must(t, err)
	id, err := before.Add()
	must(t, err)
	text, err := before.Text()
	must(t, err)
	after, err := keyset.Parse(text)
	must(t, err)
	must(t, after.Promote(id))
	r := &rotation{server: s, database: s.migrated(t), before: before, newKey: id}
	oldAEAD, err := before.AEAD()
	must(t, err)
	newAEAD, err := after.AEAD()
	must(t, err)
	db := s.open(t, r.database, interpolated)
	r.old = storeWith(t, db, latchkey.Options{AEAD: oldAEAD})
	r.new = storeWith(t, db, latchkey.Options{AEAD: newAEAD})
	for i, aead := range []latchkey.AEAD{newAEAD, oldAEAD} {
		r.turns[i] = storeWith(t, db, latchkey.Options{AEAD: remoteKMS{aead}})
	}
	return r
}

// seed inserts the rows, seals the first of them under the old key, and returns the last row's id.
func (r *rotation) seed(t *testing.T) (last uint64) {
	t.Helper()
	db := r.server.open(t, r.database, "")
	insertRows(t, db, resealedRows, func(i int) newRow {
		return newRow{service: alice.Service, account: accountOf(i), refreshToken: tokenOf(i)}
	})
	ctx, cancel := context.WithCancel(within(t, 2*patience))
	defer cancel()
	done, err := r.old.Reseal(ctx, latchkey.ResealOptions{Batch: resealBatch, Each: func(done latchkey.Resealed) {
		if done.Written >= rowsUnderOldKey {
			cancel()
		}
	}})
	if done.Written != rowsUnderOldKey {
		t.Fatalf("%d rows were sealed under the old key, want %d (%v)", done.Written, rowsUnderOldKey, err)
	}
	return query[uint64](t, db, "SELECT MAX(id) FROM credentials")
}

func accountOf(i int) string { return fmt.Sprint("account ", i) }
func tokenOf(i int) string   { return fmt.Sprint("refresh token ", i) }

// TestResealDuringAStorm: a hundred thousand rows are re-sealed beside processes that ask and renew
// all the time, whose own rows are re-sealed over and over. No caller fails, and no write is lost.
// The test has the machine for itself: other tests have time-outs.
func TestResealDuringAStorm(t *testing.T) {
	s := servers[len(servers)-1]
	r := newRotation(t, s)
	last := r.seed(t)
	resealed := start(func() error {
		done, err := r.new.Reseal(within(t, 5*patience), latchkey.ResealOptions{Batch: resealBatch})
		equal(t, "rows that do not open", done.Unreadable, 0)
		return err
	})
	storms, again := 0, 0
	for running := true; running; storms++ {
		again += r.storm(t, last)
		select {
		case err := <-resealed:
			must(t, err)
			running = false
		default: // there are rows left for another storm
		}
	}
	t.Logf("the rows of %d storms were re-sealed %d times", storms, again)
	equal(t, "whether a storm's rows were re-sealed", again > 0, true)
	r.isComplete(t)
}

// storm has processes ask and renew for two lifetimes, and re-seals their rows, which stand behind
// that row, over and over, and returns how often rows were re-sealed: under the new key and under
// the old one, so that at each save of an exchange a row may be about to be re-sealed.
func (r *rotation) storm(t *testing.T, last uint64) (resealed int) {
	t.Helper()
	var got report.Report
	ended := start(func() (err error) {
		got, err = storm.Run(context.Background(), storm.Config{
			DSN: r.dsn(r.database, interpolated), Timeout: 2 * patience, Keyset: r.before,
			Processes: 2, Threads: 1, Accounts: 5, Lifetimes: 2, Lifetime: 6 * time.Second,
			Latency: 20 * time.Millisecond,
		})
		return err
	})
	for turn := 0; ; turn++ {
		select {
		case err := <-ended:
			must(t, err)
			calm(t, got)
			return resealed
		default:
			done, err := r.turns[turn%2].Reseal(within(t, patience), latchkey.ResealOptions{After: last})
			must(t, err)
			equal(t, "rows of the storm that do not open", done.Unreadable, 0)
			resealed += done.Written
		}
	}
}

// isComplete fails the test unless all rows are under the new key, with their tokens.
func (r *rotation) isComplete(t *testing.T) {
	t.Helper()
	count, err := r.new.CountKeys(within(t, patience))
	must(t, err)
	if count.Rows != resealedRows || count.Keys[r.newKey] != resealedRows || count.Others() != 0 {
		t.Errorf("rows by key: %+v, want %d under %d", count, resealedRows, r.newKey)
	}
	// Of each ten rows one is read: they were all written by the same statement.
	const page, step = 1000, 10
	for first := 0; first < resealedRows; first += page * step {
		keys := make([]credentials.Key, page)
		for i := range keys {
			keys[i] = keyOf(accountOf(first + i*step))
		}
		all, err := r.new.GetAll(within(t, patience), keys)
		must(t, err)
		for i, found := range all {
			if got, want := found.Credential.RefreshToken.Reveal(), tokenOf(first+i*step); got != want {
				t.Fatalf("%v has the refresh token %q (%v), want %q", keys[i], got, found.Err, want)
			}
		}
	}
}
