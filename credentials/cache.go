package credentials

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unique"
	"weak"
)

// cache finds the Source of each key. A Source that anybody holds, the program or the goroutine of a flight, is always
// found again: a second one beside it would split its callers. Of the others the last used ones are kept, up to size;
// the rest are left to the garbage collector, their tokens with them.
type cache struct {
	size    int
	entries sync.Map // of unique.Handle[Key] to *entry: a lookup neither locks nor allocates

	mu   sync.Mutex // held where a Source is made or comes back, and guards what follows
	ring []*entry   // the entries whose Source is kept alive: at most size
	hand int        // where in the ring the next one to make room is looked for
}

// entry leads to a Source and, while the entry is in the ring, keeps it alive.
type entry struct {
	kept   atomic.Pointer[Source] // nil unless in the ring; changed under cache.mu
	source weak.Pointer[Source]
	used   atomic.Bool // since the hand was here last
}

// get returns the Source of a normalized key, for use by the program, or nil if there is none in the ring.
func (c *cache) get(key unique.Handle[Key]) *Source {
	found, ok := c.entries.Load(key)
	if !ok {
		return nil
	}
	e := found.(*entry)
	source := e.kept.Load()
	if source != nil && !e.used.Load() { // once it is set, callers only read: no cache line goes to and fro
		e.used.Store(true)
	}
	return source
}

// peek returns the Source of a normalized key if it is still alive, else nil. It counts as no use.
func (c *cache) peek(key unique.Handle[Key]) *Source {
	found, ok := c.entries.Load(key)
	if !ok {
		return nil
	}
	return found.(*entry).source.Value()
}

// admit returns the Source of a normalized key, the living one or else a new one, and has it kept alive.
func (c *cache) admit(key unique.Handle[Key], m *Manager) *Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.entries.Load(key); ok {
		e := found.(*entry)
		if source := e.source.Value(); source != nil {
			if e.kept.Load() == nil {
				c.keep(e, source)
			}
			return source
		}
	}
	source := &Source{m: m, key: key.Value()}
	e := &entry{source: weak.Make(source)}
	c.keep(e, source)
	c.entries.Store(key, e) // over the entry of one that was collected, if its cleanup has not run yet
	c.forgetWhenCollected(key, e.source, source)
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
	e.used.Store(false) // one that is asked for once goes before those that are asked for again and again
	e.kept.Store(source)
}

// maxSpared is how many busy Sources are passed over in the search for one that may go, so that it stays short.
const maxSpared = 64

// advance moves the hand to the entry that has to go: one that was not used since the hand was there last, and is not
// busy.
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

// forgetWhenCollected takes the entry out of the map once its Source was collected. What the cleanup holds is never
// collected before the Source, so it must lead to no Source: neither to the entry nor, but weakly, to the cache.
func (c *cache) forgetWhenCollected(key unique.Handle[Key], collected weak.Pointer[Source], source *Source) {
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

// busy reports whether the Source has more to lose than what the store can tell again: a flight that is under way, or a
// claim that may be its own, which the next flight takes up by its id.
func (s *Source) busy() bool {
	if !s.mu.TryLock() {
		return true
	}
	defer s.mu.Unlock()
	return s.flight != nil || s.claimID != "" // without a flight, mu guards claimID
}

// cached returns the Source of a normalized key if there is one in this process, else nil. It makes none, and does not
// count as a use of it.
func (m *Manager) cached(key Key) *Source { return m.cache.peek(unique.Make(key)) }
