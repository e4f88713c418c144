package storm

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// fleet is the worker processes.
type fleet struct {
	command []string
	receive func(p *process, m wire.Message) // Takes records and questions.
	workers []*process
	readers sync.WaitGroup
	ctx     context.Context
	kill    context.CancelFunc
	stopped chan struct{} // Closed when nobody listens to the workers any more.
}

// deadWorkerError says that a worker ended before its job was done.
type deadWorkerError struct {
	worker int
	cause  error
}

func (d *deadWorkerError) Error() string {
	return fmt.Sprintf("worker %d ended unexpectedly: %v", d.worker, d.cause)
}

func (d *deadWorkerError) Unwrap() error { return d.cause }

// startFleet starts n workers and gives each its job. The workers are killed when ctx ends.
func startFleet(
	ctx context.Context, command []string, n int, job wire.Job, receive func(*process, wire.Message),
) (*fleet, error) {
	ctx, kill := context.WithCancel(ctx)
	f := &fleet{
		command: command, receive: receive, ctx: ctx, kill: kill, stopped: make(chan struct{}),
	}
	for i := range n {
		job.Worker = i + 1
		worker, err := f.start(job)
		if err != nil {
			f.stop(0)
			return nil, fmt.Errorf("start worker %d: %w", i+1, err)
		}
		f.workers = append(f.workers, worker)
	}
	return f, nil
}

// send sends an order to every worker.
func (f *fleet) send(order wire.Order) {
	for _, worker := range f.workers {
		worker.send(order)
	}
}

// collect calls take with the messages of every worker, and the worker's number, until take reports
// that the worker's part is done. If a worker has ended that was not killed on purpose, collect
// goes on with the others and then returns a *deadWorkerError.
func (f *fleet) collect(
	ctx context.Context, take func(worker int, m wire.Message) (done bool, err error),
) error {
	var died error
	for _, p := range f.workers {
		for done := false; !done; {
			m, err := p.next(ctx)
			switch {
			case ctx.Err() != nil: // The end of ctx kills the workers too.
				return context.Cause(ctx)
			case err != nil:
				if done = true; !p.isKilled() {
					died = cmp.Or(died, error(&deadWorkerError{worker: p.worker, cause: err}))
				}
			default:
				if done, err = take(p.worker, m); err != nil {
					return fmt.Errorf("worker %d: %w", p.worker, err)
				}
			}
		}
	}
	return died
}

// stop ends the workers by closing their stdin and, after that time, by killing them, and waits for
// their end.
func (f *fleet) stop(patience time.Duration) {
	for _, worker := range f.workers {
		_ = worker.stdin.Close()
	}
	close(f.stopped)
	timer := time.AfterFunc(patience, f.kill)
	defer timer.Stop()
	defer f.kill()
	f.readers.Wait()
}
