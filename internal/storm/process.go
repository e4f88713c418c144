package storm

import (
	"bytes"
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

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// process is a worker process.
type process struct {
	worker   int // The first worker is 1.
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	stderr   bytes.Buffer // Read when the process has ended.
	messages chan event
	ended    chan struct{} // Closed when the process has ended.

	mu     sync.Mutex
	orders *json.Encoder // guarded by mu
	killed bool          // guarded by mu: the end is intended
}

// event is a worker's message, or its end.
type event struct {
	message wire.Message
	ended   error // Nil while the worker lives.
}

// maxStderr is how much of the end of a worker's stderr is kept.
const maxStderr = 1000

// errExited is the end of a worker that was not killed and reported no error.
var errExited = errors.New("exit status 0")

// start starts a worker, which the caller keeps in f.workers.
func (f *fleet) start(job wire.Job) (*process, error) {
	cmd := exec.CommandContext(f.ctx, f.command[0], f.command[1:]...)
	cmd.Env = append(os.Environ(), wire.WorkerEnv+"=1")
	cmd.WaitDelay = 2 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// The buffer has room for the messages that come before they are asked for, so that records are
	// read on.
	p := &process{
		worker: job.Worker, cmd: cmd, stdin: stdin, orders: json.NewEncoder(stdin),
		messages: make(chan event, 8), ended: make(chan struct{}),
	}
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f.readers.Go(func() { f.read(p, stdout) })
	p.send(job)
	return p, nil
}

// read passes on the messages of a worker, and then its end.
func (f *fleet) read(p *process, stdout io.Reader) {
	pass := func(e event) {
		select {
		case p.messages <- e:
		case <-f.stopped:
		}
	}
	decoder := json.NewDecoder(stdout)
	for {
		var m wire.Message
		err := decoder.Decode(&m)
		switch {
		case err != nil:
			// A worker that does not know that it is one writes anything. Reading on keeps it from
			// blocking.
			_, _ = io.Copy(io.Discard, stdout)
			pass(event{ended: p.wait(err)})
			return
		case m.Record != nil || m.Question != nil:
			f.receive(p, m)
		default:
			pass(event{message: m})
		}
	}
}

// wait returns how the process ended. unread is the error of reading from it.
func (p *process) wait(unread error) error {
	err := p.cmd.Wait()
	close(p.ended)
	if err == nil {
		err = errExited
	}
	if !errors.Is(unread, io.EOF) && !errors.Is(unread, io.ErrUnexpectedEOF) &&
		!errors.Is(unread, os.ErrClosed) {
		err = fmt.Errorf("%w, after writing what is no message (%v); does its main call worker.Run?",
			err, unread)
	}
	text := p.stderr.String()
	if text = strings.Join(strings.Fields(text[max(0, len(text)-maxStderr):]), " "); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// send sends the job or an order to the worker. A dead worker takes none, and its end is an event.
func (p *process) send(line any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.orders.Encode(line)
}

// next returns the worker's next message, or the error with which it ended.
func (p *process) next(ctx context.Context) (wire.Message, error) {
	select {
	case <-ctx.Done():
		return wire.Message{}, context.Cause(ctx)
	case e := <-p.messages:
		if e.message.Error != "" {
			return wire.Message{}, errors.New(e.message.Error)
		}
		return e.message, e.ended
	}
}

// kill kills the worker on purpose.
func (p *process) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	return p.cmd.Process.Kill()
}

func (p *process) isKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}
