package mysql

import (
	"context"
	"sync"
)

// limiter admits as many calls as the pool may have connections, so that no call waits in the
// pool's own queue. While a call waits there, database/sql replaces a connection that is closed by
// itself, with a dial that no context bounds. A server that accepts connections and then says
// nothing would keep every place of the pool for as long as the server is frozen, and after another
// server has taken over.
type limiter struct {
	limit func() int // how many are admitted, 0 for any number; the host may change it at any time
	freed chan struct{}

	mu       sync.Mutex
	admitted int // guarded by mu
}

func newLimiter(limit func() int) *limiter {
	return &limiter{limit: limit, freed: make(chan struct{}, 1)}
}

// acquire returns when the call is admitted, or the context's error.
func (l *limiter) acquire(ctx context.Context) error {
	for !l.admit() {
		select {
		case <-l.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *limiter) admit() bool {
	limit := l.limit()
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit > 0 && l.admitted >= limit {
		return false
	}
	l.admitted++
	if limit == 0 || l.admitted < limit {
		l.wake() // the next one that waits
	}
	return true
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admitted--
	l.wake()
}

func (l *limiter) wake() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}
