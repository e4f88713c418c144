package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// chaos has the threads ask for random accounts until the parent ends the chaos.
func (w *worker) chaos(ctx context.Context) error {
	m, err := w.roundManager()
	if err != nil {
		return err
	}
	if err := w.link.send(wire.Message{Ready: 1}); err != nil {
		return err
	}
	var threads sync.WaitGroup
	defer threads.Wait()
	calling, stop := context.WithCancel(ctx)
	defer stop()
	for thread := range w.Threads {
		random := rand.New(rand.NewPCG(w.Seed, uint64(w.Worker)<<32|uint64(thread)))
		threads.Go(func() {
			for calling.Err() == nil {
				w.askAtRandom(ctx, m, random)
			}
		})
	}
	for {
		order, err := w.link.order(ctx)
		if err != nil {
			return err
		}
		switch order.Do {
		case wire.StopCalls:
			stop()
			threads.Wait()
		case wire.AskAll:
			var callers sync.WaitGroup
			for account := range w.Accounts {
				callers.Go(func() { w.askOnceOrMore(NewCaller(ctx), m, account, time.Now()) })
			}
			callers.Wait()
		case wire.CloseDown:
			r, err := w.close(ctx, m)
			if err != nil {
				return err
			}
			return w.link.send(wire.Message{Result: r})
		}
		if err := w.link.send(wire.Message{Done: order.Do}); err != nil {
			return err
		}
	}
}

// askAtRandom is one call under chaos, for a random account. The caller's patience is between less
// than an exchange takes and more than a lease lasts. Some callers find that an API turns the token
// down.
func (w *worker) askAtRandom(ctx context.Context, m *manager, random *rand.Rand) {
	account := random.IntN(len(w.Accounts))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	var patience time.Duration
	switch n := random.IntN(10); {
	case n < 2:
		patience = 20*time.Millisecond + upTo(w.Latency+1)
	case n < 8:
		patience = 300*time.Millisecond + upTo(2*time.Second)
	default:
		patience = w.Lease + upTo(w.Lease)
	}
	turnedDown := random.IntN(50) == 0
	pause := upTo(40 * time.Millisecond)

	ask := func(do func(context.Context) (credentials.Token, error)) (credentials.Token, error) {
		ctx, cancel := context.WithTimeout(NewCaller(ctx), patience)
		defer cancel()
		r, token, err := w.call(ctx, account, time.Now(), do)
		if cause := context.Cause(ctx); cause == nil || errors.Is(cause, context.DeadlineExceeded) {
			w.link.record(r) // Else the parent is gone.
		}
		return token, err
	}
	token, err := ask(func(ctx context.Context) (credentials.Token, error) {
		return m.Token(ctx, w.key(account))
	})
	if err == nil && turnedDown {
		_, err = ask(func(ctx context.Context) (credentials.Token, error) {
			return m.Invalidate(ctx, w.key(account), token)
		})
	}
	if err != nil {
		pause *= 4
	}
	sleep(ctx, pause)
}
