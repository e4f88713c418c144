package storm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

// Kill is where a holder kills itself.
type Kill string

// The places of a Kill.
const (
	KillAfterClaim Kill = "after-claim" // its claim is committed, and nothing presented yet
	KillInExchange Kill = "exchange"    // the token endpoint works on its request
	KillBeforeSave Kill = "before-save" // it has the provider's answer, and nobody else does
)

// Restart is the step of a holder at which the server is killed and started again.
type Restart string

// The steps of a Restart.
const (
	RestartAtClaim    Restart = "claim"
	RestartInExchange Restart = "exchange"
	RestartAtSave     Restart = "save"
)

// Reuse is what the token endpoint does about a refresh token that was used before.
type Reuse string

// The kinds of Reuse.
const (
	// Grace answers it with new tokens (as Okta, Xero and others do, for a while), so that an interrupted exchange can
	// be made again.
	Grace Reuse = "grace"

	// Revoke takes it for a theft and ends the whole grant (RFC 9700 section 4.14.2).
	Revoke Reuse = "revoke"
)

// Database is a server that a storm may kill and start again; *localmysql.Server is one.
type Database interface {
	Kill()                         // as a power cut would
	Restart(context.Context) error // on the same data and address
}

// ErrNoDatabase is returned by [Run] for a restart of a server that the storm was given no handle on.
var ErrNoDatabase = errors.New("the server cannot be restarted, since it was not started here")

// The leases of a storm with faults are as short as a manager accepts, since a fault is over when the lease is.
const (
	shortExchange = time.Second
	shortStore    = time.Second
	leaseMargin   = time.Second // what a manager wants to spare
)

// chaosLifetime is how long access tokens live under chaos. The provider tells it in whole seconds.
const chaosLifetime = 2 * time.Second

// graceWindow is longer than any storm.
const graceWindow = time.Hour

// Faulty reports whether something is to go wrong on purpose.
func (c Config) Faulty() bool { return c.Kill != "" || c.Pause || c.Restart != "" || c.Chaos }

// fault names what goes wrong.
func (c Config) fault() string {
	switch {
	case c.Kill != "":
		return "kill " + string(c.Kill)
	case c.Pause:
		return "pause"
	case c.Restart != "":
		return "restart " + string(c.Restart)
	case c.Chaos:
		return "chaos"
	}
	return ""
}

// withFaultDefaults completes and checks what concerns faults.
func (c Config) withFaultDefaults() (Config, error) {
	chosen := 0
	for _, is := range []bool{c.Kill != "", c.Pause, c.Restart != "", c.Chaos} {
		if is {
			chosen++
		}
	}
	c.Reuse = cmp.Or(c.Reuse, Grace)
	switch {
	case chosen > 1:
		return c, errors.New("more than one of kill, pause, restart and chaos; choose one")
	case c.Kill != "" && !slices.Contains([]Kill{KillAfterClaim, KillInExchange, KillBeforeSave}, c.Kill):
		return c, fmt.Errorf("kill %q; there are %s, %s and %s", c.Kill, KillAfterClaim, KillInExchange, KillBeforeSave)
	case c.Restart != "" && !slices.Contains([]Restart{RestartAtClaim, RestartInExchange, RestartAtSave}, c.Restart):
		return c, fmt.Errorf("restart %q; there are %s, %s and %s", c.Restart, RestartAtClaim, RestartInExchange, RestartAtSave)
	case c.Reuse != Grace && c.Reuse != Revoke:
		return c, fmt.Errorf("provider %q; there are %s and %s", c.Reuse, Grace, Revoke)
	case chosen > 0 && !canSignal:
		return c, errors.New("faults need signals, which this system does not have")
	case c.Faulty() && c.Latency > 10*time.Second:
		return c, fmt.Errorf("latency %v; with faults at most 10s, since leases last as long", c.Latency)
	case c.Duration < 0 || c.FaultRate < 0 || c.FaultRate > 1:
		return c, fmt.Errorf("duration %v must not be negative, and a fault rate of %v not outside of 0 to 1", c.Duration, c.FaultRate)
	case c.Chaos && c.Processes < 2:
		return c, errors.New("chaos needs at least 2 processes")
	}
	return c, nil
}

// exchangeTimeout and lease are the managers' in a storm with faults.
func (c Config) exchangeTimeout() time.Duration { return max(shortExchange, 2*c.Latency) }
func (c Config) lease() time.Duration           { return c.exchangeTimeout() + shortStore + leaseMargin }

// providerOptions are the token endpoint's.
func (c Config) providerOptions(secret string) provider.Options {
	options := provider.Options{Latency: c.Latency, ClientID: clientID, ClientSecret: secret, Seed: c.Seed}
	if c.Faulty() && c.Reuse == Grace {
		options.Grace = graceWindow
	}
	if c.Chaos {
		options.Lifetime = chaosLifetime
	}
	if c.Lifetimes > 0 {
		options.Lifetime, options.EndOldAccessToken = c.Lifetime, true
	}
	return options
}

// point is a step of a holder at which something can be made to happen.
type point string

const (
	pointClaim    point = "claim"    // before it claims
	pointClaimed  point = "claimed"  // the claim is committed
	pointExchange point = "exchange" // the request has been sent
	pointSave     point = "save"     // before it saves
)

// point returns the step that the fault waits for; "" under chaos, which waits for none.
func (c Config) point() point {
	switch {
	case c.Kill == KillAfterClaim:
		return pointClaimed
	case c.Kill == KillInExchange, c.Pause, c.Restart == RestartInExchange:
		return pointExchange
	case c.Kill == KillBeforeSave, c.Restart == RestartAtSave:
		return pointSave
	case c.Restart == RestartAtClaim:
		return pointClaim
	}
	return ""
}
