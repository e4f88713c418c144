package mysql

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLimiter: calls are admitted up to a limit that the host moves meanwhile, and no call waits
// while there is room.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit, inside, peak atomic.Int64
		limit.Store(2)
		l := newLimiter(func() int { return int(limit.Load()) })
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if err := l.acquire(t.Context()); err != nil {
					t.Error(err)
				}
				defer l.release()
				peak.Store(max(peak.Load(), inside.Add(1)))
				time.Sleep(time.Second)
				inside.Add(-1)
			})
		}
		time.Sleep(1500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call whose context ends while it waits: got error %v", err)
		}
		if n := peak.Load(); n != 2 {
			t.Errorf("%d calls at once, want 2", n)
		}
		limit.Store(4)
		began := time.Now()
		calls.Wait()
		if n := peak.Load(); n != 4 {
			t.Errorf("%d calls at once, want 4", n)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("16 calls of 1s, 4 at once, took %v", took)
		}
	})
}
