package credentials

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// poller watches the rows that another process may renew: those whose lease it holds, and those that it may take the
// lease of at any time. It asks for all of a manager's in one statement, so that the load on the store depends on the
// number of processes and not on that of callers or credentials. Its goroutine lives while there is something to watch.
type poller struct {
	store   Store
	timeout time.Duration        // of one statement
	now     func() time.Duration // the manager's
	wake    chan struct{}        // capacity 1: the watches have changed

	mu      sync.Mutex
	watches map[*watch]struct{} // guarded by mu
	running bool                // guarded by mu: the goroutine lives
}

// watch is a row that somebody waits for.
type watch struct {
	row, version uint64
	moved        chan struct{} // closed when the version is no longer that, or the row is gone

	began    time.Duration // when it was claimed
	expected time.Duration // when the exchange should have ended; its beginning, if nobody knows how long they take
	least    time.Duration // between two looks
	next     time.Duration // when to look
}

// Pauses between two looks at a row: a fixed part of the time that the exchange has lasted, or is late, so that a waiter
// learns of its end 3 % late, at a number of looks that grows with the logarithm of the time.
const (
	pausePart  = 32
	leastPause = 4 * time.Millisecond
	mostPause  = 250 * time.Millisecond // also where nobody waits: the token that is served may end with the exchange

	idlePause = 100 * time.Millisecond // the least, where no exchange has begun

	firstLook = 50 * time.Millisecond
)

func (w *watch) pause(now time.Duration) time.Duration {
	pause := min(max((now-w.expected)/pausePart, w.least), mostPause)
	return pause*3/4 + rand.N(pause/2)
}

// after returns when to look next. Before the exchange should have ended, that is each time it has lasted twice as long:
// the last one may have been slow, and this one need not be.
func (w *watch) after(now time.Duration) time.Duration {
	if now < w.expected {
		return min(w.expected+w.pause(now), now+min(max(now-w.began, firstLook), mostPause))
	}
	return now + w.pause(now)
}

// watch begins to watch the row of c, which was read at that time. Its version at that reading is the one that must
// move.
func (p *poller) watch(c Credential, at time.Duration) *watch {
	now := p.now()
	w := &watch{row: c.Row, version: c.Version, moved: make(chan struct{})}
	w.began, w.expected = at, at
	w.least = idlePause
	if c.Lease.Live() {
		w.began = at - c.Lease.Age
		w.expected = w.began + c.Refreshed.Took
		w.least = leastPause
	}
	w.next = w.after(now)

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watches == nil {
		p.watches = make(map[*watch]struct{})
	}
	p.watches[w] = struct{}{}
	if !p.running {
		p.running = true
		go p.run()
	}
	p.changed()
	return w
}

// leave ends a watch, whether it has moved or not.
func (p *poller) leave(w *watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watches, w)
	p.changed()
}

func (p *poller) changed() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (p *poller) run() {
	for {
		next, ok := p.earliest()
		if !ok {
			return
		}
		pause := time.NewTimer(next - p.now())
		select {
		case <-pause.C:
			p.look()
		case <-p.wake:
			pause.Stop()
		}
	}
}

// earliest returns when to look next; false, and the goroutine must end, if there is nothing to watch.
func (p *poller) earliest() (next time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = Never
	for w := range p.watches {
		next = min(next, w.next)
	}
	p.running = len(p.watches) > 0
	return next, p.running
}

// look asks for all rows that are due, or nearly so.
func (p *poller) look() {
	now := p.now()
	var due []*watch
	var rows []uint64
	p.mu.Lock()
	for w := range p.watches {
		if w.next <= now+w.pause(now)/2 {
			due = append(due, w)
			rows = append(rows, w.row)
		}
	}
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	versions, err := p.store.Versions(ctx, rows)

	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range due {
		// After an error nobody knows; whoever waits finds out when the lease ends.
		if version, ok := versions[w.row]; err == nil && !(ok && version == w.version) {
			close(w.moved)
			delete(p.watches, w)
		} else {
			now := p.now()
			w.next = w.after(now)
		}
	}
}
