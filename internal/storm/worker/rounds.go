package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// round has every thread ask for every account at once. A new manager with an empty cache has each
// round need one exchange for each account, at any pace.
func (w *worker) round(ctx context.Context, round int) error {
	m, err := w.roundManager()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make([]wire.Record, w.Threads*len(w.Accounts))
	var sent time.Time // Set before the barrier falls.
	barrier := make(chan struct{})
	var parked, done sync.WaitGroup
	parked.Add(len(outcomes))
	for i := range outcomes {
		done.Go(func() {
			parked.Done()
			select {
			case <-barrier:
				outcomes[i] = w.askOnceOrMore(NewCaller(ctx), m, i%len(w.Accounts), sent)
			case <-ctx.Done():
			}
		})
	}
	defer done.Wait()
	defer cancel()
	parked.Wait()

	signal, err := w.awaitSignal(ctx, round)
	if err != nil {
		return err
	}
	// The wall clock tells how long the signal took. From here on the monotonic clock counts.
	now := time.Now()
	sent = now.Add(-max(0, time.Duration(now.UnixNano()-signal.Sent)))
	close(barrier)
	done.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := w.close(ctx, m)
	if err != nil {
		return err
	}
	r.Round = round
	if !w.Faulty {
		r.Callers = outcomes
	}
	return w.link.send(wire.Message{Result: r})
}

// awaitSignal is ready for a round, sees the rows as the parent has prepared them, and returns the
// round's signal.
func (w *worker) awaitSignal(ctx context.Context, round int) (wire.Order, error) {
	if err := w.link.send(wire.Message{Ready: round}); err != nil {
		return wire.Order{}, err
	}
	prepared, err := w.link.order(ctx)
	if err == nil {
		err = w.awaitVersions(ctx, prepared.Versions)
	}
	if err == nil {
		err = w.link.send(wire.Message{Seen: true})
	}
	if err != nil {
		return wire.Order{}, err
	}
	return w.link.order(ctx)
}

// askOnceOrMore is one caller. In a storm with faults the caller asks until it has a token, or
// until asking is of no use, and each call is recorded. The last call is returned. sent is when the
// caller came.
func (w *worker) askOnceOrMore(
	ctx context.Context, m *manager, account int, sent time.Time,
) wire.Record {
	ctx, cancel := context.WithTimeout(ctx, w.CallLimit())
	defer cancel()
	for {
		r, _, err := w.call(ctx, account, sent, func(ctx context.Context) (credentials.Token, error) {
			return m.Token(ctx, w.key(account))
		})
		if !w.Faulty {
			return r
		}
		final := r.Class == wire.GrantDead || r.Class == wire.Untyped
		r.Again = err != nil && ctx.Err() == nil && !final
		w.link.record(r)
		if !r.Again {
			return r
		}
		pause := 50 * time.Millisecond
		if failed := (*credentials.RefreshError)(nil); errors.As(err, &failed) {
			pause = max(pause, time.Until(failed.RetryAt)) // A zero RetryAt is long past.
		}
		sleep(ctx, pause+rand.N(pause/2))
	}
}

// call asks for a token, or reports one, under ctx, and returns the record of the call. A storm
// without faults needs no history, whose clock is read by the kernel.
func (w *worker) call(
	ctx context.Context, account int, sent time.Time,
	ask func(context.Context) (credentials.Token, error),
) (wire.Record, credentials.Token, error) {
	recorded := w.Faulty || w.Chaos
	r := wire.Record{Action: wire.Call, Account: account}
	if recorded {
		r.Start = history.Now()
		if deadline, ok := ctx.Deadline(); ok {
			r.Deadline = time.Until(deadline)
		}
	}
	token, err := ask(ctx)
	r.Took = time.Since(sent)
	if recorded {
		r.End = history.Now()
	}
	if err == nil {
		r.Token = wire.Fingerprint(token.Value)
		return r, token, nil
	}
	r.Class, r.Text = wire.ErrorClass(ctx, err), err.Error()
	if failed := (*credentials.RefreshError)(nil); errors.As(err, &failed) {
		r.Blames = failed.Interrupted.By
	}
	return r, token, err
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
