package worker

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// lifetimes has each thread ask for a random account, again and again, for as long as the storm
// lasts.
func (w *worker) lifetimes(ctx context.Context) error {
	log := newCallLog(w)
	m, err := w.newManager(testkit.StoreFunc(log.do), credentials.RefresherFunc(log.refresh))
	if err != nil {
		return err
	}
	if _, err := w.awaitSignal(ctx, 1); err != nil {
		return err
	}
	calls, cancel := context.WithTimeout(ctx, w.AskFor+w.CallLimit())
	defer cancel()
	asking, stop := context.WithTimeout(ctx, w.AskFor)
	defer stop()
	until := history.Now() + int64(w.AskFor)

	// A new process has to read the rows. No exchange is under way then, and from here on nobody
	// has to wait for one.
	var threads sync.WaitGroup
	for account := range w.Accounts {
		threads.Go(func() { w.askLogged(calls, m, log, account, true) })
	}
	threads.Wait()
	for range w.Threads {
		threads.Go(func() {
			for {
				sleep(asking, w.Pace/2+rand.N(w.Pace))
				if asking.Err() != nil {
					return
				}
				w.askLogged(calls, m, log, rand.IntN(len(w.Accounts)), false)
			}
		})
	}
	threads.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := w.close(ctx, m)
	if err != nil {
		return err
	}
	r.Round, r.Calls, log.log.Until = 1, &log.log, until
	return w.link.send(wire.Message{Result: r})
}

// askLogged is one call.
func (w *worker) askLogged(ctx context.Context, m *manager, log *callLog, account int, first bool) {
	start := history.Now()
	began := time.Now()
	token, err := m.Token(NewCaller(ctx), w.key(account))
	took := time.Since(began)
	log.add(account, wire.EndedCall{
		Token: wire.Fingerprint(token.Value), First: first,
		Start: start, End: history.Now(), Took: took,
	}, err)
}
