package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// askerWork is the work of a process of the role "asker": for each account of an order, callers ask
// for its token until they have it, or until nobody but a person can help. The process tells of its
// deeds in lines of askerSays.
type askerWork struct {
	DSN, TokenURL, Holder string
	Pool                  int

	Lease, ExchangeTimeout, StoreTimeout, Recheck time.Duration
}

// askFor is a line on an asker's stdin: for each account Hasty callers who give up after a moment
// and come back, and one who waits.
type askFor struct {
	Accounts []string
	Hasty    int
}

// askerSays is a line on its stdout. At is by the host's wall clock.
type askerSays struct {
	At      time.Time
	Holder  string
	Account string
	Did     string // of a caller that has its answer: answeredCaller
	Note    string

	Token string         // of a caller that has one
	Error string         // of one that needs a person
	Told  map[string]int // errors that the caller was told before, by class
}

const (
	answeredCaller   = "a caller has its answer"
	answeredProvider = "has the provider's answer"
)

// asker is such a process.
type asker struct {
	work    askerWork
	manager *credentials.Manager

	mu  sync.Mutex
	out *json.Encoder // guarded by mu
}

// askOn is the role of the asker.
func askOn(orders *json.Decoder, says *json.Encoder) error {
	a := &asker{out: says}
	if err := orders.Decode(&a.work); err != nil {
		return err
	}
	db, err := openDSN(a.work.DSN, a.work.Pool)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	rows, err := latchkey.NewStore(db, nil)
	if err != nil {
		return err
	}
	a.manager, err = credentials.NewManager(a.told(rows),
		credentials.Services{alice.Service: {Refresher: credentials.RefresherFunc(a.refresh)}},
		&credentials.Options{
			Holder: a.work.Holder, Logger: slog.New(slog.DiscardHandler), Recheck: a.work.Recheck,
			Lease: a.work.Lease, ExchangeTimeout: a.work.ExchangeTimeout,
			StoreTimeout: a.work.StoreTimeout,
		})
	if err != nil {
		return err
	}
	var callers sync.WaitGroup
	for {
		var asked askFor
		if err := orders.Decode(&asked); err != nil {
			break // the test wants this to end, or has ended
		}
		for _, account := range asked.Accounts {
			for range asked.Hasty {
				callers.Go(func() { a.ask(account, 200*time.Millisecond) })
			}
			callers.Go(func() { a.ask(account, time.Hour) })
		}
	}
	callers.Wait()
	closing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.manager.Close(closing)
}

func (a *asker) say(s askerSays) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.At, s.Holder = time.Now(), a.work.Holder
	_ = a.out.Encode(s) // nobody reads it when the test has ended
}

func (a *asker) did(account, what string, err error) {
	said := askerSays{Account: account, Did: what}
	if err != nil {
		said.Note = err.Error()
	}
	a.say(said)
}

// ask is a caller whose calls last no longer than that.
func (a *asker) ask(account string, patience time.Duration) {
	told := make(map[string]int)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		token, err := a.manager.Token(ctx, keyOf(account))
		cancel()
		said := askerSays{Account: account, Did: answeredCaller, Token: token.Value.Reveal(),
			Told: told}
		var failed *credentials.RefreshError
		switch {
		case err == nil:
			a.say(said)
			return
		case errors.Is(err, credentials.ErrUnavailable):
			told["unavailable"]++
		case errors.Is(err, context.DeadlineExceeded):
			told["deadline"]++
		case errors.As(err, &failed) && failed.Class != credentials.ClassDead:
			told[string(failed.Class)]++
		default:
			said.Error = err.Error()
			a.say(said)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// refresh makes the exchange.
func (a *asker) refresh(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
	a.did(in.Key.Account, fmt.Sprintf("presents under version %d", in.Fence.Version), nil)
	grant, err := refresherAt(a.work.TokenURL).Refresh(ctx, in)
	a.did(in.Key.Account, answeredProvider, err)
	return grant, err
}

// told returns a store that tells of claims and results.
func (a *asker) told(rows credentials.Store) credentials.Store {
	var accounts sync.Map // by row
	store := testkit.NewStore(rows)
	store.After(testkit.Claim, func(_ context.Context, call *testkit.Call) error {
		c, account := call.Credential, call.Key.Account
		switch {
		case call.Err != nil:
			a.did(account, "claims", call.Err)
		case c.Lease.ID == call.Claim.ID:
			accounts.Store(c.Row, account)
			a.did(account, fmt.Sprintf("claims: version %d, interrupted %q", c.Lease.Version,
				c.Interrupted.By), nil)
		}
		return nil
	})
	for method, did := range map[testkit.Method]string{
		testkit.Save: "saves", testkit.Fail: "records a failure", testkit.Release: "releases",
	} {
		store.After(method, func(_ context.Context, call *testkit.Call) error {
			account, _ := accounts.Load(call.Fence.Row)
			name, _ := account.(string)
			a.did(name, did, call.Err)
			return nil
		})
	}
	return store
}
