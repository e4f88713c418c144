//go:build !unix

package storm

import (
	"errors"
	"os"
)

const canSignal = false

func pauseProcess(*os.Process) error  { return errors.ErrUnsupported }
func resumeProcess(*os.Process) error { return errors.ErrUnsupported }
