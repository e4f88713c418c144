package credentials

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"weak"
)

// lookout looks at the rows of the tokens that a process holds and uses, each at least once in
// [Options].Recheck, so that a token which was replaced, invalidated or deleted elsewhere is
// noticed and no caller waits for a look. The rows are divided into parts, which come up one after
// the other. The versions of a part's rows are read in one statement, on one connection, and a row
// is read again only if it has moved. So the number of statements depends on Recheck, and not on
// how many tokens the process holds.
type lookout struct {
	*engine

	mu      sync.Mutex
	parts   [lookParts][]weak.Pointer[slot] // guarded by mu
	running bool                            // guarded by mu: the goroutine lives
	wake    chan struct{}                   // capacity 1: a slot was enrolled
}

const (
	// lookParts is into how many parts the rows are divided: as many statements there are in a
	// round. A round takes three quarters of Recheck, so that a look may be late by the rest.
	lookParts = 32

	// lookFor is how long a token is looked at after it was last used. Later, its next caller waits
	// for a read.
	lookFor = 10 * time.Minute

	// readAnyway: every so many looks, a row is read though its version has not moved, for a
	// fail-over may forget writes and have versions come again.
	readAnyway = 16
)

func newLookout(e *engine) *lookout { return &lookout{engine: e, wake: make(chan struct{}, 1)} }

// enroll has the slot's row looked at while its token is held and used. Each slot has a part of its
// own, by chance, so that rows that were read together are not looked at together.
func (l *lookout) enroll(s *slot) {
	if s.enrolled.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running && !l.begin() || s.enrolled.Swap(true) {
		return
	}
	part := &l.parts[rand.N(lookParts)]
	*part = append(*part, weak.Make(s))
	s.usedAt = l.now()
	if !l.running {
		l.running = true
		go l.run()
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run visits the parts one after the other until there is nothing to look at.
func (l *lookout) run() {
	defer l.inflight.Done()
	step := max(l.opts.Recheck*3/4/lookParts, 1)
	for at := int64(l.now()) / int64(step); ; {
		next, ok := l.following(at)
		if !ok {
			return
		}
		pause := time.NewTimer(l.until(moment(next * int64(step))))
		select {
		case <-pause.C:
			// After a pause, the parts that were missed come up in one statement.
			now := max(int64(l.now())/int64(step), next)
			l.look(next, min(now, at+lookParts))
			at = now
		case <-l.wake:
			pause.Stop()
		case <-l.closing:
			pause.Stop()
			return
		}
	}
}

// following returns the next step after that one whose part has something to look at; false, and
// the goroutine must end, if there is none.
func (l *lookout) following(at int64) (next int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for next = at + 1; next <= at+lookParts; next++ {
		if len(l.parts[next%lookParts]) > 0 {
			return next, true
		}
	}
	l.running = false
	return 0, false
}

// sighting is a slot at a look, with the token that it held before.
type sighting struct {
	slot *slot
	held *snapshot
}

// look looks at the rows of the parts of these steps.
func (l *lookout) look(first, last int64) {
	var all []sighting
	for step := first; step <= last; step++ {
		all = append(all, l.take(int(step%lookParts))...)
	}
	if len(all) == 0 {
		return // a call about nothing says nothing of the store
	}
	moved, err := l.versions(all)
	for some := range slices.Chunk(moved, maxJoined) {
		err = errors.Join(err, l.readAgain(some))
	}
	if err != nil && l.health.answers() {
		l.log.warn(l.open, "", "a look at the tokens that are held failed",
			"tokens", len(all), "error", err)
	}
}

// versions returns those whose row has moved, or is to be read anyway.
func (l *lookout) versions(all []sighting) (moved []sighting, err error) {
	rows := make(map[uint64]Key, len(all))
	for _, a := range all {
		rows[a.held.token.id.Row] = a.slot.key
	}
	asked := l.now()
	versions, err := l.store.Versions(l.open, rows)
	if err != nil {
		asked = l.now() // each waits for its next turn, so that a store that is back meets no herd
	}
	for _, a := range all {
		a.slot.looks++
		version, there := versions[a.held.token.id.Row]
		if err == nil && (!there || version != a.held.version || a.slot.looks%readAnyway == 0) {
			moved = append(moved, a)
			continue
		}
		a.slot.looked(asked)
	}
	return moved, err
}

// readAgain reads rows that have moved, and has their slots hold the tokens that stand there. A
// slot whose token was invalidated meanwhile is left to the refresh that follows on that.
func (l *lookout) readAgain(moved []sighting) error {
	keys := make([]Key, len(moved))
	for i, a := range moved {
		keys[i] = a.slot.key
	}
	var found []Found
	when, err := l.read(func() (_ Credential, err error) {
		found, err = l.getAll(l.open, keys)
		return Credential{}, err
	})
	for i, a := range moved {
		switch {
		case err != nil:
			a.slot.looked(l.now())
			continue
		case errors.Is(found[i].Err, ErrNotFound):
			a.slot.lookBy.Store(0) // the next caller's refresh has a claim confirm it
			continue
		case found[i].Err == nil:
			c := when
			c.Credential = found[i].Credential
			a.slot.held.CompareAndSwap(a.held, a.held.after(c, l.snapshot(c), l.clock))
		}
		a.slot.looked(when.at)
	}
	return err
}

// take returns the slots of a part whose tokens are held and used. The others leave the lookout.
func (l *lookout) take(part int) (seen []sighting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, all := l.now(), l.parts[part]
	kept := all[:0]
	for _, p := range all {
		s := p.Value()
		if s == nil {
			continue
		}
		if s.used.Swap(false) {
			s.usedAt = now
		}
		held := s.valid()
		if held == nil || now.sub(s.usedAt) > lookFor {
			s.enrolled.Store(false)
			continue
		}
		kept, seen = append(kept, p), append(seen, sighting{s, held})
	}
	clear(all[len(kept):])
	l.parts[part] = kept
	return seen
}
