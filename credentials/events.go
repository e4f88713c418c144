package credentials

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxUntold is how many events wait for an observer that does not return, at some hundred bytes
	// each.
	maxUntold = 10_000

	// observerPatience is how long an exchange waits for the observer's context.
	observerPatience = 100 * time.Millisecond

	// lastEventsPatience is how long Close waits for the last events to be told.
	lastEventsPatience = time.Second
)

// events has what happens in a manager counted, logged and told to the observer. The observer is
// foreign code: it is called by one goroutine, which lives while there is something to tell, and
// under no lock. To tell an event never blocks.
type events struct {
	observer Observer
	log      *boundedLog // of troubles
	lines    *boundedLog // of exchanges: a log of their own, so that they take no trouble's place

	mu    sync.Mutex // guards the fields below
	stats Stats
	queue []func()      // not told yet, the oldest first
	idle  chan struct{} // closed when all is told; nil: nothing is to be told
}

func newEvents(o *Options, log *boundedLog) *events {
	e := &events{log: log, lines: &boundedLog{logger: o.Logger}}
	if o.Observer != nil {
		e.observer = *o.Observer
	}
	return e
}

// count changes the figures.
func (e *events) count(change func(*Stats)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.stats)
}

// figures returns the figures.
func (e *events) figures() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats
}

// exchange tells of an exchange's begin. It returns the context to make the exchange with, which is
// the observer's unless that takes too long, and the function that tells of the end.
func (e *events) exchange(
	ctx context.Context, began ExchangeInfo,
) (given context.Context, ended func(ExchangeInfo)) {
	e.count(func(s *Stats) {
		s.Exchanging++
		if began.TookOver.By != "" {
			s.TookOver++
		}
	})
	given = ctx
	observed := ctx // by the goroutine that tells: written at the begin, read at the end
	if f := e.observer.ExchangeBegan; f != nil {
		told := make(chan struct{})
		e.tell(func() {
			defer close(told)
			if c := f(ctx, began); c != nil {
				observed = c
			}
		})
		patience := time.NewTimer(observerPatience)
		defer patience.Stop()
		select {
		case <-told:
			given = context.WithoutCancel(observed)
		case <-patience.C:
		}
	}
	return given, func(info ExchangeInfo) {
		e.count(func(s *Stats) { s.ended(info) })
		e.line(given, info)
		if f := e.observer.ExchangeEnded; f != nil {
			e.tell(func() { f(observed, info) })
		}
	}
}

// line logs the end of an exchange.
func (e *events) line(ctx context.Context, info ExchangeInfo) {
	if !e.lines.logger.Enabled(ctx, slog.LevelInfo) {
		return
	}
	args := []any{
		"credential", info.Key.String(), "holder", info.Holder,
		"trigger", info.Trigger, "took", info.Took,
	}
	if info.Class != "" {
		args = append(args, "class", info.Class)
	}
	if info.TookOver.By != "" {
		args = append(args, "took_over", info.TookOver.By)
	}
	e.lines.log(ctx, slog.LevelInfo, info.Key.Service, "exchange "+string(info.Outcome), args...)
}

// savedLate tells of a success that was saved when its exchange's time was over.
func (e *events) savedLate(ctx context.Context, info ExchangeInfo) {
	e.count(func(s *Stats) { s.SavedLate++ })
	if f := e.observer.SavedLate; f != nil {
		e.tell(func() { f(ctx, info) })
	}
}

// callWaited tells of callers that have waited for an exchange.
func (e *events) callWaited(ctx context.Context, info CallInfo) {
	if f := e.observer.CallWaited; f != nil {
		e.tell(func() { f(ctx, info) })
	}
}

// storeDown tells that the breaker of the store has opened.
func (e *events) storeDown(err error) {
	if f := e.observer.StoreDown; f != nil {
		e.tell(func() { f(err) })
	}
}

// storeUp tells that the breaker of the store has closed.
func (e *events) storeUp(after time.Duration) {
	if f := e.observer.StoreUp; f != nil {
		e.tell(func() { f(after) })
	}
}

// tell has the observer told of an event when it was told of those before.
func (e *events) tell(event func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) >= maxUntold {
		e.stats.EventsLost++
		return
	}
	e.queue = append(e.queue, event)
	if e.idle == nil {
		e.idle = make(chan struct{})
		go e.run()
	}
}

// run tells the events until there are none. An observer that panics, or ends the goroutine, is
// told of the next event by another one.
func (e *events) run() {
	over := false
	defer func() {
		if recover() != nil {
			// The panic's value may quote a secret; the stack does not.
			e.log.log(context.Background(), slog.LevelError, "", "the observer panicked",
				"stack", string(debug.Stack()))
		}
		if !over {
			go e.run()
		}
	}()
	for event := e.next(); event != nil; event = e.next() {
		event()
	}
	over = true
}

// next returns the oldest event that is not told yet; nil: there is none, and run must end.
func (e *events) next() func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		close(e.idle)
		e.queue, e.idle = nil, nil
		return nil
	}
	event := e.queue[0]
	e.queue[0] = nil
	e.queue = e.queue[1:]
	return event
}

// flush waits a moment for the events to be told, and writes the lines that are left.
func (e *events) flush() {
	e.mu.Lock()
	idle := e.idle
	e.mu.Unlock()
	if idle != nil {
		patience := time.NewTimer(lastEventsPatience)
		defer patience.Stop()
		select {
		case <-idle:
		case <-patience.C:
		}
	}
	e.lines.flush()
}
