package storm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Kill is the place at which a holder is killed.
type Kill string

// The places of a Kill.
const (
	KillAfterClaim Kill = "after-claim" // The claim is committed, and nothing is presented yet.
	KillInExchange Kill = "exchange"    // The token endpoint works on the request.
	KillBeforeSave Kill = "before-save" // Only the holder has the provider's answer.
)

// Restart is the step of a holder at which the server is killed and started again.
type Restart string

// The steps of a Restart.
const (
	RestartAtClaim    Restart = "claim"
	RestartInExchange Restart = "exchange"
	RestartAtSave     Restart = "save"
)

// Reuse is the token endpoint's answer to a refresh token that was used before.
type Reuse string

// The kinds of Reuse.
const (
	// Grace answers with new tokens (as Okta, Xero and others do, for a while), so that an
	// interrupted exchange can be made again.
	Grace Reuse = "grace"

	// Revoke takes the reuse for a theft and ends the whole grant (RFC 9700 section 4.14.2).
	Revoke Reuse = "revoke"
)

// Database is a server that a storm may kill and start again; *localmysql.Server is one.
type Database interface {
	Kill()                         // Kill works as a power cut would.
	Restart(context.Context) error // Restart keeps the data and the address.
	Freeze() error                 // Freeze stops the server, with its connections open.
	Thaw() error
}

// ErrNoDatabase is returned by [Run] for a restart or an outage of a server that the storm was
// given no handle on.
var ErrNoDatabase = errors.New(
	"the server cannot be restarted or taken away, since it was not started here")

// leaseMargin is the part of a lease that a manager wants to spare.
const leaseMargin = time.Second

// chaosLifetime is how long access tokens live under chaos. The provider tells it in whole seconds.
const chaosLifetime = 2 * time.Second

// graceWindow is longer than any storm.
const graceWindow = time.Hour

// Faulty reports whether the storm has faults.
func (c Config) Faulty() bool { return c.Kill != "" || c.Pause || c.Restart != "" || c.Chaos }

// fault names the fault.
func (c Config) fault() string {
	switch {
	case c.Kill != "":
		return "kill " + string(c.Kill)
	case c.Pause:
		return "pause"
	case c.Restart != "":
		return "restart " + string(c.Restart)
	}
	return "chaos"
}

// checkFaults returns an error that says which fields about faults are wrong.
func (c Config) checkFaults() error {
	chosen := 0
	for _, is := range []bool{c.Kill != "", c.Pause, c.Restart != "", c.Chaos} {
		if is {
			chosen++
		}
	}
	switch {
	case chosen > 1:
		return errors.New("more than one of kill, pause, restart and chaos; choose one")
	case c.Kill != "" && steps[c.fault()] == "":
		return fmt.Errorf("kill %q; there are after-claim, exchange and before-save", c.Kill)
	case c.Restart != "" && steps[c.fault()] == "":
		return fmt.Errorf("restart %q; there are claim, exchange and save", c.Restart)
	case c.Reuse != Grace && c.Reuse != Revoke:
		return fmt.Errorf("provider %q; there are %s and %s", c.Reuse, Grace, Revoke)
	case chosen > 0 && !canSignal:
		return errors.New("faults need signals, which this system does not have")
	case c.Faulty() && c.Latency > 10*time.Second:
		return fmt.Errorf("latency %v; with faults at most 10s, since leases last as long", c.Latency)
	case c.Outage < 0:
		return fmt.Errorf("outage %v must not be negative", c.Outage)
	case c.Outage > 0 && !c.Chaos && c.Restart == "":
		return errors.New("an outage is for chaos and restart")
	case c.Duration < 0 || c.FaultRate < 0 || c.FaultRate > 1:
		return fmt.Errorf("duration %v must not be negative, "+
			"and a fault rate of %v not outside of 0 to 1", c.Duration, c.FaultRate)
	case c.Chaos && c.Processes < 2:
		return errors.New("chaos needs at least 2 processes")
	}
	return nil
}

// exchangeTimeout and lease are the managers' in a storm with faults.
func (c Config) exchangeTimeout() time.Duration {
	return max(wire.MinExchangeTimeout, 2*c.Latency)
}

func (c Config) lease() time.Duration {
	return c.exchangeTimeout() + wire.StoreTimeout + leaseMargin
}

// steps has the step of a holder that each fault waits for. Chaos waits for none.
var steps = map[string]wire.Step{
	"kill after-claim": wire.AfterClaim, "kill exchange": wire.InExchange,
	"kill before-save": wire.BeforeSave, "pause": wire.InExchange, "restart claim": wire.BeforeClaim,
	"restart exchange": wire.InExchange, "restart save": wire.BeforeSave,
}
