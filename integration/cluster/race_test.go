package cluster_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// raced is the service of the credentials that are raced for.
const raced = "race"

// claimantWork is the work of a process of the role "claimant". Its orders are accounts, and it
// claims the credential of each.
type claimantWork struct{ DSN, Holder string }

// claimantSays is its answer to an order.
type claimantSays struct {
	Won    bool   // whether it is the holder
	Holder string // of the lease that stands in the row
	Err    string
}

// claimOn is the role of the claimants.
func claimOn(orders *json.Decoder, says *json.Encoder) error {
	var w claimantWork
	if err := orders.Decode(&w); err != nil {
		return err
	}
	db, err := sql.Open("mysql", w.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	store, err := latchkey.NewStore(db, &latchkey.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := db.Ping(); err != nil { // so that the first round opens no connection
		return err
	}
	if err := says.Encode(claimantSays{}); err != nil {
		return err
	}
	for {
		var account string
		if err := orders.Decode(&account); err != nil {
			return nil
		}
		if err := says.Encode(claimOnce(store, account, w.Holder)); err != nil {
			return err
		}
	}
}

// claimOnce claims as a manager does, within the default StoreTimeout.
func claimOnce(store *latchkey.Store, account, holder string) claimantSays {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	claim := credentials.Claim{ID: rand.Text(), Holder: holder, Lease: time.Hour}
	c, err := store.Claim(ctx, credentials.Key{Service: raced, Account: account}, claim)
	if err != nil {
		return claimantSays{Err: err.Error()}
	}
	return claimantSays{Won: c.Lease.ID == claim.ID, Holder: c.Lease.Holder}
}

// race has two processes at each address claim the same credential at the same moment, as many
// times as there are rounds, and fails the test unless one of them becomes the holder in each round
// and all see the same holder. The credentials are put before, each by way of another address than
// the one before.
func race(t *testing.T, engine string, rounds int, addrs ...string) {
	t.Helper()
	var stores []*latchkey.Store
	for _, addr := range addrs {
		stores = append(stores, newStore(t, addr))
	}
	accounts := putByTurns(t, raced, rounds, stores)
	var claimants []*process.Process[claimantSays]
	for i := range 2 * len(addrs) {
		holder := fmt.Sprintf("claimant-%d", i+1)
		claimants = append(claimants, process.Start[claimantSays](t, "claimant", holder, claimantWork{
			DSN: dsn(addrs[i%len(addrs)], database), Holder: holder,
		}))
	}
	for _, p := range claimants {
		p.Next("that it is connected", nil)
	}
	won := make([]int, len(claimants))
	for _, account := range accounts {
		for _, p := range claimants {
			p.Tell(account)
		}
		var winners []string
		holders := make(map[string]bool)
		for i, p := range claimants {
			said := p.Next("whether it won", nil)
			if said.Err != "" {
				t.Fatalf("%s claims %s: %s", p.Name, account, said.Err)
			}
			holders[said.Holder] = true
			if said.Won {
				won[i]++
				winners = append(winners, p.Name)
			}
		}
		if len(winners) != 1 || len(holders) != 1 || !holders[winners[0]] {
			t.Fatalf("%s: the winners are %v and the claimants see the holders %v; want one", account, winners, holders)
		}
	}
	for _, p := range claimants {
		p.CloseOrders()
		p.Ends()
	}
	fmt.Printf("%s, race: %d rounds of %d claimants at %d addresses, one winner in each; they won %v\n",
		engine, rounds, len(claimants), len(addrs), won)
}

// overlap has keepers, one for each store, claim batches of the same due credentials at the same time,
// and fails the test unless each credential is claimed once.
func overlap(t *testing.T, engine string, stores ...*latchkey.Store) {
	t.Helper()
	const service, rows, limit = "overlap", 320, 16
	putByTurns(t, service, rows, stores)
	var mu sync.Mutex
	claimed, whole := make(map[credentials.Key]int), 0
	var keepers sync.WaitGroup
	for i, store := range stores {
		keepers.Go(func() {
			for {
				got, err := store.ClaimDue(t.Context(), credentials.Batch{
					Claim:   credentials.Claim{ID: rand.Text(), Holder: fmt.Sprint("keeper ", i), Lease: time.Hour},
					Service: service, Limit: limit,
				})
				if err != nil {
					t.Errorf("ClaimDue: %v", err)
				}
				if len(got) == 0 {
					return
				}
				mu.Lock()
				for _, c := range got {
					claimed[c.Key]++
				}
				if len(got) == limit {
					whole++
				}
				mu.Unlock()
			}
		})
	}
	keepers.Wait()
	if len(claimed) != rows {
		t.Errorf("%d credentials were claimed, want %d", len(claimed), rows)
	}
	for key, n := range claimed {
		if n != 1 {
			t.Errorf("%v was claimed %d times", key, n)
		}
	}
	fmt.Printf("%s, overlapping batches of %d keepers: %d claims on %d rows, %d batches were whole\n",
		engine, len(stores), len(claimed), rows, whole)
}

// putByTurns puts credentials without a token, each by way of another store than the one before, and
// waits until all stores have them.
func putByTurns(t *testing.T, service string, n int, stores []*latchkey.Store) (accounts []string) {
	t.Helper()
	for i := range n {
		account := fmt.Sprintf("account-%04d", i+1)
		accounts = append(accounts, account)
		must(t, stores[i%len(stores)].Put(t.Context(), credentials.Key{Service: service, Account: account},
			credentials.Grant{RefreshToken: credentials.NewSecret(rand.Text())}))
	}
	for i, store := range stores {
		eventually(t, fmt.Sprintf("store %d has all that was put", i+1), func() bool {
			there := 0
			for _, err := range store.List(t.Context(), latchkey.Filter{Service: service}) {
				if err == nil {
					there++
				}
			}
			return there == n
		}, func() string { return "" })
	}
	return accounts
}
