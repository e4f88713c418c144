package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// worker has the bounds and the figures of one service's exchanges, so that services do not wait
// for each other. A pass does the work.
type worker struct {
	*engine
	sources  *cache // of the manager
	defaults KeeperOptions
	name     string // the service's

	passes int    // under way; guarded by Keeper.mu
	seenAt moment // when the store had something of the service last; guarded by Keeper.mu

	mu       sync.Mutex // guards the fields below; no foreign code is called under it
	keeping  bool       // a pass of Run is under way
	limit    limiter
	provider breaker
	saves    breaker // of the storing of results
	backlog  backlog
	total    KeeperStats
	changed  chan struct{} // closed, and replaced, when an exchange may begin that could not
}

// beginKeeping reports whether Run may begin a pass, which it does one at a time, and whether it
// catches up with a backlog.
func (w *worker) beginKeeping() (begins, catchingUp bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	begins = !w.keeping
	w.keeping = true
	return begins, w.backlog.moving(w.now())
}

func (w *worker) endKeeping() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keeping = false
}

// nothingDue notes that nothing of the service is due, whether this process knows the service or
// not.
func (w *worker) nothingDue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total.UnknownService = false
}

func (w *worker) stats() KeeperStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	stats := w.total
	w.standing(&stats)
	return stats
}

// standing says in the figures how the provider stands. w.mu is held.
func (w *worker) standing(stats *KeeperStats) {
	stats.MassDeath = w.provider.massDeath()
	stats.ProviderDown = w.provider.open && !stats.MassDeath
}

// wake lets those look who wait for an exchange to begin. w.mu is held.
func (w *worker) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// admission is the worker's answer to a pass that wants exchanges to begin.
type admission struct {
	n       int             // exchanges that may begin, whose permits are taken
	probe   bool            // the one that may begin is a breaker's probe
	wait    time.Duration   // how long to wait if n is 0, unless changed is closed before
	changed <-chan struct{} // closed when the answer may be another
	over    bool            // the pass need not wait
}

// admit takes permits for exchanges of the service if some are to be had. A pass that goes once
// does not wait while the provider is down; one that has begun exchanges ends where it must be
// found out where the backlog begins.
func (w *worker) admit(service Service, once, hasBegun bool) admission {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.limit.parallel = cmp.Or(service.KeepParallel, w.defaults.Parallel)
	w.limit.rate = cmp.Or(service.KeepRate, w.defaults.Rate)
	if !once && hasBegun && w.backlog.unread() {
		return admission{over: true}
	}
	n, wait := w.limit.available(now)
	for _, b := range []*breaker{&w.provider, &w.saves} {
		if n > 0 {
			n, wait = b.allows(n, w.limit.inUse, now)
		}
	}
	if n == 0 {
		down := w.provider.open || w.saves.open
		return admission{wait: wait, changed: w.changed, over: once && down && w.limit.inUse == 0}
	}
	w.limit.acquire(n, now)
	return admission{n: n, probe: w.provider.open || w.saves.open}
}

// claimed gives back the permits for which a claim found nothing.
func (w *worker) claimed(unused int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit.claimed(unused, w.now())
	w.wake()
}

// vacate gives back the permit of an exchange.
func (w *worker) vacate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit.release()
	w.wake()
}

// windows returns the windows that may be claimed now, the most urgent first, given when the first
// of all due credentials became due.
func (w *worker) windows(first moment) []window {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backlog.windows(first, w.now())
}

// stalled counts a result that could not be stored for long, unless that is for a lock on its row,
// which says nothing of other rows.
func (w *worker) stalled(err error, probe bool) {
	if errors.Is(err, ErrRowLocked) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saves.failed(setback{now: w.now(), probe: probe, costly: true})
}

// stored notes that a result could be stored.
func (w *worker) stored() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saves.succeeded()
	w.wake()
}

// judge tells the breaker the provider's answer, before that is stored. A death that is not
// believed becomes a transient failure: the row is not marked, and is presented again after its
// back-off, which is no longer while the token lives, since it was not too early.
func (w *worker) judge(ctx context.Context, x *exchange, probe bool) {
	v := w.count(x, probe)
	if v.disbelieved {
		told := *x.answer.err.refusal()
		told.Class, told.RetryAt = ClassTransient, time.Now()
		told.Reason = fmt.Sprintf("taken for an incident, since %d other accounts were declared dead in a row: %s",
			massDeath, told.Reason)
		x.answer.err = &told
	}
	switch {
	case v.closed:
		w.log.log(ctx, slog.LevelInfo, w.name, "keeper: the provider is back")
	case v.massDeath != nil:
		w.log.log(ctx, slog.LevelError, w.name,
			"keeper: the provider declared several accounts dead in a row, which is taken for an incident; "+
				"until one succeeds, no more are marked and one exchange at a time is tried",
			"accounts", v.massDeath)
	case v.opened:
		w.log.warn(ctx, w.name, "keeper: the provider is taken for down; one exchange at a time is tried")
	}
}

// verdict is the breaker's on an answer.
type verdict struct {
	closed, opened bool     // the breaker, by this answer
	massDeath      []string // the accounts that were declared dead in a row, where this made it an incident
	disbelieved    bool
}

// count counts the answer, and lets those look who wait for the breaker to close.
func (w *worker) count(x *exchange, probe bool) (v verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	refused, account := x.answer.err, x.claimed.Key.Account
	f := setback{now: w.now(), probe: probe, known: x.claimed.Failure.Count > 0}
	switch {
	case refused == nil:
		if v.closed = w.provider.succeeded(); v.closed {
			w.backlog.closes(f.now)
			w.wake()
		}
	case refused.Class == ClassDead:
		wasOpen := w.provider.open
		believed, begins := w.provider.died(account, f)
		v.disbelieved, v.opened = !believed, w.provider.open && !wasOpen
		if begins {
			v.massDeath = slices.Clone(w.provider.dead)
		}
	default:
		if !refused.RetryAt.IsZero() {
			f.wait = time.Until(refused.RetryAt)
		}
		f.costly = refused.Class == ClassUnknown && x.service.Replay == NeverReplay
		v.opened = w.provider.failed(f)
	}
	if v.opened {
		w.backlog.opens(f.now)
	}
	return v
}
