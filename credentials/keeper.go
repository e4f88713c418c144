package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Keeper renews credentials ahead of their expiry, asked for or not, so that callers never wait.
// Every process may run one: each claims a batch of rows that are due in one short transaction,
// passes over those that others have locked, and exchanges no more at a time than it claimed.
//
// Services do not wait for each other; see [Service] for the bounds of one. A provider that fails
// for five accounts in a row is taken for down and tried with one exchange at a time, after growing
// pauses or when it said; under [NeverReplay] after long ones where it does not answer, since each
// such exchange ends a grant. An account counts whose last exchange had succeeded, and a success of
// any account ends it: accounts that fail by themselves wait alone, as their rows say.
//
// When the provider is back, credentials that become due are renewed at once, and beside them those
// that became due meanwhile, little by little: so the provider gets less than twice the exchanges
// that it had, or more where that would take longer than half an hour, or where the outage was
// shorter than a minute. A process that was started later knows of no backlog, and takes up all
// that is due; a rate bounds that.
//
// Three accounts of a service that the provider declares dead in a row, with no success in between,
// are an incident, such as a wrong client that was deployed. The keeper says so at error level and
// tries one exchange at a time; until one succeeds, it marks no more grants, and takes each such
// answer for a transient failure. Those marked are revived with the store's Revive; see [Revival].
// Exchanges that callers wait for go on, and what the provider says of them is believed.
//
// A lease that ended with nothing saved is taken over when it ended a whole lease ago, by the
// store's clock, so that a living holder whose store was away has had the time to save.
//
// Tokens that live for less than some ten seconds are left to those who ask for them.
type Keeper struct {
	*engine
	sources  *cache // the manager's: its sources are given the renewed tokens
	defaults KeeperOptions

	mu      sync.Mutex         // guards the fields below; a worker's own mutex may be taken under it
	workers map[string]*worker // by service; a worker is made when something of the service is due
	gone    KeeperStats        // the figures of forgotten workers
}

// NewKeeper returns a keeper of the manager's credentials. It starts nothing, and ends when the
// manager is closed. A manager needs one: two have bounds of their own.
func NewKeeper(m *Manager, opts *KeeperOptions) (*Keeper, error) {
	var o KeeperOptions
	if opts != nil {
		o = *opts
	}
	if m == nil {
		return nil, errors.New("credentials.NewKeeper: manager is nil")
	}
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("credentials.NewKeeper: %w", err)
	}
	return &Keeper{
		engine: m.engine, sources: &m.sources, defaults: o, workers: make(map[string]*worker),
	}, nil
}

// Pauses between two reads of the due times. One read costs a statement.
const (
	minKeepPause     = time.Second
	maxKeepPause     = 10 * time.Second // bounds how late a put with a short life is seen
	catchUpKeepPause = time.Second / 4  // the smaller, the more even the pace
)

// Run renews credentials when they become due, until ctx ends or the manager is closed, and returns
// the cause: it never returns nil. Trouble is logged, counted in [Keeper.Stats], and tried again.
// Work that one process cannot do (a service that it does not know, a provider that it does not
// reach) is left for the others.
//
// A due credential of another deployment ends Run with an error that wraps [ErrOtherDeployment],
// which is logged, too: the process works on a copy of that deployment's table, or on the table
// itself, and other rows there may be that one's as well. Exchanges that are under way end.
func (k *Keeper) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for failures := 0; ; {
		at := k.now()
		due, err := k.dueServices(ctx)
		pause := maxKeepPause
		if err != nil {
			pause = backOff(minKeepPause, maxKeepPause, failures)
			failures++
			k.warnUnlessOver(ctx, err, "", "keeper: the due times could not be read")
		} else {
			failures = 0
			for service, dueIn := range due {
				pause = min(pause, k.keepService(ctx, stop, service, at.add(dueIn)))
			}
		}
		if err := k.wait(ctx, pause*3/4+rand.N(pause/2), nil); err != nil {
			return err
		}
	}
}

