package cluster_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/migrations"
)

// tidbEnv names a TiDB for these tests, by a DSN without a database. docs/engines.md has the recipe.
const tidbEnv = "TIDB_DSN"

// newTiDB returns the DSN of a new, migrated database on the TiDB that tidbEnv names.
func newTiDB(t *testing.T) string {
	t.Helper()
	config, err := mysql.ParseDSN(os.Getenv(tidbEnv))
	must(t, err)
	name := "latchkey_" + strings.ToLower(rand.Text()[:10])
	admin := open(t, config.FormatDSN())
	must(t, execute(t.Context(), admin, "CREATE DATABASE "+name))
	t.Cleanup(func() { must(t, execute(context.Background(), admin, "DROP DATABASE "+name)) })
	config.DBName, config.InterpolateParams = name, true
	_, err = migrations.Up(t.Context(), open(t, config.FormatDSN()), nil)
	must(t, err)
	return config.FormatDSN()
}

func execute(ctx context.Context, db *sql.DB, statement string) error {
	_, err := db.ExecContext(ctx, statement)
	return err
}

func storeOn(t *testing.T, dsn string) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(open(t, dsn), nil)
	must(t, err)
	return store
}

// TestTiDBContract runs the contract's suite, with prepared statements and without.
func TestTiDBContract(t *testing.T) {
	interpolated := newTiDB(t)
	for name, dsn := range map[string]string{
		"interpolated": interpolated,
		"prepared":     strings.Replace(interpolated, "interpolateParams=true", "parseTime=true", 1),
	} {
		t.Run(name, func(t *testing.T) {
			store := storeOn(t, dsn)
			must(t, store.Check(t.Context(), latchkey.Insert, latchkey.Delete))
			storetest.Run(t, func(*testing.T) storetest.Store { return store })
		})
	}
}

// TestTiDBStorms has real processes ask for tokens, in rounds, over lifetimes and under chaos.
func TestTiDBStorms(t *testing.T) {
	for name, config := range map[string]storm.Config{
		"defaults":     {},
		"rounds":       {Processes: 3, Threads: 8, Accounts: 5, Rounds: 4, Latency: 50 * time.Millisecond},
		"a connection": {Processes: 3, Threads: 2, Accounts: 6, Pool: 1},
		"lifetimes":    {Lifetimes: 2},
		"chaos":        {Chaos: true, Duration: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			config.DSN = newTiDB(t)
			runStorm(t, name, config)
		})
	}
}

// TestTiDBBatchesOverlap: TiDB ignores SKIP LOCKED, so that all batches have read the same rows.
// Together they claim each row once, and a batch that lost some rows keeps the others.
func TestTiDBBatchesOverlap(t *testing.T) {
	dsn := newTiDB(t)
	var stores []*latchkey.Store
	for range 8 {
		stores = append(stores, storeOn(t, dsn))
	}
	overlap(t, "TiDB", stores...)
}

// TestTiDBChainsNothing: the words of a chained transaction are taken and begin none, which is why
// the store begins transactions of its own there.
func TestTiDBChainsNothing(t *testing.T) {
	conn, err := open(t, newTiDB(t)).Conn(t.Context())
	must(t, err)
	defer func() { _ = conn.Close() }()
	for statement, want := range map[string]bool{"ROLLBACK AND CHAIN NO RELEASE": false, "START TRANSACTION": true} {
		_, err := conn.ExecContext(t.Context(), statement)
		must(t, err)
		var begun bool
		must(t, conn.QueryRowContext(t.Context(), "SELECT @@tidb_current_ts <> 0").Scan(&begun))
		if begun != want {
			t.Errorf("after %s: a transaction is open: %v, want %v", statement, begun, want)
		}
	}
}

// TestTiDBLockedRow: a claim waits for a row that another transaction has locked, and is not made
// later if its caller has given it up meanwhile.
func TestTiDBLockedRow(t *testing.T) {
	dsn := newTiDB(t)
	store, key := storeOn(t, dsn), credentials.Key{Service: service, Account: "alice"}
	must(t, store.Put(t.Context(), key, credentials.Grant{RefreshToken: credentials.NewSecret("seed")}))
	tx, err := open(t, dsn).BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "UPDATE credentials SET refresh_micros = 1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	claim := credentials.Claim{ID: rand.Text(), Holder: "one who gives up", Lease: time.Minute}
	if _, err := store.Claim(ctx, key, claim); !errors.Is(err, credentials.ErrUnavailable) {
		t.Errorf("Claim of a locked row: got error %v, want ErrUnavailable", err)
	}
	must(t, tx.Commit())
	claim = credentials.Claim{ID: rand.Text(), Holder: "the next", Lease: time.Minute}
	c, err := store.Claim(t.Context(), key, claim)
	must(t, err)
	if c.Lease.ID != claim.ID || c.Version != 2 {
		t.Errorf("the next claim: got the lease of %q, version %d; want its own, and version 2",
			c.Lease.Holder, c.Version)
	}
}

// TestTiDBClocks: each server of a TiDB writes by its own clock. One that is behind another's makes
// no claim.
func TestTiDBClocks(t *testing.T) {
	dsn := newTiDB(t)
	key := credentials.Key{Service: service, Account: "alice"}
	claim := credentials.Claim{ID: rand.Text(), Holder: "ahead", Lease: time.Minute}
	ahead := storeOn(t, fmt.Sprint(dsn, "&timestamp=", time.Now().Add(40*time.Second).Unix()))
	must(t, ahead.Put(t.Context(), key, credentials.Grant{RefreshToken: credentials.NewSecret("seed")}))
	c, err := ahead.Claim(t.Context(), key, claim)
	must(t, err)
	must(t, ahead.Save(t.Context(), c.Fence(), credentials.Renewal{
		Grant: credentials.Grant{AccessToken: credentials.NewSecret("new"), Lifetime: time.Hour}, By: "ahead",
	}))
	behind := storeOn(t, dsn)
	c, err = behind.Get(t.Context(), key)
	must(t, err)
	claim = credentials.Claim{ID: rand.Text(), Holder: "behind", Lease: time.Minute, Invalidated: c.TokenID()}
	if _, err := behind.Claim(t.Context(), key, claim); !errors.Is(err, credentials.ErrUnavailable) ||
		!strings.Contains(err.Error(), "NTP") {
		t.Errorf("Claim by a clock that is behind: got error %v, want ErrUnavailable that names NTP", err)
	}
}
