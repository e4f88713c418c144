package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses between two looks at what is due. One look costs a statement.
const (
	leastKeepPause   = time.Second
	mostKeepPause    = 10 * time.Second // it bounds how late a credential is seen that was put with a short life
	catchUpKeepPause = time.Second / 4  // the smaller, the more even the pace
)

// keepClaims is how many services' credentials the keeper claims at the same time: however many services there are, it
// does not take all of the host's connections.
const keepClaims = 4

// Kept is what the keeper did for one service.
type Kept struct {
	Renewed  int // exchanges that brought a token, which is stored
	Failed   int // exchanges that failed, to be tried again when the back-off in the row is over
	Rejected int // grants that the provider declared dead

	Exchanging int  // exchanges under way, or whose result is not stored yet
	Down       bool // the provider is taken for down, and one exchange is tried at a time
	Unknown    bool // credentials are due, but this process does not know the service, so they are left for those that do
}

// keeper has a lane for each service, which is made when something of it is due for the first time.
type keeper struct {
	claims chan struct{} // of capacity keepClaims; holds one for each that is under way

	mu    sync.Mutex
	lanes map[string]*lane // guarded by mu
}

// lane returns the service's.
func (m *Manager) lane(service string) *lane {
	k := &m.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.lanes[service]
	if !ok {
		if k.lanes == nil {
			k.lanes = make(map[string]*lane)
		}
		l = &lane{m: m, name: service, freed: make(chan struct{})}
		k.lanes[service] = l
	}
	return l
}

// Keep renews credentials when they become due, asked for or not, until ctx ends or the manager is closed, and returns
// the cause: it never returns nil. Any number of processes may run it; the rows decide between them, and what one cannot
// do (a service it does not know, a provider it does not reach) is left for the others. What goes wrong is logged,
// counted in [Manager.Kept], and tried again.
//
// Services do not wait for each other; see [Service] for what bounds the exchanges of one. A provider that fails five
// times in a row is taken for down and tried with one exchange at a time, after growing pauses or when it said; under
// [NeverReplay] after long ones where it does not answer, since each such exchange ends a grant. When it is back, what
// becomes due is renewed at once, and beside it what became due meanwhile, little by little: so that it gets less than
// twice the exchanges that it had, or more where that would take longer than half an hour. A process that was started
// later knows of no backlog, and takes up what it finds; KeepRate bounds that.
//
// Tokens that live for less than some ten seconds are left to those who ask for them.
func (m *Manager) Keep(ctx context.Context) error {
	for failures := 0; ; {
		pause := mostKeepPause
		at := m.now()
		due, err := m.dueServices(ctx)
		if err != nil {
			pause = backOff(leastKeepPause, mostKeepPause, failures)
			failures++
			if ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				m.opts.Logger.WarnContext(ctx, "keeper: what is due could not be read", "error", err)
			}
		} else {
			failures = 0
		}
		for name, dueIn := range due {
			if dueIn > 0 {
				pause = min(pause, max(dueIn, leastKeepPause))
				continue
			}
			pause = min(pause, leastKeepPause)
			l := m.lane(name)
			if l.behind() {
				pause = min(pause, catchUpKeepPause)
			}
			if l.enter() {
				go func() {
					defer l.leave()
					if _, err := l.run(ctx, at+dueIn, false); err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
						m.opts.Logger.WarnContext(ctx, "keeper: what is due could not be claimed", "service", name, "error", err)
					}
				}()
			}
		}
		next := time.NewTimer(pause*3/4 + rand.N(pause/2))
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return context.Cause(ctx)
		case <-m.closing:
			next.Stop()
			return ErrClosed
		}
	}
}

// RefreshDue is one pass of [Manager.Keep], for a cron job: it renews what is due now, waits for the exchanges to end
// and returns what they came to, for each service of which something was due. A provider that is down is left for the
// next pass. A result that cannot be stored for longer than StoreTimeout is not waited for, and counted in Exchanging.
//
// The error joins those of the store, service by service; that of ctx; [ErrClosed]. Exchanges that failed are counted
// and logged. Exchanges that are under way when ctx ends go on; [Manager.Close] waits for them.
func (m *Manager) RefreshDue(ctx context.Context) (map[string]Kept, error) {
	at := m.now()
	due, err := m.dueServices(ctx)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]Kept)
	var mu sync.Mutex // guards kept and err
	var passes sync.WaitGroup
	for name, dueIn := range due {
		if dueIn > 0 {
			continue
		}
		passes.Go(func() {
			k, passErr := m.lane(name).run(ctx, at+dueIn, true)
			mu.Lock()
			defer mu.Unlock()
			kept[name] = k
			if passErr != nil {
				err = errors.Join(err, fmt.Errorf("service %q: %w", name, passErr))
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		passes.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return kept, err
	case <-ctx.Done():
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(kept), context.Cause(ctx)
	}
}

// Kept returns what Keep and RefreshDue have done in this process so far, for each service that something was due of.
func (m *Manager) Kept() map[string]Kept {
	m.keeper.mu.Lock()
	lanes := maps.Clone(m.keeper.lanes)
	m.keeper.mu.Unlock()
	kept := make(map[string]Kept, len(lanes))
	for name, l := range lanes {
		kept[name] = l.sum()
	}
	return kept
}

func (m *Manager) dueServices(ctx context.Context) (map[string]time.Duration, error) {
	if m.isClosing() {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, m.opts.StoreTimeout)
	defer cancel()
	due, err := m.store.DueServices(ctx)
	if err != nil {
		return nil, fmt.Errorf("what is due: %w", err)
	}
	return due, nil
}
