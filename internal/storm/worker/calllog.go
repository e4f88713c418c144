package worker

import (
	"context"
	"sync"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// callLog counts the calls of a storm over several lifetimes as they end. The process's manager has
// its store and refresher from the callLog, which counts lost claims and own exchanges.
type callLog struct {
	w *worker

	mu  sync.Mutex
	log wire.Calls // guarded by mu
}

func newCallLog(w *worker) *callLog {
	return &callLog{w: w, log: wire.Calls{
		Accounts: make([]wire.AccountCalls, len(w.Accounts)), Failures: make(map[string]int),
	}}
}

// maxFailures is how many texts of errors are kept.
const maxFailures = 5

func (l *callLog) add(account int, c wire.EndedCall, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Accounts[account].Add(c)
	if err == nil {
		return
	}
	text := err.Error()
	if _, known := l.log.Failures[text]; !known && len(l.log.Failures) >= maxFailures {
		text = "and others"
	}
	l.log.Failures[text]++
}

// refresh makes an exchange.
func (l *callLog) refresh(
	ctx context.Context, in credentials.RefreshInput,
) (credentials.Grant, error) {
	grant, err := l.w.refresher(l.w.TokenURL).Refresh(ctx, in)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.log.Accounts[l.w.numbers[in.Key.Account]].Own(wire.Fingerprint(grant.AccessToken))
	}
	return grant, err
}

// do makes a call of the store.
func (l *callLog) do(ctx context.Context, call *testkit.Call) error {
	err := call.Do(ctx, l.w.rows)
	if err == nil && call.Method == testkit.Claim && call.Credential.Lease.ID != call.Claim.ID {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.log.ClaimsLost++
	}
	return err
}
