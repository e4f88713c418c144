package credentials

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// poller watches the rows that another process may renew: those whose lease it holds, and those
// that it may take the lease of at any time. It asks for all of a manager's in one statement, so
// that the load on the store depends on the number of processes and not on that of callers or
// credentials. Its goroutine lives while there is something to watch.
type poller struct {
	clock
	store    *boundedStore
	grace    time.Duration   // see Options.grace
	open     context.Context // ends when Close begins
	inflight *sync.WaitGroup // the manager's
	wake     chan struct{}   // capacity 1: the watches have changed

	mu      sync.Mutex
	watches map[*watch]struct{} // guarded by mu
	running bool                // guarded by mu: the goroutine lives
}

// watch is a row that a refresh or an exchange waits for.
type watch struct {
	poller       *poller
	key          Key
	row, version uint64
	moved        chan struct{} // closed when the version is no longer that, or the row is gone
	now          uint64        // the version that was seen then; zero: the row was gone
	watched      watched       // guarded by poller.mu: how the row was looked at

	began    moment        // when it was claimed
	expected moment        // when the exchange should have ended; its beginning, if that is unknown
	floor    time.Duration // the shortest pause between two looks
	next     moment        // when to look
}

// watched is a stretch of time in which a row was looked at again and again.
type watched struct{ first, last moment }

// answer notes an answer about the row; one that comes after a longer silence begins anew.
func (w *watched) answer(now moment, silence time.Duration) {
	if now.sub(w.last) > silence {
		w.first = now
	}
	w.last = max(w.last, now)
}

// Poll interval: 1/32 of the time since the expected end, between 4 ms and 250 ms. A waiter learns
// of the end at most about 3 % late, with O(log t) polls.
const (
	pausePart = 32
	minPause  = 4 * time.Millisecond
	maxPause  = 250 * time.Millisecond // also where no caller waits: the exchange may end the old token

	idlePause = 100 * time.Millisecond // the least, where no exchange has begun

	firstLook = 50 * time.Millisecond
)

func (w *watch) pause(now moment) time.Duration {
	pause := min(max(now.sub(w.expected)/pausePart, w.floor), maxPause)
	return pause*3/4 + rand.N(pause/2)
}

// after returns when to look next. Before the exchange should have ended, that is each time it has
// lasted twice as long: the last one may have been slow, and this one need not be.
func (w *watch) after(now moment) moment {
	if now < w.expected {
		again := now.add(min(max(now.sub(w.began), firstLook), maxPause))
		return min(w.expected.add(w.pause(now)), again)
	}
	return now.add(w.pause(now))
}

// watch begins to watch the row of c, whose version must move. The row was looked at before.
func (p *poller) watch(c reading, before watched) *watch {
	now, at := p.now(), c.at
	w := &watch{
		poller: p, key: c.Key, row: c.Row, version: c.Version, moved: make(chan struct{}), watched: before,
	}
	w.began, w.expected = at, at
	w.floor = idlePause
	if c.Lease.Live() {
		w.began = at.add(-c.Lease.Age)
		w.expected = w.began.add(c.Refreshed.Took)
		w.floor = minPause
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
		p.inflight.Go(p.run) // a watcher is in flight too, so Close is not past waiting
	}
	p.changed()
	return w
}

// seen returns how the row was looked at so far.
func (w *watch) seen() watched {
	w.poller.mu.Lock()
	defer w.poller.mu.Unlock()
	return w.watched
}

// wait waits until the row has moved, d is over, or wanted is closed. Its error is ErrClosed once
// Close has begun.
func (w *watch) wait(d time.Duration, wanted <-chan struct{}) (moved bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.moved:
		return true, nil
	case <-timer.C:
	case <-wanted:
	case <-w.poller.open.Done():
		return false, ErrClosed
	}
	return false, nil
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
		pause := time.NewTimer(p.until(next))
		select {
		case <-pause.C:
			p.look()
		case <-p.wake:
			pause.Stop()
		}
	}
}

// earliest returns when to look next; false, and the goroutine must end, if there is nothing to
// watch.
func (p *poller) earliest() (next moment, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = never
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
	rows := make(map[uint64]Key)
	p.mu.Lock()
	for w := range p.watches {
		if w.next <= now.add(w.pause(now)/2) {
			due = append(due, w)
			rows[w.row] = w.key
		}
	}
	p.mu.Unlock()

	versions, err := p.store.Versions(p.open, rows)

	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range due {
		now := p.now()
		version, ok := versions[w.row]
		switch {
		case err != nil: // nobody knows
			w.next = w.after(now)
		case ok && version == w.version:
			w.watched.answer(now, p.grace)
			w.next = w.after(now)
		default:
			w.now = version
			close(w.moved)
			delete(p.watches, w)
		}
	}
}
