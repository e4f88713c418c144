package credentials_test

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

func caching(size int) func(*setup) { return func(s *setup) { s.options.CacheSize = size } }

// crowded makes a manager that keeps that many Sources, on a store without credentials.
func crowded(t *testing.T, size int) *credentials.Manager {
	t.Helper()
	services := credentials.Services{alice.Service: {Refresher: credentials.RefresherFunc(refreshNothing)}}
	m, err := credentials.NewManager(memstore.New(), services, &credentials.Options{CacheSize: size})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func somebody(n int) credentials.Key {
	return credentials.Key{Service: alice.Service, Account: fmt.Sprintf("account-%d", n)}
}

// touch asks for the Sources of n accounts that nobody holds.
func touch(t *testing.T, m *credentials.Manager, n int) {
	t.Helper()
	for i := range n {
		sourceOf(t, m, somebody(i))
	}
}

func sourceOf(t *testing.T, m *credentials.Manager, key credentials.Key) *credentials.Source {
	t.Helper()
	source, err := m.Source(key)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// hint is a pointer to a Source that does not hold it.
func hint(t *testing.T, m *credentials.Manager, key credentials.Key) weak.Pointer[credentials.Source] {
	t.Helper()
	return weak.Make(sourceOf(t, m, key))
}

// collected reports whether the garbage collector takes what the pointer leads to.
func collected[T any](p weak.Pointer[T]) bool {
	for range 5 {
		runtime.GC()
		if p.Value() == nil {
			return true
		}
	}
	return false
}

// entries counts the keys that the manager knows, which nothing exported tells.
func entries(m *credentials.Manager) (n int) {
	known := reflect.ValueOf(m).Elem().FieldByName("sources").FieldByName("entries")
	(*sync.Map)(known.Addr().UnsafePointer()).Range(func(any, any) bool { n++; return true })
	return n
}

// The tokens of a million accounts do not stay for ever, and neither do their keys.
func TestCacheIsBounded(t *testing.T) {
	const size, accounts = 100, 20_000
	m := crowded(t, size)
	touch(t, m, accounts)
	for deadline := time.Now().Add(30 * time.Second); entries(m) > size; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("the manager knows %d keys, want at most %d", entries(m), size)
		}
		runtime.GC()
		runtime.GC()
	}
	if got := entries(m); got != size {
		t.Errorf("the manager knows %d keys, want the last %d", got, size)
	}
	runtime.KeepAlive(m)
}

// A Source that is used again and again stays, while those that were asked for once go.
func TestCacheKeepsTheUsed(t *testing.T) {
	const size = 8
	m := crowded(t, size)
	used, unused := hint(t, m, alice), hint(t, m, bob)
	for i := range 20 * size {
		sourceOf(t, m, somebody(i))
		if i%(size/2) == 0 {
			runtime.GC() // what is not kept does not come back
			sourceOf(t, m, alice)
		}
	}
	if !collected(unused) {
		t.Error("the Source that was asked for once is still there")
	}
	if collected(used) {
		t.Error("the Source that was in use is gone")
	}
	touch(t, m, 3*size)
	if !collected(used) {
		t.Error("the Source is still there though it was not used any more")
	}
	runtime.KeepAlive(m)
}

// A handle that the program holds is what Manager.Source returns, however many others came since.
// Once it was asked for again, it is kept again.
func TestCacheNeverSplitsAHandle(t *testing.T) {
	const size = 4
	m := crowded(t, size)
	held := sourceOf(t, m, alice)
	for range 3 {
		touch(t, m, 10*size)
		runtime.GC()
		runtime.GC()
		if got := sourceOf(t, m, alice); got != held {
			t.Fatalf("got another Source than the one that is held")
		}
	}
	still := weak.Make(held)
	runtime.KeepAlive(held)
	held = nil
	if collected(still) {
		t.Error("the Source is gone though it was the last one that was asked for")
	}
	touch(t, m, 10*size)
	if !collected(still) {
		t.Error("the Source is still there though nobody holds it any more")
	}
	runtime.KeepAlive(m)
}

