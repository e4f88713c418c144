package storm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// fleet is the worker processes.
type fleet struct {
	command []string
	heard   func(p *process, m message) // takes records and questions; nil: there are none
	workers []*process
	readers sync.WaitGroup
	ctx     context.Context
	kill    context.CancelFunc
	stopped chan struct{} // closed when nobody listens to the workers any more
}

type process struct {
	worker int
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	said   chan event
	ended  chan struct{} // closed when it has ended

	mu     sync.Mutex
	orders *json.Encoder // guarded by mu
	killed bool          // guarded by mu: its end is intended
}

// event is something a worker said, or its end.
type event struct {
	message message
	ended   error // how it ended; nil while it lives
}

// errExited is how a worker ends that was not killed and says nothing is wrong.
var errExited = errors.New("exit status 0")

// deadWorker is a worker that ended before its job was done.
type deadWorker struct {
	worker int // 1 for the first
	how    error
}

func (d *deadWorker) Error() string {
	return fmt.Sprintf("worker %d ended unexpectedly: %v", d.worker, d.how)
}
func (d *deadWorker) Unwrap() error { return d.how }

// startFleet starts n workers and gives each its job. They are killed when ctx ends.
func startFleet(ctx context.Context, command []string, n int, j job, heard func(*process, message)) (*fleet, error) {
	ctx, kill := context.WithCancel(ctx)
	f := &fleet{command: command, heard: heard, ctx: ctx, kill: kill, stopped: make(chan struct{})}
	for i := range n {
		j.Worker = i + 1
		worker, err := f.start(j)
		if err != nil {
			f.stop(0)
			return nil, fmt.Errorf("start worker %d: %w", i+1, err)
		}
		f.workers = append(f.workers, worker)
	}
	return f, nil
}

// start starts a worker, which the caller keeps in f.workers.
func (f *fleet) start(j job) (*process, error) {
	cmd := exec.CommandContext(f.ctx, f.command[0], f.command[1:]...)
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.WaitDelay = 2 * time.Second
	var stderr tail
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// The buffer has room for what a worker says before it is asked for it, so that its records are read on.
	worker := &process{
		worker: j.Worker, cmd: cmd, stdin: stdin, orders: json.NewEncoder(stdin), said: make(chan event, 8), ended: make(chan struct{}),
	}
	pass := func(e event) {
		select {
		case worker.said <- e:
		case <-f.stopped:
		}
	}
	f.readers.Go(func() {
		decoder := json.NewDecoder(stdout)
		for {
			var m message
			err := decoder.Decode(&m)
			if err == nil {
				if f.heard != nil && (m.Record != nil || m.Question != nil) {
					f.heard(worker, m)
					continue
				}
				pass(event{message: m})
				continue
			}
			// What is no message is a worker that does not know that it is one; reading on keeps it from blocking.
			_, _ = io.Copy(io.Discard, stdout)
			how := cmd.Wait()
			close(worker.ended)
			if how == nil {
				how = errExited
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrClosed) {
				how = fmt.Errorf("%w, after writing what is no message (%v); does its main call storm.Worker?", how, err)
			}
			if text := stderr.String(); text != "" {
				how = fmt.Errorf("%w: %s", how, text)
			}
			pass(event{ended: how})
			return
		}
	})
	worker.tell(j)
	return worker, nil
}

// tell sends an order to the worker. One that is dead cannot take it; its end says so.
func (p *process) tell(order any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.orders.Encode(order)
}

// expectEnd notes that the worker is about to be killed on purpose; false if it was before.
func (p *process) expectEnd() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.killed
	p.killed = true
	return first
}

func (p *process) isKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// tell sends an order to every worker.
func (f *fleet) tell(order any) {
	for _, worker := range f.workers {
		worker.tell(order)
	}
}

// collect takes the next message of every worker. take is called with each and its worker's number. If a worker has
// ended that was not killed on purpose, collect goes on with the others and then returns a *deadWorker.
func (f *fleet) collect(ctx context.Context, take func(worker int, m message) error) error {
	var died error
	for _, worker := range f.workers {
		m, err := worker.next(ctx)
		switch {
		case ctx.Err() != nil: // which kills the workers too
			return context.Cause(ctx)
		case err != nil && worker.isKilled():
			continue
		case err != nil:
			died = cmp.Or(died, error(&deadWorker{worker: worker.worker, how: err}))
			continue
		}
		if err := take(worker.worker, m); err != nil {
			return fmt.Errorf("worker %d: %w", worker.worker, err)
		}
	}
	return died
}

// next returns the worker's next message, or why it ended.
func (p *process) next(ctx context.Context) (message, error) {
	select {
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	case e := <-p.said:
		switch {
		case e.ended != nil:
			return message{}, e.ended
		case e.message.Error != "":
			return message{}, errors.New(e.message.Error)
		}
		return e.message, nil
	}
}

// stop has the workers end, by closing their stdin and after that time by killing them, and waits until they have.
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

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 1000
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(p), nil
}

// String returns what was kept, in one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.text)), " ")
}
