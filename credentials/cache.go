package credentials

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unique"
	"weak"
)

// cache finds the Source of each key. A Source that the program or the goroutine of a refresh holds
// is always found again: a second one beside it would split its callers. Of the others, a CLOCK
// (second-chance) cache keeps the last used ones, up to size; the rest are left to the garbage
// collector, their tokens with them.
type cache struct {
	size    int
	lookout *lookout // of the manager
	entries sync.Map // of unique.Handle[Key] to *entry: a lookup neither locks nor allocates

	mu   sync.Mutex // held where a Source is made or comes back; guards the fields below
	ring []*entry   // the entries whose Source is kept alive: at most size
	hand int        // the clock hand: where in the ring the next one to make room is looked for
}

// entry leads to a Source and, while the entry is in the ring, keeps it alive.
type entry struct {
	kept   atomic.Pointer[Source] // nil unless in the ring; changed under cache.mu
	source weak.Pointer[Source]
	used   atomic.Bool // since the hand was here last
}

// get returns the Source of a normalized key, for use by the program, or nil if there is none in
// the ring.
func (c *cache) get(key unique.Handle[Key]) *Source {
	found, ok := c.entries.Load(key)
	if !ok {
		return nil
	}
	e := found.(*entry)
	source := e.kept.Load()
	// Once the bit is set, callers only read: no cache line goes to and fro.
	if source != nil && !e.used.Load() {
		e.used.Store(true)
	}
	return source
}

// peek returns the Source of a normalized key if it is still alive, else nil. It counts as no use.
func (c *cache) peek(key Key) *Source {
	found, ok := c.entries.Load(unique.Make(key))
	if !ok {
		return nil
	}
	return found.(*entry).source.Value()
}

// admit returns the Source of a normalized key, the living one or else a new one, and has it kept
// alive.
func (c *cache) admit(key unique.Handle[Key], e *engine) *Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.entries.Load(key); ok {
		living := found.(*entry)
		if source := living.source.Value(); source != nil {
			if living.kept.Load() == nil {
				c.keep(living, source)
			}
			return source
		}
	}
	source := &Source{slot: slot{engine: e, key: key.Value()}, lookout: c.lookout}
	made := &entry{source: weak.Make(source)}
	c.keep(made, source)
	// This overwrites the entry of a collected Source whose cleanup has not run yet.
	c.entries.Store(key, made)
	c.forgetWhenCollected(key, made.source, source)
	return source
}

// keep puts an entry into the ring, in the place of another where the ring is full.
func (c *cache) keep(e *entry, source *Source) {
	if len(c.ring) < c.size {
		c.ring = append(c.ring, e)
	} else {
		c.advance()
		c.ring[c.hand].kept.Store(nil)
		c.ring[c.hand] = e
		c.hand = (c.hand + 1) % len(c.ring)
	}
	// A key that is asked for once goes before those that are asked for again and again.
	e.used.Store(false)
	e.kept.Store(source)
}

// maxSpared is how many busy Sources are passed over in the search for one that may go, so that it
// stays short.
const maxSpared = 64

// advance moves the hand to the entry that has to go: one that was not used since the hand was
// there last, and is not busy.
func (c *cache) advance() {
	for spared := 0; ; c.hand = (c.hand + 1) % len(c.ring) {
		e := c.ring[c.hand]
		switch {
		case e.used.Swap(false):
		case spared < maxSpared && e.kept.Load().busy():
			spared++
		default:
			return
		}
	}
}

// forgetWhenCollected takes the entry out of the map once its Source was collected. A value that
// the cleanup holds is never collected before the Source, so no such value may lead to a Source:
// neither the entry nor, but weakly, the cache.
func (c *cache) forgetWhenCollected(
	key unique.Handle[Key], collected weak.Pointer[Source], source *Source,
) {
	owner := weak.Make(c)
	runtime.AddCleanup(source, func(collected weak.Pointer[Source]) {
		c := owner.Value()
		if c == nil {
			return
		}
		if found, ok := c.entries.Load(key); ok && found.(*entry).source == collected {
			c.entries.CompareAndDelete(key, found)
		}
	}, collected)
}

// kept returns how many Sources the ring keeps.
func (c *cache) kept() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ring)
}

// busy reports whether a call of the Source is under way. A Source without one can be read from the
// store again.
func (s *Source) busy() bool {
	if !s.slot.mu.TryLock() {
		return true
	}
	defer s.slot.mu.Unlock()
	return s.slot.call != nil
}