// Callers of one credential who all find it evicted get one Source.
func TestCacheMakesOneSource(t *testing.T) {
	m := crowded(t, 2)
	for round := range 200 {
		got := make([]*credentials.Source, 4)
		var callers sync.WaitGroup
		for i := range got {
			callers.Go(func() { got[i], _ = m.Source(alice) })
			callers.Go(func() { _, _ = m.Source(somebody(round*len(got) + i)) })
		}
		callers.Wait()
		for i, source := range got {
			if source == nil || source != got[0] {
				t.Fatalf("caller %d got Source %p, the first one %p", i, source, got[0])
			}
		}
	}
}

// A manager that the program let go of is collected, with all that it kept.
func TestCacheDoesNotHoldItsManager(t *testing.T) {
	m := crowded(t, 10)
	touch(t, m, 100)
	if still := weak.Make(m); !collected(still) {
		t.Error("the manager is still there")
	}
}

// Eviction breaks no call: a later caller joins it, and gets its result.
func TestCacheNeverSplitsACall(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", caching(1))
		first := p.ask(alice)
		w.reaches(100 * time.Millisecond)
		source := hint(t, p.Manager, alice)
		touch(t, p.Manager, 10)
		if collected(source) {
			w.Error("the Source of a call is gone")
		}
		touch(t, p.Manager, 10)
		later := p.begins(alice)
		touch(t, p.Manager, 10)
		first.is("access-alice-1")
		later.is("access-alice-1")
		w.presented(1)
		if got := p.store.Count(testkit.Get); got != 1 {
			w.Errorf("the store was read %d times, want once: the later caller has a call of its own", got)
		}
		synctest.Wait()
		if !collected(source) {
			w.Error("the Source was not evicted, so this test has shown nothing")
		}
	})
}

// A credential that was evicted is read again, and the provider is not asked.
func TestCacheEvictionCostsARead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", caching(2))
		p.ask(alice).is("access-alice-1")
		source := hint(t, p.Manager, alice)
		reads, claims := p.store.Count(testkit.Get), p.store.Count(testkit.Claim)
		p.ask(alice).is("access-alice-1")
		if got := p.store.Count(testkit.Get); got != reads {
			w.Fatalf("a cached token was read %d times", got-reads)
		}
		touch(t, p.Manager, 10)
		if !collected(source) {
			w.Fatal("the Source was not evicted")
		}
		p.ask(alice).is("access-alice-1")
		if got := p.store.Count(testkit.Get) - reads; got != 1 {
			w.Errorf("the store was read %d times, want once", got)
		}
		if got := p.store.Count(testkit.Claim) - claims; got != 0 {
			w.Errorf("the credential was claimed %d times, want not at all", got)
		}
		w.presented(1)
	})
}

// A claim whose reply was lost is known to this process alone: forgotten, the next call would wait
// for the end of its own lease, and take it for an interrupted exchange.
func TestCacheSparesLostReplyOfClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", neverReplay, caching(4))
		p.store.After(testkit.Claim, testkit.Once(testkit.Refuse))
		p.ask(alice).fails(credentials.ErrUnavailable)
		touch(t, p.Manager, 50)
		runtime.GC()
		runtime.GC()
		a := p.ask(alice)
		a.is("access-alice-1")
		a.within(time.Second)
		w.presented(1)
	})
}

func TestNegativeCacheSize(t *testing.T) {
	services := credentials.Services{alice.Service: {Refresher: credentials.RefresherFunc(refreshNothing)}}
	m, err := credentials.NewManager(memstore.New(), services, &credentials.Options{CacheSize: -1})
	if want := "credentials.NewManager: CacheSize is -1; it must not be negative"; m != nil || err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}
