package wire

import "time"

// The timeouts of a storm with faults are as short as a manager accepts, since a fault lasts as
// long as a lease.
const (
	MinExchangeTimeout = time.Second
	StoreTimeout       = time.Second
)

// Job is the first line that the parent sends to a worker.
type Job struct {
	Worker   int           `json:"worker"` // The first worker is 1.
	DSN      string        `json:"dsn"`
	Pool     int           `json:"pool"`
	Service  string        `json:"service"`
	Accounts []string      `json:"accounts"`
	Threads  int           `json:"threads"`
	First    int           `json:"first"` // The first round: 1, or later in place of a dead worker.
	Rounds   int           `json:"rounds"`
	Latency  time.Duration `json:"latency"`

	TokenURL     string `json:"token_url"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`

	// Keyset is the JSON of the keys under which the worker seals tokens. Empty: tokens are stored
	// as they are.
	Keyset string `json:"keyset,omitempty"`

	// AskFor is how long the threads ask in a storm over several lifetimes, and Pace is each
	// thread's pause between two calls.
	AskFor time.Duration `json:"ask_for,omitempty"`
	Pace   time.Duration `json:"pace,omitempty"`

	// The remaining fields are for a storm with faults.
	Faulty          bool          `json:"faulty,omitempty"`
	Step            Step          `json:"step,omitempty"` // The worker asks a question at this step.
	Chaos           bool          `json:"chaos,omitempty"`
	Seed            uint64        `json:"seed,omitempty"`
	ExchangeTimeout time.Duration `json:"exchange_timeout,omitempty"`
	Lease           time.Duration `json:"lease,omitempty"`
	Outage          time.Duration `json:"outage,omitempty"`
}

// CallLimit bounds one caller's wait far above any legitimate wait: a caller that reaches the limit
// hangs.
func (j Job) CallLimit() time.Duration {
	return 30*time.Second + 2*j.Latency + 3*j.Lease + j.Outage
}
