package cluster_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
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
	c := &callers{said: callersSay{Failed: make(map[string]int)}}
	c.manager, err = newManager(db, w.TokenURL, &credentials.Options{Holder: w.Holder, Lease: w.Lease})
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

// newManager makes a manager whose tokens live between half of lifetime and all of it, so that the
// accounts are not renewed in step: a fault at any moment meets an exchange.
func newManager(db *sql.DB, tokenURL string, opts *credentials.Options) (*credentials.Manager, error) {
	quiet := slog.New(slog.DiscardHandler)
	store, err := latchkey.NewStore(db, &latchkey.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	exchange := oauth2refresh.New(oauth2.Config{
		ClientID: "app", Endpoint: oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInParams},
	})
	opts.Logger = quiet
	return credentials.NewManager(store, credentials.Services{service: {Refresher: credentials.RefresherFunc(
		func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
			grant, err := exchange.Refresh(ctx, in)
			grant.Lifetime = min(grant.Lifetime, lifetime/2+rand.N(lifetime/2))
			return grant, err
		},
	)}}, opts)
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
	tokenURL  string
	accounts  []string
	processes []*process.Process[callersSay]
	counted   int // presentations that a phase has counted
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
	l.tokenURL = served.TokenURL()
	for i := range accounts {
		l.accounts = append(l.accounts, fmt.Sprintf("account-%02d", i+1))
	}
	l.authorize(t, addrs[0], l.accounts...)
	for i, addr := range addrs {
		l.await(t, addr)
		holder := fmt.Sprintf("process-%d", i+1)
		l.processes = append(l.processes, process.Start[callersSay](t, "callers", holder, callersWork{
			DSN: dsn(addr, database), TokenURL: l.tokenURL, Holder: holder, Accounts: l.accounts, Lease: lease,
		}))
	}
	return l
}

// authorize stores new grants by way of that address.
func (l *load) authorize(t *testing.T, addr string, accounts ...string) {
	t.Helper()
	store := newStore(t, addr)
	for _, account := range accounts {
		must(t, store.Put(t.Context(), credentials.Key{Service: service, Account: account}, credentials.Grant{
			RefreshToken: credentials.NewSecret(l.provider.Register(account)),
		}))
	}
}

// await waits until the server at that address has the newest grants.
func (l *load) await(t *testing.T, addr string) {
	t.Helper()
	store := newStore(t, addr)
	eventually(t, addr+" has every grant", func() bool {
		return !slices.ContainsFunc(l.accounts, func(account string) bool {
			c, err := store.Get(t.Context(), credentials.Key{Service: service, Account: account})
			return err != nil || !l.provider.Current(account, c.RefreshToken.Reveal())
		})
	}, func() string { return "" })
}

// rows returns the accounts' rows as the server at that address has them.
func (l *load) rows(t *testing.T, addr string) map[string]credentials.Credential {
	t.Helper()
	store, rows := newStore(t, addr), make(map[string]credentials.Credential)
	for _, account := range l.accounts {
		c, err := store.Get(t.Context(), credentials.Key{Service: service, Account: account})
		must(t, err)
		rows[account] = c
	}
	return rows
}

// newStore returns a store on that server; params are more of the DSN's.
func newStore(t *testing.T, addr string, params ...string) *latchkey.Store {
	t.Helper()
	dsn := strings.Join(append([]string{dsn(addr, database)}, params...), "&")
	store, err := latchkey.NewStore(open(t, dsn), &latchkey.Options{
		Logger: slog.New(slog.DiscardHandler), // tokens of tests are stored unsealed
	})
	must(t, err)
	return store
}

// counts are those of a phase.
type counts struct {
	exchanges, tokens, reused int      // presentations, the refresh tokens in them, and reuses detected
	lost                      []string // the accounts whose grants have ended
	calls                     int
	gap                       time.Duration   // the longest time from a caller's token to its next
	gaps                      []time.Duration // the same of each process
	failed                    map[string]int
}

// phase has something happen to the servers, waits until every account has got a new token since it
// was over, prints the counts and holds them against the guarantees.
func (l *load) phase(t *testing.T, name string, happen func()) counts {
	t.Helper()
	c := l.during(t, name, happen)
	if c.exchanges != c.tokens || c.reused > 0 || len(c.lost) > 0 {
		t.Errorf("%s: got %d exchanges of %d refresh tokens, %d reused, grants lost %v; want one each and none",
			name, c.exchanges, c.tokens, c.reused, c.lost)
	}
	return c
}

// during is a phase whose counts the test judges, in which grants may be lost.
func (l *load) during(t *testing.T, name string, happen func()) counts {
	t.Helper()
	happen()
	over := time.Now()
	eventually(t, name+": every account gets a new token, or has lost its grant", func() bool {
		settled := make(map[string]bool)
		for _, p := range l.provider.Presentations() {
			switch p.Outcome {
			case provider.Issued:
				settled[p.Account] = p.Start.After(over)
			case provider.Reused:
				settled[p.Account] = true
			}
		}
		return !slices.ContainsFunc(l.accounts, func(account string) bool { return !settled[account] })
	}, func() string { return fmt.Sprintf("%+v", l.provider.Stats().Accounts) })
	return l.count(t, name)
}

// count returns and prints the counts since the phase before.
func (l *load) count(t *testing.T, name string) counts {
	t.Helper()
	c := counts{failed: make(map[string]int)}
	for _, p := range l.processes {
		p.Tell(true)
		said := p.Next("what its callers got", nil)
		c.calls += said.Calls
		c.gaps = append(c.gaps, said.Gap.Round(100*time.Millisecond))
		for kind, n := range said.Failed {
			c.failed[kind] += n
		}
	}
	c.gap = slices.Max(c.gaps)
	presentations := l.provider.Presentations()
	part := presentations[l.counted:]
	l.counted = len(presentations)
	tokens, lost := make(map[int64]bool), make(map[string]bool)
	for _, p := range part {
		tokens[p.Serial] = true
		if p.Outcome == provider.Reused {
			c.reused++
		}
		if p.Outcome == provider.Reused || p.Outcome == provider.Revoked {
			lost[p.Account] = true
		}
	}
	c.exchanges, c.tokens, c.lost = len(part), len(tokens), slices.Sorted(maps.Keys(lost))
	fmt.Printf("%s, %s: %d exchanges of %d refresh tokens, %d reused, %d grants lost; "+
		"%d calls, longest gap %v, of each process %v, errors %v\n", l.engine, name, c.exchanges, c.tokens,
		c.reused, len(c.lost), c.calls, c.gap, c.gaps, c.failed)
	return c
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
	var wrong []string
	eventually(t, "every row has the refresh token that works, no lease and no interruption", func() bool {
		wrong = nil
		for account, c := range l.rows(t, addr) {
			if !l.provider.Current(account, c.RefreshToken.Reveal()) || c.Lease.ID != "" || c.Interrupted.By != "" {
				wrong = append(wrong, fmt.Sprintf("%s: version %d, lease of %q, interrupted %q",
					account, c.Version, c.Lease.Holder, c.Interrupted.By))
			}
		}
		return len(wrong) == 0
	}, func() string { return strings.Join(wrong, "\n") })
}
