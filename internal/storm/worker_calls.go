package storm

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
)

// askOnce asks for a token, or rejects one, and returns the record of it. sent is when the caller came.
func (w *worker) askOnce(ctx context.Context, account int, sent time.Time, ask func(context.Context) (credentials.Token, error)) (record, credentials.Token, error) {
	r := record{Deed: didCall, Account: account, Start: history.Now()}
	if deadline, ok := ctx.Deadline(); ok {
		r.Deadline = time.Until(deadline)
	}
	token, err := ask(ctx)
	r.End, r.Took = history.Now(), time.Since(sent)
	if err == nil {
		r.Token = fingerprint(token.Value)
		return r, token, nil
	}
	if r.Class = errorClass(ctx, err); r.Class == untyped {
		r.Text = err.Error()
	}
	if failed := (*credentials.RefreshError)(nil); errors.As(err, &failed) {
		r.Blames = failed.Interrupted.By
	}
	return r, token, err
}

// untyped is the class of errors that have none.
const untyped = "untyped"

// insist is a caller that asks until it has a token, or needs a new authorization.
func (w *worker) insist(ctx context.Context, manager *credentials.Manager, account int, sent time.Time) {
	ctx, cancel := context.WithTimeout(ctx, w.callLimit())
	defer cancel()
	for {
		r, _, err := w.askOnce(ctx, account, sent, func(ctx context.Context) (credentials.Token, error) {
			return manager.Token(ctx, w.key(account))
		})
		pause := 50 * time.Millisecond
		if failed := (*credentials.RefreshError)(nil); errors.As(err, &failed) && !failed.RetryAt.IsZero() {
			pause = max(pause, time.Until(failed.RetryAt))
		}
		r.Again = err != nil && ctx.Err() == nil && r.Class != "reauth_required" && r.Class != untyped
		w.link.record(r)
		if !r.Again {
			return
		}
		sleep(ctx, pause+rand.N(pause/2))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// chaos has the threads ask for one account after the other, until the parent says that it is over.
func (w *worker) chaos(ctx context.Context) error {
	manager, exchange, err := w.manager()
	if err != nil {
		return err
	}
	if err := w.link.say(message{Ready: 1}); err != nil {
		return err
	}
	stop := make(chan struct{})
	var threads sync.WaitGroup
	for thread := range w.Threads {
		random := rand.New(rand.NewPCG(w.Seed, uint64(w.Worker)<<32|uint64(thread)))
		threads.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-stop:
					return
				default:
				}
				w.wander(ctx, manager, random)
			}
		})
	}
	for {
		var o order
		select {
		case <-ctx.Done():
			threads.Wait()
			return context.Cause(ctx)
		case o = <-w.link.orders:
		}
		switch o.Do {
		case stopCalls:
			close(stop)
			threads.Wait()
		case askAll:
			var callers sync.WaitGroup
			for account := range w.Accounts {
				callers.Go(func() { w.insist(WithOwner(ctx, w.nobodyElse()), manager, account, time.Now()) })
			}
			callers.Wait()
		case closeDown:
			r, err := w.close(ctx, manager, exchange)
			if err != nil {
				return err
			}
			return w.link.say(message{Result: r})
		}
		if err := w.link.say(message{Done: o.Do}); err != nil {
			return err
		}
	}
}

// owners counts the callers of this process, each of whom owns its flight's connections.
var owners atomic.Int64

func (w *worker) nobodyElse() any { return owners.Add(1) }

// wander is one call under chaos: any account, with patience for anything from less than an exchange takes to more than
// a lease lasts. Some find that the token is turned down.
func (w *worker) wander(ctx context.Context, manager *credentials.Manager, random *rand.Rand) {
	account := random.IntN(len(w.Accounts))
	var patience time.Duration
	switch n := random.IntN(10); {
	case n < 2:
		patience = 20*time.Millisecond + time.Duration(random.Int64N(int64(w.Latency+1)))
	case n < 8:
		patience = 300*time.Millisecond + time.Duration(random.Int64N(int64(2*time.Second)))
	default:
		patience = w.Lease + time.Duration(random.Int64N(int64(w.Lease)))
	}
	turnedDown := random.IntN(50) == 0
	pause := time.Duration(random.Int64N(int64(40 * time.Millisecond)))

	call := func(ask func(context.Context) (credentials.Token, error)) (credentials.Token, error) {
		ctx, cancel := context.WithTimeout(WithOwner(ctx, w.nobodyElse()), patience)
		defer cancel()
		r, token, err := w.askOnce(ctx, account, time.Now(), ask)
		if context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return token, err // the parent is gone
		}
		w.link.record(r)
		return token, err
	}
	token, err := call(func(ctx context.Context) (credentials.Token, error) { return manager.Token(ctx, w.key(account)) })
	if err == nil && turnedDown {
		_, err = call(func(ctx context.Context) (credentials.Token, error) {
			return manager.Reject(ctx, w.key(account), token)
		})
	}
	if err != nil {
		pause *= 4
	}
	sleep(ctx, pause)
}
