package cluster_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/model"
	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/internal/testkit"
	"github.com/latchkey-go/latchkey/migrations"
)

// These name two keyspaces for the tests alone, by DSNs of a vtgate: an unsharded one, and one whose
// table is sharded by the account. docs/engines.md has the recipe.
const (
	vitessEnv        = "VITESS_DSN"
	vitessShardedEnv = "VITESS_SHARDED_DSN"
)

// vitessDSNs returns the DSNs of the keyspaces that are named, by the keyspace's kind.
func vitessDSNs() map[string]string {
	dsns := map[string]string{"unsharded": os.Getenv(vitessEnv), "sharded": os.Getenv(vitessShardedEnv)}
	maps.DeleteFunc(dsns, func(_, dsn string) bool { return dsn == "" })
	return dsns
}

// TestVitess applies the migrations, and runs the store's contract and storms of real processes.
func TestVitess(t *testing.T) {
	for kind, dsn := range vitessDSNs() {
		t.Run(kind, func(t *testing.T) {
			v := openVitess(t, kind, dsn)
			t.Run("contract", func(t *testing.T) {
				storetest.Run(t, func(*testing.T) storetest.Store { return v.store })
			})
			t.Run("model", func(t *testing.T) {
				model.RunStore(t, func(*testing.T) storetest.Store { return v.store }, 1500)
			})
			t.Run("operators", v.operate)
			for range 10 {
				v.storm(t, "storm", storm.Config{})
			}
			v.storm(t, "rounds", storm.Config{Threads: 8, Accounts: 20, Rounds: 3})
			v.storm(t, "lifetimes", storm.Config{Lifetimes: 3, Lifetime: 4 * time.Second})
			v.storm(t, "chaos", storm.Config{Chaos: true, Duration: 20 * time.Second})
		})
	}
}

// TestVitessOneShard: what is about one credential touches its shard alone.
func TestVitessOneShard(t *testing.T) {
	openVitess(t, "sharded", os.Getenv(vitessShardedEnv)).oneShard(t)
}

