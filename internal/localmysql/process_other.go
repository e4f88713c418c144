//go:build !unix

package localmysql

import (
	"errors"
	"os"
)

// Elsewhere nothing ends the server when its owner is killed, so none is started.
type watchdog struct{}

func startWatchdog(string) (*watchdog, error) {
	return nil, errors.New("a private server needs a Unix system")
}

func (*watchdog) close() error { return nil }

func (*watchdog) start(string, []string, *os.File, *os.File) (*process, error) {
	return nil, errors.ErrUnsupported
}

type process struct {
	exited chan struct{}
	err    error
}

func (*process) kill()         {}
func (*process) freeze() error { return errors.ErrUnsupported }
func (*process) thaw() error   { return errors.ErrUnsupported }
func (*process) success() bool { return false }
