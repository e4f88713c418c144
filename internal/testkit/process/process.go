// Package process has tests start their own program again, as processes in roles that they tell
// what to do, pause, kill and listen to.
package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// roleEnv has the test's program start in a role. Its work comes on stdin, since a DSN holds a
// password and the environment of a process can be read by others.
const roleEnv = "LATCHKEY_TEST_ROLE"

// patience bounds each wait for a process.
const patience = 30 * time.Second

// A Role is the work of a process that a test started. Its first order is the work that the test
// gave to [Start]; orders end when the test wants the process to end, or has ended itself.
type Role func(orders *json.Decoder, says *json.Encoder) error

// Play returns at once in a process without a role. In one that [Start] started it does
// the role's work and exits. TestMain calls it first.
func Play(roles map[string]Role) {
	name := os.Getenv(roleEnv)
	if name == "" {
		return
	}
	role, err := roles[name], errors.New("no such role")
	if role != nil {
		err = role(json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command is the test's program in that role.
func Command(role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd, nil
}

// Process is the test's side of a process in a role, which says lines of JSON that are values of T.
// The methods fail the test, and are for the test's goroutine.
type Process[T any] struct {
	Name string

	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.Closer
	orders *json.Encoder
	stderr bytes.Buffer  // to be read when the process has ended
	ended  chan struct{} // closed when the process has ended
	err    error         // how it ended; to be read when ended is closed

	mu   sync.Mutex
	said []T           // guarded by mu: what Next has not taken yet
	news chan struct{} // receives when said has grown
}

// Start starts a process in that role and tells it its work. It is gone when the test has
// ended.
func Start[T any](t testing.TB, role, name string, work any) *Process[T] {
	t.Helper()
	cmd, err := Command(role)
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process[T]{
		Name: name, t: t, cmd: cmd, stdin: stdin, orders: json.NewEncoder(stdin),
		ended: make(chan struct{}), news: make(chan struct{}, 1),
	}
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	go p.listen(stdout)
	p.Tell(work)
	return p
}

// listen queues what the process says, so that it never waits for the test to read, and notes the
// process's end.
func (p *Process[T]) listen(stdout io.Reader) {
	defer close(p.ended)
	for lines := json.NewDecoder(stdout); ; {
		var line T
		if err := lines.Decode(&line); err != nil {
			break // the end, or the process was killed in the middle of a line
		}
		p.mu.Lock()
		p.said = append(p.said, line)
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
	p.err = p.cmd.Wait()
}

// Tell writes an order to the process.
func (p *Process[T]) Tell(order any) {
	p.t.Helper()
	if err := p.orders.Encode(order); err != nil {
		p.fatal(err)
	}
}

// Next waits for the first line for which match is true, and takes it; the lines before it stay for
// later calls. A nil match takes the first line.
func (p *Process[T]) Next(what string, match func(T) bool) T {
	p.t.Helper()
	line, ok := p.NextBefore(time.Now().Add(patience), match)
	if !ok {
		p.fatal(fmt.Errorf("it does not say within %v: %s", patience, what))
	}
	return line
}

// NextBefore is Next until a deadline. It reports whether there was such a line.
func (p *Process[T]) NextBefore(deadline time.Time, match func(T) bool) (line T, ok bool) {
	late := time.After(time.Until(deadline))
	for {
		ended := p.HasEnded() // before the look, since the last line comes before the end
		if line, ok = p.take(match); ok || ended {
			return line, ok
		}
		select {
		case <-p.news:
		case <-p.ended:
		case <-late:
			return line, false
		}
	}
}

func (p *Process[T]) take(match func(T) bool) (line T, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, line := range p.said {
		if match == nil || match(line) {
			p.said = slices.Delete(p.said, i, i+1)
			return line, true
		}
	}
	return line, false
}

// HasEnded reports whether the process has ended.
func (p *Process[T]) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process: SIGSTOP and SIGCONT pause it and have it go on.
func (p *Process[T]) Signal(signal os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.fatal(fmt.Errorf("%v: %w", signal, err))
	}
}

// Kill ends the process by SIGKILL, whatever it does, and returns when it is gone.
func (p *Process[T]) Kill() {
	p.t.Helper()
	p.Signal(os.Kill)
	<-p.ended
}

// CloseOrders tells the process that no orders follow.
func (p *Process[T]) CloseOrders() { _ = p.stdin.Close() }

// Ends fails the test unless the process ends by itself, with success.
func (p *Process[T]) Ends() {
	p.t.Helper()
	select {
	case <-p.ended:
		if p.err != nil {
			p.t.Errorf("%s: %v: %s", p.Name, p.err, p.stderr.Bytes())
		}
	case <-time.After(patience):
		p.fatal(fmt.Errorf("it does not end within %v", patience))
	}
}

// end is Kill for a process that may have ended, or be paused.
func (p *Process[T]) end() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// fatal ends the process, whose last words then are known, and the test.
func (p *Process[T]) fatal(err error) {
	p.t.Helper()
	p.end()
	p.t.Fatalf("%s: %v; it ended with %v: %s", p.Name, err, p.err, p.stderr.Bytes())
}
