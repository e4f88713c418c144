// Package wire is the conversation between the parent of a storm and its workers.
//
// Parent and worker exchange lines of JSON on the worker's stdin and stdout:
//
//	parent: the job
//	worker: ready for round 1     (pool warmed, manager new, callers parked)
//	parent: the signal
//	worker: the result of round 1, ready for round 2, …
//
// A storm over several lifetimes is one long round, and its accounts are seeded when the workers
// are ready.
//
// In a storm with faults the worker also writes a [Record] of each action when the action is done,
// so that the record survives the worker. At the step that the fault waits for, the worker asks a
// [Question] and waits for the reply; the parent may kill or pause the worker meanwhile. Under
// chaos there is one round without end, which a few [Command]s end.
//
// The job holds the DSN with its password. The job comes on stdin because arguments and environment
// can be read by others. A worker ends when its stdin does, so that none outlives its parent.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/latchkey-go/latchkey/credentials"
)

// WorkerEnv is the environment variable that marks a process which was started as a worker.
const WorkerEnv = "LATCHKEY_STORM_WORKER"

// Holder returns a worker's name in the rows.
func Holder(worker int) string { return fmt.Sprintf("storm worker %d", worker) }

// Fingerprint names a token without giving it away. The zero Secret has the fingerprint "".
func Fingerprint(token credentials.Secret) string {
	if token.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:8])
}
