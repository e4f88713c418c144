//go:build unix

package storm

import (
	"os"
	"syscall"
	"time"
)

const canSignal = true

func pauseProcess(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resumeProcess(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

// killSelf does not return.
func killSelf() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	time.Sleep(time.Hour) // the signal comes at once, but maybe not before the call returns
}

// pauseSelf returns when the process was resumed.
func pauseSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }
