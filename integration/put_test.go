package integration_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
)

// TestConcurrentPut: two processes of 16 goroutines put one key and keys of their own at once. Each put counts, and
// none meets a deadlock.
func TestConcurrentPut(t *testing.T) {
	const processes, goroutines = 2, 16
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		inProcesses(t, processes, "putter", work{DSN: s.dsn(database, ""), Puts: goroutines})
		store := newStore(t, s.open(t, database, ""))
		c := get(t, store, alice)
		equal(t, "Version", c.Version, processes*goroutines)
		equal(t, "TokenVersion", c.TokenVersion, processes*goroutines)
		rows := 0
		for c, err := range store.List(bounded(t), "") {
			if err != nil {
				t.Fatal(err)
			}
			if c.Key != alice {
				equal(t, fmt.Sprintf("Version of %v", c.Key), c.Version, 1)
			}
			rows++
		}
		equal(t, "rows", rows, 1+processes*goroutines)
	})
}

// TestPutAgainstSave: a put and the save of a claim from before it, at once. Whichever is first, the put stays.
func TestPutAgainstSave(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, interpolated)
		for range 20 {
			seed(t, store, alice)
			c := claim(t, store, alice)
			var both sync.WaitGroup
			var putErr, saveErr error
			both.Go(func() { putErr = store.Put(bounded(t), alice, renewal("put").Grant) })
			both.Go(func() { saveErr = store.Save(bounded(t), c.Fence(), renewal("saved")) })
			both.Wait()
			if putErr != nil {
				t.Errorf("Put: %v", putErr)
			}
			if saveErr != nil && !errors.Is(saveErr, credentials.ErrSuperseded) {
				t.Errorf("Save: %v", saveErr)
			}
			equal(t, "the token in the row", get(t, store, alice).Token.Reveal(), "put")
			if err := store.Save(bounded(t), c.Fence(), renewal("late")); !errors.Is(err, credentials.ErrSuperseded) {
				t.Errorf("Save after the put: got error %v, want ErrSuperseded", err)
			}
		}
	})
}
