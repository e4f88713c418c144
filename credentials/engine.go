package credentials

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// maxBackgroundCalls caps the store calls that no caller waits for: the batches of the keeper over
// all services, and the recovery of lost claims. However many there are, they cannot exhaust the
// host's pool.
const maxBackgroundCalls = 4

// engine has the parts that all others of a manager work with. Each call of its store ends within
// StoreTimeout.
type engine struct {
	clock
	store    *boundedStore
	health   *health
	services ServiceFinder
	opts     Options
	log      *boundedLog
	events   *events
	poller   poller
	reads    joint
	claims   joint
	confirms joint // claims that show whether a plain read is up to date
	lost     lostClaims

	background semaphore // of maxBackgroundCalls

	mu       sync.Mutex // held where Close begins, and guards inflight.Add against that
	inflight sync.WaitGroup
	open     context.Context // ends when Close begins
	shut     context.CancelFunc
	closing  <-chan struct{} // closed then

	ctx    context.Context // ends when Close stops waiting
	cancel context.CancelFunc
}

func newEngine(store Store, services ServiceFinder, o Options) *engine {
	e := &engine{clock: clock{epoch: time.Now()}, services: services, opts: o}
	e.log = &boundedLog{logger: o.Logger}
	e.events = newEvents(&e.opts, e.log)
	e.health = newHealth(e.clock, &e.opts, e.events)
	e.store = &boundedStore{store: store, timeout: o.StoreTimeout, health: e.health, events: e.events, log: o.Logger}
	e.reads, e.claims, e.confirms = newJoint(e.clock), newJoint(e.clock), newJoint(e.clock)
	e.background = make(semaphore, maxBackgroundCalls)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.open, e.shut = context.WithCancel(e.ctx)
	e.closing = e.open.Done()
	e.poller = poller{
		clock: e.clock, store: e.store, grace: o.grace(), open: e.open, inflight: &e.inflight,
		wake: make(chan struct{}, 1),
	}
	return e
}

// holder names this process in the store; "" in a manager that was not made with NewManager.
func (e *engine) holder() string {
	if e == nil {
		return ""
	}
	return e.opts.Holder
}

// begin reports whether something may be started that Close waits for; inflight.Done ends it.
func (e *engine) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isClosing() {
		return false
	}
	e.inflight.Add(1)
	return true
}

func (e *engine) isClosing() bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}

// pause waits before a call of the store is tried again. The pause grows with the number of tries
// up to most, and ends early when any call of the store is answered again; an eighth of the pause
// passes in any case, since on a store that answers reads and refuses writes, the waiting writes
// would wake each other without end. pause returns false if Close has stopped waiting.
func (e *engine) pause(attempt int, most time.Duration) bool {
	pause, returns := storePause(attempt, most), e.health.returns()
	least, whole := time.NewTimer(pause/8), time.NewTimer(pause)
	defer least.Stop()
	defer whole.Stop()
	select {
	case <-least.C:
	case <-e.ctx.Done():
		return false
	}
	select {
	case <-whole.C:
	case <-returns:
	case <-e.ctx.Done():
		return false
	}
	return true
}

// wait returns after d, or before that when wake is closed. Its error: the cause of ctx's end, or
// ErrClosed once Close has begun.
func (e *engine) wait(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case e.isClosing():
		return ErrClosed
	case d <= 0:
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.closing:
		return ErrClosed
	}
	return nil
}

// findService asks the finder, which is foreign code, for a service's policy.
func (e *engine) findService(ctx context.Context, name string) (service Service, err error) {
	limited, cancel := context.WithTimeout(ctx, e.opts.StoreTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			// The panic's value may quote a secret; the stack does not.
			e.log.log(ctx, slog.LevelError, name, "the finder of services panicked",
				"stack", string(debug.Stack()))
			err = fmt.Errorf("service %q: its finder panicked with a %T", name, p)
		}
	}()
	service, err = e.services.Service(limited, name)
	return service, inner(ctx, err)
}
