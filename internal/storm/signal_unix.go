//go:build unix

package storm

import (
	"os"
	"syscall"
)

const canSignal = true

func pauseProcess(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resumeProcess(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
