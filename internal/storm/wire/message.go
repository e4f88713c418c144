package wire

import "fmt"

// Order is a line that the parent sends after the job. One of Versions, Round, Reply and Do is set.
type Order struct {
	// Versions are those of the rows when the parent has prepared the next round. The worker says
	// when it sees them, and only then is the round's signal sent.
	Versions Versions `json:"versions,omitempty"`

	// Round is the signal for that round. Sent is the parent's clock in nanoseconds since 1970:
	// both processes are on one host, and a caller's latency counts from when the signal was sent.
	Round int   `json:"round,omitempty"`
	Sent  int64 `json:"sent,omitempty"`

	// Reply has the holder that asked the question of that number go on.
	Reply int `json:"reply,omitempty"`

	Do Command `json:"do,omitempty"`
}

// Versions are the versions of rows, by account.
type Versions map[string]uint64

// Behind returns an error that names a row which is at an earlier version than wanted, if there is
// one.
func (v Versions) Behind(want Versions) error {
	for account, version := range want {
		if v[account] < version {
			return fmt.Errorf("the row of %s is at version %d, not yet at %d", account, v[account], version)
		}
	}
	return nil
}

// Command is a stage of the end of the chaos.
type Command string

// The commands, in the order in which they are sent.
const (
	StopCalls Command = "stop"  // The callers finish, and begin no other call.
	AskAll    Command = "ask"   // One caller for each account asks until its question is settled.
	CloseDown Command = "close" // The worker closes its manager, then its pool.
)

// Message is a line that a worker sends. One of the fields is set.
type Message struct {
	Ready    int       `json:"ready,omitempty"` // The worker is ready for that round.
	Seen     bool      `json:"seen,omitempty"`  // The worker sees the rows at the order's Versions.
	Result   *Result   `json:"result,omitempty"`
	Record   *Record   `json:"record,omitempty"`
	Question *Question `json:"question,omitempty"`
	Done     Command   `json:"done,omitempty"`
	Error    string    `json:"error,omitempty"` // The worker ends for that reason.
}

// Question is asked by a holder at the step that the fault waits for.
type Question struct {
	Number  int `json:"number"`
	Account int `json:"account"`
}

// Step is a step of a holder at which a fault can be made.
type Step string

// The steps.
const (
	BeforeClaim Step = "claim"
	AfterClaim  Step = "claimed" // The claim is committed.
	InExchange  Step = "exchange"
	BeforeSave  Step = "save"
)

// Result is one worker's round, or its whole chaos.
type Result struct {
	Round int `json:"round"`

	// Callers are the calls of a round without faults. A storm with faults has records instead, and
	// a storm over several lifetimes has Calls.
	Callers []Record `json:"callers,omitempty"`
	Calls   *Calls   `json:"calls,omitempty"`

	// Held is the highest number of connections that an exchange's own call held. Unattributed is
	// how often that number could not be told.
	Held         int `json:"held"`
	Unattributed int `json:"unattributed"`

	// InUse is how many connections were checked out after the manager had been closed.
	InUse int `json:"in_use,omitempty"`
}
