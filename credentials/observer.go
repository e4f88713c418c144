package credentials

import (
	"context"
	"time"
)

// Observer has the functions that a manager calls when something happens in its process, for
// metrics and traces; package otelcredentials has one for OpenTelemetry. Each function is optional.
// Further ones may be added, which a program that does not set them does not notice.
//
// The functions of one manager are called one at a time, in the order of the events, in a goroutine
// of their own: no lock is held, a function may call the manager, and no caller of the manager
// waits for one, but for ExchangeBegan. A function that panics, or ends its goroutine, misses that
// event alone; the panic is logged at error level, without its value. While a function does not
// return, the next 10,000 events wait for it and those after them are lost ([Stats].EventsLost).
// Close gives the events that wait a second.
//
// No event holds a token. A revival of grants is no event of a manager: see [Revival].Each.
type Observer struct {
	// ExchangeBegan: this process has a lease, and the exchange under it begins. ctx has the values
	// of the context of the caller that began the call, or of [Keeper.Run]'s. The context that is
	// returned is the refresher's and that of ExchangeEnded, so that a span can be handed on; its
	// deadline and cancellation are not heeded. Nil: ctx. The exchange waits for ExchangeBegan, for
	// a tenth of a second at most.
	ExchangeBegan func(ctx context.Context, e ExchangeInfo) context.Context

	// ExchangeEnded: that exchange has ended, once for each that began. A grant died if e.Outcome
	// is OutcomeFailed and e.Class is ClassDead: of all processes, the one that recorded the death
	// gets that event.
	ExchangeEnded func(ctx context.Context, e ExchangeInfo)

	// SavedLate: a success was saved though the exchange's time was over, since the provider
	// answered after the deadline (ExchangeEnded has come before, with ClassUnknown), or since the
	// process was paused or the store away for longer than the lease (ExchangeEnded follows).
	SavedLate func(ctx context.Context, e ExchangeInfo)

	// CallWaited: callers have waited for an exchange, of this process or of another, and have got
	// a token or an error. ctx has the values of the context of the caller that began the call.
	CallWaited func(ctx context.Context, c CallInfo)

	// StoreDown: the store does not answer, and one call at a time is tried from now on. The error
	// is that of the last call.
	StoreDown func(err error)

	// StoreUp: the store answers again, after that long.
	StoreUp func(after time.Duration)
}

// ExchangeInfo is an exchange as an [Observer] learns of it.
type ExchangeInfo struct {
	Key     Key
	Holder  string    // this process, see [Options].Holder
	Fence   Fence     // no two exchanges have the same
	Trigger Trigger   // why there is an exchange
	Began   time.Time // when its lease was asked for, by this host's clock

	// TookOver names the exchange whose lease this one took over, since its holder seemed dead.
	// Zero: none.
	TookOver Interruption

	// The rest is zero in ExchangeBegan.

	Outcome Outcome
	Ended   time.Time
	Class   Class         // of the failure, whether it was stored or not; "" if there is none
	Err     error         // as callers get it; of OutcomeReleased, the reason; nil if there is none
	Took    time.Duration // how long the provider took; zero: it was not asked
}

// Trigger says why there is an exchange.
type Trigger string

// The triggers.
const (
	TriggerExpired     Trigger = "expired"     // a caller asked, and there was no valid token
	TriggerDue         Trigger = "due"         // a caller asked, and the token was due
	TriggerEarly       Trigger = "early"       // a caller asked for a token that lives longer (TokenFor)
	TriggerInvalidated Trigger = "invalidated" // the API had turned the token down
	TriggerKeeper      Trigger = "keeper"      // the credential was due, asked for or not
)

// Outcome says how an exchange ended.
type Outcome string

// The outcomes.
const (
	OutcomeSaved      Outcome = "saved"      // a success is stored
	OutcomeFailed     Outcome = "failed"     // a failure is stored
	OutcomeUnsaved    Outcome = "unsaved"    // the manager was closed before the result was stored
	OutcomeSuperseded Outcome = "superseded" // the row has something later; the result was dropped
	OutcomeReleased   Outcome = "released"   // nothing was presented, and the lease was given up
)

// CallInfo is a call that callers waited for, as an [Observer] learns of it.
type CallInfo struct {
	Key     Key
	Holder  string        // of the exchange that they waited for; of the first of several
	Callers int           // how many they were
	Took    time.Duration // since the first of them came
	Err     error         // what they got; nil: a token
}
