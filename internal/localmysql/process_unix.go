//go:build unix

package localmysql

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// watchdogScript reads process group ids, an empty line meaning none, until every copy of its
// standard input's other end is closed: by close, or because the owner has died, in whatever way.
// Then it kills the last group and removes the folder. It is a process, and not a signal handler or
// a parent-death signal, since nothing else outlives SIGKILL, removes files, and depends neither on
// the system nor on the thread that started the server.
const watchdogScript = `
trap '' HUP INT TERM
while read -r line; do group=$line; done
if [ -n "$group" ]; then kill -s KILL -- "-$group"; fi
for pause in 0 0.2 1; do
	sleep $pause
	rm -rf -- "$1" && exit 0
done
exit 1
`

// serverScript reports its own id before it becomes the program: there is no moment at which the
// program runs and the watchdog does not know.
const serverScript = `echo $$ >&3 && exec "$@" 3>&-`

type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// startWatchdog starts a watchdog that removes dir in the end.
func startWatchdog(dir string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "latchkey-watchdog", dir)
	cmd.Dir = "/"
	cmd.Stdin = r
	// A session of its own: what is sent to the terminal's process group must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &watchdog{cmd: cmd, pipe: w}, nil
}

// close makes the watchdog do its work and waits for it.
func (w *watchdog) close() error {
	return errors.Join(w.pipe.Close(), w.cmd.Wait())
}

// process is a program that the watchdog knows of.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how the process ended; never nil; to be read after exited is closed
}

// start runs a program in a process group of its own. It reads input and writes to output; nil
// means the null device.
func (w *watchdog) start(program string, args []string, input, output *os.File) (*process, error) {
	argv := append([]string{"-c", serverScript, "latchkey-server", program}, args...)
	cmd := exec.Command("/bin/sh", argv...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w.pipe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A nil file in these interfaces would not be a nil interface.
	if input != nil {
		cmd.Stdin = input
	}
	if output != nil {
		cmd.Stdout, cmd.Stderr = output, output
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		p.err = fmt.Errorf("it ended: %v", cmd.ProcessState)
		// The id is free for others now. A watchdog that is gone needs no telling.
		_, _ = io.WriteString(w.pipe, "\n")
		close(p.exited)
	}()
	return p, nil
}

// kill ends the process group and returns when its leader is gone.
func (p *process) kill() {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Process.Kill() // the wait below must end, whatever became of the group
		<-p.exited
	}
}

// freeze and thaw stop the process group and have it go on.
func (p *process) freeze() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGSTOP) }
func (p *process) thaw() error   { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGCONT) }

// success reports whether the process, which has ended, succeeded.
func (p *process) success() bool { return p.cmd.ProcessState.Success() }
