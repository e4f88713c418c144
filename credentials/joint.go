package credentials

import (
	"context"
	"errors"
	"sync"
	"time"
)

// joint joins a process's calls of the store about single credentials, reads or claims. An idle
// process calls at once. A call that is asked for while another is under way joins the next one,
// which begins when the one under way has ended, and is about all credentials that are asked for by
// then. So many callers share few statements, and nobody waits for a timer that gathers others.
type joint struct {
	clock
	room chan struct{} // has as many places as there may be calls under way

	mu     sync.Mutex
	newest *batch // guarded by mu; nil: there was none yet
}

const (
	// maxJoined is how many credentials one call is about.
	maxJoined = 500

	// jointPatience is how long a batch waits for the one before it: a call that hangs on one
	// connection holds up nobody else for longer.
	jointPatience = 20 * time.Millisecond

	// maxJointCalls is how many batches are called for at the same time.
	maxJointCalls = 16
)

func newJoint(c clock) joint { return joint{clock: c, room: make(chan struct{}, maxJointCalls)} }

// callAll is a call of the store about different credentials, which has an answer for each.
type callAll func(ctx context.Context, keys []Key) ([]Found, error)

// batch is what one call is about.
type batch struct {
	keys   []Key           // guarded by joint.mu until begun
	begun  bool            // guarded by joint.mu: no key joins any more
	before <-chan struct{} // closed when the batch before has ended; nil: there is none

	done  chan struct{} // closed when the fields below are set
	found []Found
	when  reading // times of all the readings
	err   error
}

// do returns the answer about one credential of a call that begins after do. The first of a batch
// calls for all.
func (j *joint) do(ctx context.Context, key Key, call callAll) (reading, error) {
	b, n := j.join(key)
	if n == 0 {
		j.run(ctx, b, call)
	}
	<-b.done
	if b.err != nil {
		return reading{}, b.err
	}
	one := b.when
	one.Credential = b.found[n].Credential
	return one, b.found[n].Err
}

// join adds a key to the newest batch, or to a new one if that has begun or is full, and returns
// the key's place in the batch.
func (j *joint) join(key Key) (b *batch, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b = j.newest
	if b == nil || b.begun || len(b.keys) == maxJoined {
		next := &batch{done: make(chan struct{})}
		if b != nil {
			next.before = b.done
		}
		j.newest, b = next, next
	}
	b.keys = append(b.keys, key)
	return b, len(b.keys) - 1
}

// run calls for a batch when its turn has come.
func (j *joint) run(ctx context.Context, b *batch, call callAll) {
	b.err = errors.New("the call of the store was aborted") // by a panic
	defer close(b.done)
	if b.before != nil {
		patience := time.NewTimer(jointPatience)
		select {
		case <-b.before:
		case <-patience.C:
		}
		patience.Stop()
	}
	j.room <- struct{}{}
	defer func() { <-j.room }()
	j.mu.Lock()
	b.begun = true
	j.mu.Unlock()
	b.when, b.err = j.read(func() (_ Credential, err error) {
		b.found, err = call(ctx, b.keys)
		return Credential{}, err
	})
}
