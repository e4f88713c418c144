package storm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Parent and worker talk in lines of JSON on the worker's stdin and stdout:
//
//	parent: the job
//	worker: ready for round 1     (pool warmed, manager new, callers parked)
//	parent: go
//	worker: what each caller got, ready for round 2, …
//
// A storm over several lifetimes is one long round, and its accounts are seeded when the workers are ready.
//
// In a storm with faults the worker also writes a record of each thing that it does, when it has done it: what it has
// said remains, should it be killed. At the step that the fault waits for it asks what is to happen to it, and goes on
// when it has the answer. Under chaos there is one round without end, and then the parent has it stop, ask once more for
// every account, and close.
//
// The job holds the DSN with its password, which is why it comes on stdin: arguments and environment can be read by
// others. A worker ends when its stdin does, so that none outlives its parent.

// workerEnv marks a process that was started as a worker.
const workerEnv = "LATCHKEY_STORM_WORKER"

// IsWorker reports whether this process was started by [Run] as a worker. Its main (or TestMain) then calls [Worker]
// and nothing else.
func IsWorker() bool { return os.Getenv(workerEnv) != "" }

// job is what a worker needs to know.
type job struct {
	Worker   int           `json:"worker"` // 1 for the first
	DSN      string        `json:"dsn"`
	Pool     int           `json:"pool"`
	Service  string        `json:"service"`
	Accounts []string      `json:"accounts"`
	Threads  int           `json:"threads"`
	First    int           `json:"first"` // round; 1 but for one that takes a dead worker's place
	Rounds   int           `json:"rounds"`
	Latency  time.Duration `json:"latency"`

	TokenURL     string `json:"token_url"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`

	// What follows is for a storm over several lifetimes: how long the threads ask, and each one's pause between calls.
	Asking time.Duration `json:"asking,omitempty"`
	Pace   time.Duration `json:"pace,omitempty"`

	// What follows is for a storm with faults.
	Faulty          bool          `json:"faulty,omitempty"`
	Point           point         `json:"point,omitempty"` // to ask at; "" for none
	Chaos           bool          `json:"chaos,omitempty"`
	Seed            uint64        `json:"seed,omitempty"`
	ExchangeTimeout time.Duration `json:"exchange_timeout,omitempty"`
	Lease           time.Duration `json:"lease,omitempty"`
}

// order is what the parent says after the job: one of Round, Reply and Do is set.
type order struct {
	// Round is the signal for that round. Sent is the parent's clock in nanoseconds since 1970: both processes are on
	// one host, and a caller's latency counts from the signal, not from its arrival.
	Round int   `json:"round,omitempty"`
	Sent  int64 `json:"sent,omitempty"`

	// Reply answers the question of that number.
	Reply int `json:"reply,omitempty"`
	Act   act `json:"act,omitempty"`

	Do stage `json:"do,omitempty"`
}

// act is what happens to a worker at the step at which it asked.
type act string

const (
	goOn  act = "go on"
	kill  act = "kill"
	pause act = "pause"
)

// stage is what a worker does at the end of the chaos.
type stage string

const (
	stopCalls stage = "stop"  // its callers finish, and begin no other call
	askAll    stage = "ask"   // one caller for each account, until it has a token or needs a new authorization
	closeDown stage = "close" // the manager, then the pool
)

// message is what a worker says: one of the fields is set.
type message struct {
	Ready  int     `json:"ready,omitempty"` // the round that it is ready for
	Result *result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"` // why it ends

	Record   *record   `json:"record,omitempty"`
	Question *question `json:"question,omitempty"`
	Done     stage     `json:"done,omitempty"`
}

// result is one worker's round, or its whole chaos.
type result struct {
	Round   int       `json:"round"`
	Callers []outcome `json:"callers"` // in a storm with faults there are records instead

	Asked *asked `json:"asked,omitempty"` // in a storm over several lifetimes, instead of Callers

	// Held is the most connections that an exchange's own flight held. Lost is how often that could not be told.
	Held int `json:"held"`
	Lost int `json:"lost"`

	// InUse is how many connections were checked out when the manager had been closed.
	InUse int `json:"in_use,omitempty"`
}

// outcome is what one caller got.
type outcome struct {
	Account int           `json:"account"` // index into the job's accounts
	Took    time.Duration `json:"took"`
	Token   string        `json:"token,omitempty"` // its fingerprint
	Error   string        `json:"error,omitempty"`
}

// question is asked by a holder at the step that the fault waits for.
type question struct {
	Number  int `json:"number"`
	Account int `json:"account"`
}

// deed is what a record is about.
type deed string

const (
	didClaim   deed = "claim"   // took the lease, and found Refresh in the row
	didAnswer  deed = "answer"  // heard from the provider: Token and Refresh are new, or Class says how it failed
	didSave    deed = "save"    // tried to save Token and Refresh
	didFail    deed = "fail"    // tried to record a failure
	didRelease deed = "release" // tried to give the lease up
	didCall    deed = "call"    // a caller got Token, or the error Class
)

// record is one thing that a worker did, between Start and End by history.Now. Tokens are fingerprints.
type record struct {
	Deed    deed   `json:"deed"`
	Account int    `json:"account"`
	Start   int64  `json:"start"`
	End     int64  `json:"end"`
	Claim   string `json:"claim,omitempty"`
	Version uint64 `json:"version,omitempty"`
	Token   string `json:"token,omitempty"`
	Refresh string `json:"refresh,omitempty"`

	// Class is the failure's: of a call an errorClass, of an answer that of the RefreshError, of a write "superseded" or
	// "error". "": success.
	Class string `json:"class,omitempty"`

	EndsIn   time.Duration `json:"ends_in,omitempty"`  // of a claim: its lease, from Start
	Lifetime time.Duration `json:"lifetime,omitempty"` // of a save: the token's
	Deadline time.Duration `json:"deadline,omitempty"` // of a call
	Took     time.Duration `json:"took,omitempty"`     // of a call: since the signal, with earlier tries of the same caller
	Again    bool          `json:"again,omitempty"`    // of a failed call: the caller asks again
	Blames   string        `json:"blames,omitempty"`   // of a call: the holder whose interrupted exchange the error names
	Text     string        `json:"text,omitempty"`     // of a call: the text of an error that has no class
}

// fingerprint names a token without giving it away; "" for none.
func fingerprint(token credentials.Secret) string {
	if token.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:8])
}

// link is a worker's side of the conversation.
type link struct {
	mu        sync.Mutex
	out       *json.Encoder      // guarded by mu; one write for each line, so that none is torn when the worker is killed
	questions map[int]chan<- act // guarded by mu
	asked     int                // guarded by mu
	orders    chan order         // all but replies
}

func newLink(stdout io.Writer) *link {
	return &link{out: json.NewEncoder(stdout), questions: make(map[int]chan<- act), orders: make(chan order)}
}

func (l *link) say(m message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Encode(m)
}

// record says what was done. If nobody listens, the worker is about to end.
func (l *link) record(r record) { _ = l.say(message{Record: &r}) }

// ask asks what is to happen. The channel gets the answer.
func (l *link) ask(q question) <-chan act {
	answer := make(chan act, 1)
	l.mu.Lock()
	l.asked++
	q.Number = l.asked
	l.questions[q.Number] = answer
	l.mu.Unlock()
	_ = l.say(message{Question: &q})
	return answer
}

func (l *link) reply(o order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answer := l.questions[o.Reply]; answer != nil {
		answer <- o.Act
		delete(l.questions, o.Reply)
	}
}
