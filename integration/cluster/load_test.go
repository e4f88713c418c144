package cluster_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

const (
	service  = "api"
	accounts = 20
	lifetime = 10 * time.Second // of an access token
)

// callersWork is the work of a process of the role "callers": one caller of each account asks for
// its token again and again.
type callersWork struct {
	DSN, TokenURL, Holder string
	Accounts              []string
	Lease                 time.Duration
}

// callersSay is its answer to an order: what its callers got since the order before.
type callersSay struct {
	Calls  int
	Failed map[string]int
	Gap    time.Duration // the longest time from a caller's token to its next
}

// callers is such a process.
type callers struct {
	manager *credentials.Manager

	mu   sync.Mutex
	said callersSay // guarded by mu
}

// callOn is the role of the callers.
func callOn(orders *json.Decoder, says *json.Encoder) error {
	var w callersWork
	if err := orders.Decode(&w); err != nil {
		return err
	}
	db, err := sql.Open("mysql", w.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(10)
	store, err := latchkey.NewStore(db, &latchkey.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	c := &callers{said: callersSay{Failed: make(map[string]int)}}
	c.manager, err = credentials.NewManager(store, credentials.Services{service: {
		Refresher: oauth2refresh.New(oauth2.Config{
			ClientID: "app", Endpoint: oauth2.Endpoint{TokenURL: w.TokenURL, AuthStyle: oauth2.AuthStyleInParams},
		}),
	}}, &credentials.Options{Holder: w.Holder, Lease: w.Lease, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	for _, account := range w.Accounts {
		asking.Go(func() { c.ask(ctx, credentials.Key{Service: service, Account: account}) })
	}
	var order bool
	for orders.Decode(&order) == nil {
		if err := says.Encode(c.take()); err != nil {
			break
		}
	}
	stop()
	asking.Wait()
	closing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.manager.Close(closing)
}

// ask is a caller who needs a token twenty times a second.
func (c *callers) ask(ctx context.Context, key credentials.Key) {
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	last := time.Now()
	for ctx.Err() == nil {
		_, err := c.manager.Token(ctx, key)
		if err != nil && ctx.Err() != nil {
			return
		}
		now := time.Now()
		c.mu.Lock()
		c.said.Calls++
		c.said.Gap = max(c.said.Gap, now.Sub(last))
		if err == nil {
			last = now
		} else {
			c.said.Failed[kind(err)]++
		}
		c.mu.Unlock()
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
}

// kind is in short the error that a caller got.
func kind(err error) string {
	var failed *credentials.RefreshError
	switch {
	case errors.Is(err, credentials.ErrGrantDead):
		return "grant dead"
	case errors.Is(err, credentials.ErrUnavailable):
		return "unavailable"
	case errors.As(err, &failed):
		return string(failed.Class)
	}
	return err.Error()
}

func (c *callers) take() callersSay {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.said
	c.said = callersSay{Failed: make(map[string]int)}
	return said
}

// load is processes whose callers ask for tokens while servers fail. The provider ends a grant whose
// refresh token comes back.
type load struct {
	engine    string // for the lines of counts
	provider  *provider.Provider
	accounts  []string
	processes []*process.Process[callersSay]
	judged    int // presentations that a phase has judged
}

// startLoad stores grants by way of the first address, and starts a process for each address.
func startLoad(t *testing.T, engine string, lease time.Duration, addrs ...string) *load {
	t.Helper()
	l := &load{engine: engine, provider: provider.New(provider.Options{
		Latency: 100 * time.Millisecond, Lifetime: lifetime,
	})}
	served, err := provider.Start("", l.provider)
	must(t, err)
	t.Cleanup(func() { _ = served.Close() })
	store := newStore(t, addrs[0])
	for i := range accounts {
		account := fmt.Sprintf("account-%02d", i+1)
		l.accounts = append(l.accounts, account)
		must(t, store.Put(t.Context(), credentials.Key{Service: service, Account: account}, credentials.Grant{
			RefreshToken: credentials.NewSecret(l.provider.Register(account)),
		}))
	}
	for i, addr := range addrs {
		holder := fmt.Sprintf("process-%d", i+1)
		l.processes = append(l.processes, process.Start[callersSay](t, "callers", holder, callersWork{
			DSN: dsn(addr, database), TokenURL: served.TokenURL(), Holder: holder, Accounts: l.accounts, Lease: lease,
		}))
	}
	return l
}

func newStore(t *testing.T, addr string) *latchkey.Store {
	t.Helper()
	store, err := latchkey.NewStore(open(t, dsn(addr, database)), nil)
	must(t, err)
	return store
}

// phase has something happen to the servers, waits until every account has got a new token since it
// was over, prints the counts and judges them. It returns the longest gap of a caller.
func (l *load) phase(t *testing.T, name string, happen func()) time.Duration {
	t.Helper()
	happen()
	over := time.Now()
	eventually(t, name+": every account gets a new token", func() bool {
		renewed := make(map[string]bool)
		for _, p := range l.provider.Presentations() {
			if p.Outcome == provider.Issued && p.Start.After(over) {
				renewed[p.Account] = true
			}
		}
		return len(renewed) == len(l.accounts)
	}, func() string { return fmt.Sprintf("%+v", l.provider.Stats().Accounts) })
	return l.judge(t, name)
}

// judge prints the counts since the phase before, and holds them against the guarantees.
func (l *load) judge(t *testing.T, name string) time.Duration {
	t.Helper()
	all := callersSay{Failed: make(map[string]int)}
	for _, p := range l.processes {
		p.Tell(true)
		said := p.Next("what its callers got", nil)
		all.Calls += said.Calls
		all.Gap = max(all.Gap, said.Gap)
		for kind, n := range said.Failed {
			all.Failed[kind] += n
		}
	}
	presentations := l.provider.Presentations()
	part := presentations[l.judged:]
	l.judged = len(presentations)
	tokens, lost, reused := make(map[int64]bool), make(map[string]bool), 0
	for _, p := range part {
		tokens[p.Serial] = true
		if p.Outcome == provider.Reused {
			reused++
		}
		if p.Outcome == provider.Reused || p.Outcome == provider.Revoked {
			lost[p.Account] = true
		}
	}
	fmt.Printf("%s, %s: %d exchanges of %d refresh tokens, %d reused, %d grants lost; "+
		"%d calls, longest gap %.1f s, errors %v\n", l.engine, name, len(part), len(tokens), reused, len(lost),
		all.Calls, all.Gap.Seconds(), all.Failed)
	if len(part) != len(tokens) || reused > 0 || len(lost) > 0 {
		t.Errorf("%s: got %d exchanges of %d refresh tokens, %d reused, grants lost %v; want one each and none",
			name, len(part), len(tokens), reused, slices.Sorted(maps.Keys(lost)))
	}
	return all.Gap
}

// end has the processes end, and holds the rows against the provider by way of that address.
func (l *load) end(t *testing.T, addr string) {
	t.Helper()
	for _, p := range l.processes {
		p.CloseOrders()
	}
	for _, p := range l.processes {
		p.Ends()
	}
	store := newStore(t, addr)
	for _, account := range l.accounts {
		c, err := store.Get(t.Context(), credentials.Key{Service: service, Account: account})
		must(t, err)
		if !l.provider.Current(account, c.RefreshToken.Reveal()) || c.Lease.ID != "" || c.Interrupted.By != "" {
			t.Errorf("%s: the refresh token is not the one that works, or a lease stands (%q), "+
				"or it is interrupted (%q)", account, c.Lease.Holder, c.Interrupted.By)
		}
	}
}