// keepService has the service's worker make a pass if its first credential is due by now, and
// returns the pause until the service should be looked at again. The pass calls stop if it meets
// another deployment's credential.
func (k *Keeper) keepService(
	ctx context.Context, stop context.CancelCauseFunc, service string, first moment,
) (pause time.Duration) {
	if dueIn := k.until(first); dueIn > 0 {
		return max(dueIn, minKeepPause)
	}
	w := k.hire(service)
	pause = minKeepPause
	begins, catchingUp := w.beginKeeping()
	if catchingUp {
		pause = catchUpKeepPause
	}
	if !begins {
		k.leave(w)
		return pause
	}
	go func() {
		defer k.leave(w)
		defer w.endKeeping()
		err := (&pass{worker: w, first: first, began: k.now()}).run(ctx)
		if errors.Is(err, ErrOtherDeployment) {
			k.log.log(ctx, slog.LevelError, service,
				"keeper: stopped, since the table has another deployment's credentials", "error", err)
			stop(err)
			return
		}
		k.warnUnlessOver(ctx, err, service, "keeper: due credentials could not be claimed")
	}()
	return pause
}

func (k *Keeper) warnUnlessOver(ctx context.Context, err error, service, text string) {
	if err != nil && ctx.Err() == nil && !k.isClosing() {
		k.log.warn(ctx, service, text, "error", err)
	}
}

// Stats returns what Run and RunOnce have done in this process so far, for each service of which
// something was due. Of services that have left the store, the last thousand are named; the figures
// of the others are added up under the empty name.
func (k *Keeper) Stats() map[string]KeeperStats {
	k.mu.Lock()
	workers, gone := maps.Clone(k.workers), k.gone
	k.mu.Unlock()
	stats := make(map[string]KeeperStats, len(workers)+1)
	for name, w := range workers {
		stats[name] = w.stats()
	}
	if gone != (KeeperStats{}) {
		stats[""] = gone
	}
	return stats
}

// dueServices asks the store when the first credential of each service is due, and tells the
// workers. Close waits for it.
func (k *Keeper) dueServices(ctx context.Context) (map[string]time.Duration, error) {
	if !k.begin() {
		return nil, ErrClosed
	}
	defer k.inflight.Done()
	asked := k.now()
	due, err := k.store.DueServices(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the due times: %w", err)
	}
	k.observe(due, asked)
	return due, nil
}

// hire returns the service's worker for one pass, which ends with leave.
func (k *Keeper) hire(service string) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, ok := k.workers[service]
	if !ok {
		w = &worker{
			engine: k.engine, sources: k.sources, defaults: k.defaults, name: service,
			changed: make(chan struct{}),
		}
		k.workers[service] = w
	}
	w.passes++
	return w
}

func (k *Keeper) leave(w *worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.passes--
}

// maxIdleWorkers is how many services that have left the store are remembered one by one.
const maxIdleWorkers = 1000

// observe tells the workers when the first credential of their services is due, and forgets the
// workers that have been without a credential for longest, where they are many: tenants come and
// go.
func (k *Keeper) observe(due map[string]time.Duration, asked moment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var idle []*worker
	for service, w := range k.workers {
		dueIn, ok := due[service]
		if ok {
			w.seenAt = asked
		}
		if !ok || dueIn > 0 {
			w.nothingDue()
		}
		if !ok && w.passes == 0 && w.stats().Exchanging == 0 {
			idle = append(idle, w)
		}
	}
	excess := len(idle) - maxIdleWorkers
	if excess <= 0 {
		return
	}
	slices.SortFunc(idle, func(a, b *worker) int { return cmp.Compare(a.seenAt, b.seenAt) })
	for _, w := range idle[:excess] {
		sum := w.stats()
		sum.ProviderDown, sum.MassDeath, sum.UnknownService = false, false, false
		k.gone = k.gone.plus(sum)
		delete(k.workers, w.name)
	}
}

// Format implements [fmt.Formatter]: no verb shows more than the holder's name. The fields lead
// to the client secrets of the program's refreshers.
func (k *Keeper) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "credentials.Keeper of "+k.holder())
}
