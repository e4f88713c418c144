package storm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// shortestLifetime leaves 0.4 s to renew a token.
const shortestLifetime = 2 * time.Second

// A thread pauses about that long between two calls, and longer where so many threads would make more calls than that in
// a second, all together: it is not the scheduler that is to be measured.
const (
	askingPace = time.Millisecond
	mostCalls  = 20_000
)

// asking is how long a storm over several lifetimes lasts.
func (c Config) asking() time.Duration { return time.Duration(c.Lifetimes) * c.Lifetime }

// pace is each thread's pause between two calls.
func (c Config) pace() time.Duration {
	return max(askingPace, time.Duration(c.Processes*c.Threads)*time.Second/mostCalls)
}

// checkLifetimes reports what is wrong with the lifetimes.
func (c Config) checkLifetimes() error {
	if c.Lifetimes == 0 && c.Lifetime == 0 {
		return nil
	}
	window := c.Lifetime - credentials.DueIn(c.Lifetime)
	switch {
	case c.Lifetimes == 0:
		return errors.New("a lifetime, and no number of lifetimes")
	case c.Lifetimes < 1 || c.Lifetimes > 10_000:
		return fmt.Errorf("lifetimes: %d is not between 1 and 10000", c.Lifetimes)
	case c.Faulty():
		return errors.New("lifetimes together with kill, pause, restart or chaos; over several lifetimes nothing goes wrong on purpose")
	case c.Rounds > 1:
		return errors.New("lifetimes together with rounds; over several lifetimes there are none")
	case c.Lifetime < shortestLifetime:
		return fmt.Errorf("lifetime %v; at least %v, since tokens are renewed in the last fifth of their life, "+
			"and in less than 0.4s not every process can have seen the new one", c.Lifetime, shortestLifetime)
	case c.Lifetime > 24*time.Hour:
		return fmt.Errorf("lifetime %v; at most 24h", c.Lifetime)
	case c.Lifetime%time.Second != 0:
		return fmt.Errorf(`lifetime %v; it must be whole seconds, as "expires_in" is`, c.Lifetime)
	case c.Latency > window/2:
		return fmt.Errorf("latency %v is too long for a lifetime of %v: tokens are renewed in their last %v, of which the endpoint may take half",
			c.Latency, c.Lifetime, window)
	}
	return nil
}

// runLifetimes does a storm over several lifetimes.
func runLifetimes(ctx context.Context, cfg Config, rows *accounts, p *provider.Provider, secret string) (Report, error) {
	endpoint, err := provider.Start("", p)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = endpoint.Close() }()
	cfg.Progress(fmt.Sprintf("starting %d processes", cfg.Processes))
	workers, err := startFleet(ctx, cfg.Command, cfg.Processes, job{
		DSN: cfg.DSN, Pool: cfg.Pool, Service: rows.service, Accounts: rows.names, Threads: cfg.Threads, First: 1, Rounds: 1,
		Latency: cfg.Latency, TokenURL: endpoint.TokenURL(), ClientID: clientID, ClientSecret: secret, Asking: cfg.asking(), Pace: cfg.pace(),
	}, nil)
	if err != nil {
		return Report{}, err
	}
	defer workers.stop(2 * time.Second)

	book := &lifetimesBook{ledger: newLedger(cfg, rows.names), workers: make(map[int]result)}
	dead := (*deadWorker)(nil)
	err = workers.collect(ctx, func(_ int, m message) error {
		if m.Ready != 1 {
			return fmt.Errorf("said %+v instead of being ready", m)
		}
		return nil
	})
	if err == nil {
		err = rows.seedFresh(ctx, p, cfg.Lifetime)
	}
	if err == nil {
		workers.tell(order{Round: 1, Sent: time.Now().UnixNano()})
		quiet := showLifetimes(cfg)
		err = workers.collect(ctx, func(worker int, m message) error {
			if m.Result == nil || m.Result.Asked == nil || len(m.Result.Asked.Accounts) != cfg.Accounts {
				return errors.New("said something else instead of what its calls came to")
			}
			book.workers[worker] = *m.Result
			return nil
		})
		quiet()
	}
	if errors.As(err, &dead) {
		book.violated("%v", dead)
	} else if err != nil {
		return Report{}, err
	}
	if book.rows, err = rows.grants(ctx, p); err != nil {
		return Report{}, err
	}
	book.issued = issuedTokens(p, rows.names)
	return book.report(p.Stats()), nil
}

