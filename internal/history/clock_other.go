//go:build !(linux || darwin || freebsd)

package history

import "time"

// Now is the time by which operations are recorded, in nanoseconds. There is no monotonic clock
// here that processes share, so it is the wall clock: a history is wrong if that is set while it is
// recorded.
func Now() int64 { return time.Now().UnixNano() }
