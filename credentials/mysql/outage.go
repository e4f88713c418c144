package mysql

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// outage paces the retries of all calls that lost their connection, so that a store dials a few
// times a second while its server is away, however many calls wait. The first try of a call is not
// held up, and with the first success all retries go at once. Reads and writes have an outage each,
// for a server may answer one and refuse the other.
type outage struct {
	failed atomic.Int64  // tries since the last success
	turn   chan struct{} // has room for one: the call whose turn comes next

	mu   sync.Mutex
	over chan struct{} // guarded by mu; closed by the next success
}

func newOutage() *outage {
	return &outage{turn: make(chan struct{}, 1), over: make(chan struct{})}
}

// lost counts a try that lost its connection, and reports whether it is the first since the last
// success.
func (o *outage) lost() bool { return o.failed.Add(1) == 1 }

// takeTurn returns when the call may try again. The turn is passed on before the try, so that no
// try that hangs holds the other calls up.
func (o *outage) takeTurn(ctx context.Context) {
	o.mu.Lock()
	over := o.over
	failed := o.failed.Load()
	o.mu.Unlock()
	select {
	case o.turn <- struct{}{}:
	case <-over:
		return
	case <-ctx.Done():
		return
	}
	window := backOff(int(min(failed, 100)))
	sleep(ctx, window/2+rand.N(window/2), over)
	<-o.turn
}

// end lets every call go that waits for its turn. A call that succeeds while all is well pays one
// atomic load for it.
func (o *outage) end() {
	if o.failed.Load() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed.Store(0)
	close(o.over)
	o.over = make(chan struct{})
}