// showLifetimes says in which lifetime the storm is, until the function that it returns is called.
func showLifetimes(cfg Config) (quiet func()) {
	stop := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		for done := range cfg.Lifetimes {
			cfg.Progress(fmt.Sprintf("lifetime %d of %d", done+1, cfg.Lifetimes))
			select {
			case <-time.After(cfg.Lifetime):
			case <-stop:
				return
			}
		}
	})
	return func() {
		close(stop)
		showing.Wait()
	}
}

// seedFresh authorizes every account at the provider and stores its tokens, none of which is due soon.
func (a *accounts) seedFresh(ctx context.Context, p *provider.Provider, lifetime time.Duration) error {
	began := time.Now()
	for _, name := range a.names {
		refresh, token := p.RegisterWithToken(name)
		err := a.store.Put(ctx, credentials.Key{Service: a.service, Account: name}, credentials.Grant{
			Token: credentials.NewSecret(token), RefreshToken: credentials.NewSecret(refresh), Lifetime: lifetime,
		})
		if err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	if took := time.Since(began); took > lifetime/2 {
		return fmt.Errorf("it took %v to store the tokens of %d accounts, and they live %v only; choose a longer lifetime or fewer accounts",
			took.Round(time.Millisecond), len(a.names), lifetime)
	}
	return nil
}

// stored is what an account's row holds.
type stored struct {
	token  string // its fingerprint
	newest bool   // the refresh token is the provider's newest, and alive
}

// grants returns what the rows hold, in the order of names.
func (a *accounts) grants(ctx context.Context, p *provider.Provider) ([]stored, error) {
	grants := make([]stored, len(a.names))
	for c, err := range a.store.List(ctx, a.service) {
		if err != nil {
			return nil, fmt.Errorf("read the rows: %w", err)
		}
		if i := slices.Index(a.names, c.Key.Account); i >= 0 {
			grants[i] = stored{token: fingerprint(c.Token), newest: p.Current(c.Key.Account, c.RefreshToken.Reveal())}
		}
	}
	return grants, nil
}

// issued is an access token that the provider issued. Times are those of history.Now.
type issued struct {
	token     string // its fingerprint
	presented int64  // when the presentation arrived that it answers; 0 for the seeded one
	at        int64
}

// issuedTokens returns each account's tokens, in the order in which they were issued.
func issuedTokens(p *provider.Provider, names []string) [][]issued {
	numbers := make(map[string]int)
	for i, name := range names {
		numbers[name] = i
	}
	clock := pairClocks()
	tokens := make([][]issued, len(names))
	for _, i := range p.Issues() {
		one := issued{token: fingerprint(credentials.NewSecret(i.Token)), at: clock.of(i.At)}
		if !i.Presented.IsZero() {
			one.presented = clock.of(i.Presented)
		}
		if number, ok := numbers[i.Account]; ok {
			tokens[number] = append(tokens[number], one)
		}
	}
	return tokens
}

// clockPair is the same moment by both clocks.
type clockPair struct {
	time time.Time
	now  int64 // by history.Now
}

// pairClocks reads both clocks, more than once, since this process may be interrupted between the two.
func pairClocks() clockPair {
	var best clockPair
	least := int64(history.Forever)
	for range 10 {
		before := history.Now()
		at := time.Now()
		after := history.Now()
		if after-before < least {
			best, least = clockPair{at, before + (after-before)/2}, after-before
		}
	}
	return best
}

// of returns t, which has a monotonic reading, by history.Now.
func (c clockPair) of(t time.Time) int64 { return c.now - int64(c.time.Sub(t)) }