// TestVitessWarnsOfPrepares: a DSN with which the driver prepares statements is told from one without.
func TestVitessWarnsOfPrepares(t *testing.T) {
	for _, dsn := range vitessDSNs() {
		config, err := mysql.ParseDSN(dsn)
		must(t, err)
		for _, interpolates := range []bool{true, false} {
			config.InterpolateParams = interpolates
			var log bytes.Buffer
			store, err := latchkey.NewStore(open(t, config.FormatDSN()), &latchkey.Options{
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			must(t, err)
			must(t, store.Check(t.Context()))
			if warned := strings.Contains(log.String(), "interpolateParams=true"); warned == interpolates {
				t.Errorf("interpolateParams is %t, and the log says %q", interpolates, log.String())
			}
		}
	}
}

// vitess is a keyspace behind a vtgate.
type vitess struct {
	kind, dsn string
	db        *sql.DB
	store     *latchkey.Store
	sent      *recorder
}

// openVitess returns the keyspace with the table in it, which must be empty.
func openVitess(t *testing.T, kind, dsn string) *vitess {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	must(t, err)
	// vtgate asks any shard for the columns of a statement that is prepared, and so has the
	// transaction on two shards.
	config.InterpolateParams = true
	v := &vitess{kind: kind, dsn: config.FormatDSN(), sent: &recorder{}}
	config.DialFunc = v.sent.dial
	connector, err := mysql.NewConnector(config)
	must(t, err)
	v.db = sql.OpenDB(connector)
	t.Cleanup(func() { _ = v.db.Close() })
	_, err = migrations.Up(t.Context(), v.db, nil)
	must(t, err)
	v.store = v.storeWith(t, nil)
	must(t, v.store.Check(t.Context(), latchkey.Insert, latchkey.Delete))
	for c := range v.store.List(t.Context(), latchkey.Filter{}) {
		t.Fatalf("the table has a row, %s; name a keyspace that is for these tests alone", c.Key)
	}
	return v
}

func (v *vitess) storeWith(t *testing.T, aead latchkey.AEAD) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(v.db, &latchkey.Options{AEAD: aead, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return store
}

// storm prints the counts of a storm of real processes, and fails the test if an invariant broke.
func (v *vitess) storm(t *testing.T, name string, config storm.Config) {
	t.Helper()
	config.DSN, config.Timeout = v.dsn, 3*patience
	r, err := storm.Run(t.Context(), config)
	must(t, err)
	for _, violation := range r.Violations {
		t.Errorf("%s: %s", name, violation)
	}
	fmt.Printf("Vitess, %s, %s: %d exchanges, %d needed, %d reused; %d callers, %d failed, the slowest took %.0f ms\n",
		v.kind, name, r.Refreshes.Calls, r.Refreshes.Needed, r.Refreshes.ReuseDetected,
		r.Callers, r.CallersFailed, r.LatencyMS.Max)
}

// operate makes what only operators ask for, on a few rows of each shard.
func (v *vitess) operate(t *testing.T) {
	const service = "operators"
	ctx := t.Context()
	keys := v.seed(t, service, 8)
	defer func() { must(t, errOf(v.store.DeleteAll(ctx, latchkey.Deletion{Service: service}))) }()

	listed := 0
	for c, err := range v.store.List(ctx, latchkey.Filter{Service: service}) {
		must(t, err)
		if !slices.Contains(keys, c.Key) {
			t.Errorf("List has %s", c.Key)
		}
		listed++
	}
	sealing := v.storeWith(t, testkit.NewKeyring(1))
	resealed, err := sealing.Reseal(ctx, latchkey.ResealOptions{})
	must(t, err)
	count, err := sealing.CountKeys(ctx)
	must(t, err)
	exported := 0
	for e, err := range sealing.Export(ctx, service, false) {
		must(t, err)
		_, err = sealing.Import(ctx, e, latchkey.ImportOptions{Replace: true})
		must(t, err)
		exported++
	}
	deleted, err := v.store.DeleteAll(ctx, latchkey.Deletion{Service: service})
	must(t, err)
	for what, n := range map[string]int{
		"listed": listed, "re-sealed": resealed.Written, "counted as sealed": count.Keys[1],
		"exported": exported, "deleted": deleted,
	} {
		if n != len(keys) {
			t.Errorf("%d rows were %s, want %d", n, what, len(keys))
		}
	}
}

// errOf is the error of a call whose answer does not matter.
func errOf[T any](_ T, err error) error { return err }

// seed makes credentials that need a token.
func (v *vitess) seed(t *testing.T, service string, n int) (keys []credentials.Key) {
	t.Helper()
	for i := range n {
		key := credentials.Key{Service: service, Account: fmt.Sprint("account ", i)}
		must(t, v.store.Put(t.Context(), key, credentials.Grant{RefreshToken: credentials.NewSecret("seed")}))
		keys = append(keys, key)
	}
	return keys
}

// oneShard holds the statements of each call about one credential against the shards that vtgate
// sends them to.
func (v *vitess) oneShard(t *testing.T) {
	const service = "shards"
	ctx := t.Context()
	seen := make(map[string]bool)
	for _, key := range v.seed(t, service, 8) {
		var held credentials.Credential
		claim := func() (err error) {
			claim := credentials.Claim{ID: fmt.Sprint("claim", len(seen)), Holder: "holder", Lease: time.Minute}
			held, err = v.store.Claim(ctx, key, claim)
			return err
		}
		by := credentials.Change{Key: key, By: "ann@host"}
		for _, call := range []struct {
			name string
			make func() error
		}{
			{"Get", func() error { return errOf(v.store.Get(ctx, key)) }},
			{"Claim", claim},
			{"Versions", func() error {
				return errOf(v.store.Versions(ctx, map[uint64]credentials.Key{held.Row: key}))
			}},
			{"Release", func() error { return v.store.Release(ctx, held.Fence()) }},
			{"Claim", claim},
			{"Fail", func() error {
				return v.store.Fail(ctx, held.Fence(), credentials.Failure{Class: credentials.ClassTransient})
			}},
			{"Claim", claim},
			{"Save", func() error {
				return v.store.Save(ctx, held.Fence(), credentials.Renewal{Grant: credentials.Grant{
					AccessToken: credentials.NewSecret("token"), Lifetime: time.Hour,
				}, DueIn: time.Hour, By: "holder"})
			}},
			{"Disable", func() error { return v.store.Disable(ctx, by) }},
			{"Enable", func() error { return v.store.Enable(ctx, by) }},
			{"Put", func() error {
				return v.store.Put(ctx, key, credentials.Grant{RefreshToken: credentials.NewSecret("put")})
			}},
			{"Delete", func() error { return v.store.Delete(ctx, key) }},
		} {
			v.sent.take()
			must(t, call.make())
			touched := make(map[string]bool)
			for _, statement := range v.sent.take() {
				for _, shard := range v.shards(t, statement) {
					touched[shard], seen[shard] = true, true
				}
			}
			if len(touched) != 1 {
				t.Errorf("%s of %s touches the shards %v", call.name, key, touched)
			}
		}
	}
	if len(seen) < 2 {
		t.Errorf("the keyspace has the shards %v; this test tests nothing", seen)
	}
}

// shards returns where vtgate sends a statement about the table, which is made once more for that.
func (v *vitess) shards(t *testing.T, statement string) (shards []string) {
	t.Helper()
	if !strings.Contains(statement, "`credentials`") {
		return nil
	}
	rows, err := v.db.QueryContext(t.Context(), "VEXPLAIN /*vt+ EXECUTE_DML_QUERIES */ QUERIES "+statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var number int
		var keyspace, shard, query string
		must(t, rows.Scan(&number, &keyspace, &shard, &query))
		if strings.Contains(query, "credentials_seq") {
			continue // the next id, of the keyspace that has the sequence
		}
		shards = append(shards, shard)
	}
	must(t, rows.Err())
	return shards
}

// recorder notes the statements that a pool sends.
type recorder struct {
	mu   sync.Mutex
	sent []string // guarded by mu
}

// take returns the statements since it was called last.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

func (r *recorder) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, addr)
	return recorded{conn, r}, err
}

// recorded is a connection whose statements are noted.
type recorded struct {
	net.Conn
	*recorder
}

func (c recorded) Write(packet []byte) (int, error) {
	const query = 3 // https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html
	if len(packet) > 5 && packet[4] == query {
		c.mu.Lock()
		c.sent = append(c.sent, string(packet[5:]))
		c.mu.Unlock()
	}
	return c.Conn.Write(packet)
}
