//go:build linux || darwin || freebsd

package history

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Now is the time by which operations are recorded, in nanoseconds: CLOCK_MONOTONIC, which all
// processes of a machine share, which no clock adjustment moves, and which goes on while a process
// is stopped. (The monotonic reading that a time.Time has is the same clock, but counts from the
// start of its own process.)
func Now() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(fmt.Sprintf("read CLOCK_MONOTONIC: %v", err)) // POSIX has no reason for it
	}
	return now.Nano()
}
