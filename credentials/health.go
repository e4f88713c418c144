package credentials

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// health is all that a manager knows of its store from the outcomes of calls: one breaker for the
// calls, one signal for the writes that wait, and since when every call has been answered.
//
// A store that fails is not asked by every caller anew: the breaker opens, and one call at a time
// probes the store. An error about one row, one that somebody has locked included, is an answer and
// no failure.
type health struct {
	clock
	grace  time.Duration // see Options.grace
	maxGap time.Duration // between two answers; a longer silence is no evidence of a steady store
	events *events

	mu       sync.Mutex
	steadyAt moment // since when every call has been answered; never: the last one was not
	answered moment // when the last answer came
	failedAt moment // when the last failure came; never: none did
	unread   bool   // a read has failed, and none was answered since
	unsaved  bool   // the same of writes
	open     bool   // the breaker is
	opened   moment // when it did
	failures int    // in a row, of those that count for the breaker
	probing  bool   // a call is on its way though the breaker is open
	probeAt  moment // when the next may be
	cause    error  // of the last failure

	back chan struct{} // closed, and replaced, when an answer comes after a failure
}

func newHealth(c clock, o *Options, events *events) *health {
	return &health{
		clock: c, grace: o.grace(), maxGap: o.Lease, events: events,
		steadyAt: never, failedAt: never, back: make(chan struct{}),
	}
}

// kind tells the calls that read, and wait for no row's lock, from those that write.
type kind bool

const (
	reads  kind = true
	writes kind = false
)

// errNotAsked: the breaker is open, and the store was not asked. Nothing happened there.
var errNotAsked = errors.New("not asked, since it did not answer a moment ago")

// enter returns whether the call is a probe, or why it must not be made now.
func (h *health) enter() (probe bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.open:
		return false, nil
	case h.probing || h.now() < h.probeAt:
		return false, fmt.Errorf("%w: %w: %w", ErrUnavailable, errNotAsked, h.cause)
	}
	h.probing = true
	return true, nil
}

// left ends a probe of which nothing was learned, since its caller gave it up.
func (h *health) left(probe bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probing = h.probing && !probe
}

// succeeded notes that the store answered, and reports whether the breaker closes by that. A store
// may answer reads and no writes; a write that is answered speaks for both.
func (h *health) succeeded(probe bool, k kind) (closes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if h.steadyAt == never || now.sub(h.answered) > h.maxGap {
		h.steadyAt = now
	}
	h.answered = now
	h.probing = h.probing && !probe
	if closes = h.open; closes {
		h.open, h.failures = false, 0
		h.events.storeUp(now.sub(h.opened))
	}
	back := h.unread || h.unsaved && k == writes
	h.unread, h.unsaved = false, h.unsaved && k == reads
	if back {
		close(h.back)
		h.back = make(chan struct{})
	}
	return closes
}

// failed notes that a call which began at that time was not answered, and reports whether the
// breaker opens by that. The breaker opens only for a read: a write may wait for a trouble of one
// row alone. A call that began before the last answer came says nothing new.
func (h *health) failed(probe bool, k kind, began moment, cause error) (opens bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steadyAt, h.failedAt, h.cause = never, h.now(), cause
	h.unread, h.unsaved = h.unread || k == reads, h.unsaved || k == writes
	h.probing = h.probing && !probe
	if !probe && (h.open || k == writes || h.answered > began) {
		return false
	}
	h.probeAt = max(began.add(storePause(h.failures, maxStorePause)), h.now())
	h.failures++
	if opens = !h.open; opens {
		h.open, h.opened = true, h.now()
		h.events.storeDown(cause)
	}
	return opens
}

// steady reports whether the store has answered this process without a failure for the grace.
func (h *health) steady() bool { return h.now() >= h.steadyFrom() }

// steadyFrom returns when the store will have answered without a failure for the grace, if it goes
// on; never: it fails.
func (h *health) steadyFrom() moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.steadyAt.add(h.grace)
}

// answers reports whether the breaker is closed.
func (h *health) answers() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.open
}

// answeredSince reports whether no call has failed since that time.
func (h *health) answeredSince(at moment) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failedAt == never || h.failedAt < at
}

// returns is closed at the next answer to a call of a kind that failed before.
func (h *health) returns() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.back
}

// why returns the last failure.
func (h *health) why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cause
}

// awayFor returns the last failure if the breaker has been open for so long; nil: wait on.
func (h *health) awayFor(long time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open || h.since(h.opened) < long {
		return nil
	}
	return h.cause
}
