package testkit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Hook runs beside a call of a store. The caller gets an error of the hook in place of the answer.
type Hook func(ctx context.Context, call *Call) error

// Refuse says that the store is not there; after a call, that the reply was lost.
func Refuse(context.Context, *Call) error { return ErrDown }

// Hang answers nothing until the caller gives up.
func Hang(ctx context.Context, _ *Call) error {
	<-ctx.Done()
	return ctx.Err()
}

// Func returns a hook that calls f.
func Func(f func()) Hook {
	return func(context.Context, *Call) error {
		f()
		return nil
	}
}

// Answer returns a hook that returns err.
func Answer(err error) Hook { return func(context.Context, *Call) error { return err } }

// Delay returns a hook that takes that long, whatever its context says.
func Delay(d time.Duration) Hook { return Func(func() { time.Sleep(d) }) }

// RefuseUntil returns a hook that refuses until that time.
func RefuseUntil(at time.Time) Hook {
	return func(context.Context, *Call) error {
		if time.Now().Before(at) {
			return ErrDown
		}
		return nil
	}
}

// Once returns a hook that runs h on the first call alone.
func Once(h Hook) Hook { return Times(1, h) }

// Times returns a hook that runs h on the first n calls.
func Times(n int, h Hook) Hook {
	var done atomic.Int64
	return func(ctx context.Context, call *Call) error {
		if done.Add(1) > int64(n) {
			return nil
		}
		return h(ctx, call)
	}
}

// Chain returns a hook that runs hooks one after the other, until one returns an error.
func Chain(hooks ...Hook) Hook {
	return func(ctx context.Context, call *Call) error {
		for _, h := range hooks {
			if err := h(ctx, call); err != nil {
				return err
			}
		}
		return nil
	}
}

// Gate holds calls, as a process that was stopped there does.
type Gate struct {
	// Reached is closed when the first call has come.
	Reached chan struct{}

	opened chan struct{}
	reach  sync.Once
	open   sync.Once
}

// NewGate returns a closed gate.
func NewGate() *Gate { return &Gate{Reached: make(chan struct{}), opened: make(chan struct{})} }

// Wait is a [Hook] that waits until the gate is opened, whatever its context says.
func (g *Gate) Wait(context.Context, *Call) error {
	g.reach.Do(func() { close(g.Reached) })
	<-g.opened
	return nil
}

// Open lets all calls go on. It may be called again.
func (g *Gate) Open() { g.open.Do(func() { close(g.opened) }) }
