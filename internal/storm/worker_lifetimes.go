package storm

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
)

// asked is what the calls of one process came to in a storm over several lifetimes.
type asked struct {
	Accounts []askedAccount `json:"accounts"`
	Failures map[string]int `json:"failures,omitempty"` // by the error's text: the first few of them
	Until    int64          `json:"until"`              // when the process stopped asking, by history.Now

	// ClaimsLost is how often the process tried to get a lease and another had it, or had renewed the token already.
	ClaimsLost int `json:"claims_lost"`
}

// askedAccount is one account's part.
type askedAccount struct {
	OK     int       `json:"ok"`
	Failed int       `json:"failed,omitempty"`
	Waited int       `json:"waited,omitempty"` // calls that had no token at hand
	Took   histogram `json:"took"`             // all but the first call, which reads the row

	Tokens map[string]askedToken `json:"tokens"` // by fingerprint; by the token itself while the storm goes on
}

// askedToken is what the calls were about that returned one token. Times are those of history.Now.
type askedToken struct {
	// Last is when the last of the calls began.
	Last int64 `json:"last"`

	// Early are the starts of the calls that began before the first of them had ended, one for each thread at most.
	// Whoever overlapped the token's exchange is among them, but for those that are counted as waiting.
	Early []int64 `json:"early,omitempty"`

	// Own says that this process got the token from the provider.
	Own bool `json:"own,omitempty"`

	firstEnd int64
}

// askOn has each thread ask for a random account, again and again, for as long as the storm lasts.
func (w *worker) askOn(ctx context.Context) error {
	w.log = newCallLog(w.Accounts)
	manager, exchange, err := w.manager()
	if err != nil {
		return err
	}
	if err := w.link.say(message{Ready: 1}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.link.orders:
	}
	calls, cancel := context.WithTimeout(ctx, w.Asking+w.callLimit())
	defer cancel()
	asking, stop := context.WithTimeout(ctx, w.Asking)
	defer stop()
	until := history.Now() + int64(w.Asking)

	// A process that begins has to read the rows. No exchange is under way then, and from here on nobody has to wait.
	var threads sync.WaitGroup
	for account := range w.Accounts {
		threads.Go(func() { w.askLogged(calls, manager, account, true) })
	}
	threads.Wait()
	for range w.Threads {
		threads.Go(func() {
			for {
				sleep(asking, w.Pace/2+rand.N(w.Pace))
				if asking.Err() != nil {
					return
				}
				w.askLogged(calls, manager, rand.IntN(len(w.Accounts)), false)
			}
		})
	}
	threads.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := w.close(ctx, manager, exchange)
	if err != nil {
		return err
	}
	r.Round, r.Asked = 1, w.log.result(until)
	return w.link.say(message{Result: r})
}

// askLogged is one call.
func (w *worker) askLogged(ctx context.Context, manager *credentials.Manager, account int, first bool) {
	own := &ownCall{Context: ctx}
	start := history.Now()
	began := time.Now()
	token, err := manager.Token(own, w.key(account))
	took := time.Since(began)
	w.log.add(account, call{
		token: token.Value.Reveal(), err: err, first: first, waited: own.watched.Load(), start: start, end: history.Now(), took: took,
	})
}

// ownCall is the context of one call. It is the owner of the connections that the call's flight takes, and it knows
// whether the call waited for anything, since what waits watches for the end of its context.
type ownCall struct {
	context.Context

	watched atomic.Bool
}

// Done implements [context.Context].
func (c *ownCall) Done() <-chan struct{} {
	c.watched.Store(true)
	return c.Context.Done()
}

// Value implements [context.Context].
func (c *ownCall) Value(key any) any {
	if _, ok := key.(ownerKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// callLog counts calls as they end. It keeps as much as there are accounts, tokens and threads, whatever the number of
// calls.
type callLog struct {
	numbers  map[string]int // of the accounts, by name
	accounts []accountLog

	lost atomic.Int64 // claims

	mu       sync.Mutex
	failures map[string]int // guarded by mu
}

type accountLog struct {
	mu    sync.Mutex
	asked askedAccount // guarded by mu
}

// call is one that has ended.
type call struct {
	token      string
	err        error
	first      bool // of its process for that account
	waited     bool
	start, end int64 // by history.Now
	took       time.Duration
}

func newCallLog(names []string) *callLog {
	l := &callLog{numbers: make(map[string]int), accounts: make([]accountLog, len(names)), failures: make(map[string]int)}
	for i, name := range names {
		l.numbers[name] = i
		l.accounts[i].asked.Tokens = make(map[string]askedToken)
	}
	return l
}

func (l *callLog) add(account int, c call) {
	if c.err != nil {
		l.failed(c.err)
	}
	log := &l.accounts[account]
	log.mu.Lock()
	defer log.mu.Unlock()
	a := &log.asked
	if c.waited && !c.first {
		a.Waited++
	}
	if c.err != nil {
		a.Failed++
		return
	}
	a.OK++
	if !c.first {
		a.Took.add(c.took)
	}
	t := a.Tokens[c.token]
	if t.firstEnd == 0 || c.end < t.firstEnd {
		t.firstEnd = c.end
	}
	if c.start < t.firstEnd && (!c.waited || c.first) {
		t.Early = append(t.Early, c.start)
	}
	t.Last = max(t.Last, c.start)
	a.Tokens[c.token] = t
}

// mostFailures is how many texts of errors are kept.
const mostFailures = 5

func (l *callLog) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := err.Error()
	if _, known := l.failures[text]; !known && len(l.failures) >= mostFailures {
		text = "and others"
	}
	l.failures[text]++
}

// watch has the log see whose claims and exchanges they are.
func (l *callLog) watch(rows credentials.Store, r credentials.Refresher) (credentials.Store, credentials.Refresher) {
	return &countingStore{Store: rows, log: l}, credentials.RefresherFunc(
		func(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
			grant, err := r.Refresh(ctx, c)
			if err == nil {
				l.own(l.numbers[c.Key.Account], grant.Token.Reveal())
			}
			return grant, err
		})
}

func (l *callLog) own(account int, token string) {
	log := &l.accounts[account]
	log.mu.Lock()
	defer log.mu.Unlock()
	t := log.asked.Tokens[token]
	t.Own = true
	log.asked.Tokens[token] = t
}

// countingStore counts the claims that were lost to others.
type countingStore struct {
	credentials.Store

	log *callLog
}

// Claim implements [credentials.Store].
func (s *countingStore) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (credentials.Credential, error) {
	c, err := s.Store.Claim(ctx, key, claim)
	if err == nil && c.Lease.ID != claim.ID {
		s.log.lost.Add(1)
	}
	return c, err
}

// result is what there is to tell when all calls have ended. Tokens are fingerprints in it.
func (l *callLog) result(until int64) *asked {
	r := &asked{Failures: l.failures, Until: until, ClaimsLost: int(l.lost.Load())}
	for i := range l.accounts {
		a := l.accounts[i].asked
		tokens := make(map[string]askedToken, len(a.Tokens))
		for text, t := range a.Tokens {
			tokens[fingerprint(credentials.NewSecret(text))] = t
		}
		a.Tokens = tokens
		r.Accounts = append(r.Accounts, a)
	}
	return r
}
