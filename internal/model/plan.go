package model

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Plan is a case: a world and what is done in it, one after the other. Everything in it was drawn,
// and nothing else is, apart from the jitters of the protocol and the order in which goroutines
// run. String writes it as Go.
type Plan struct {
	Processes, Keys int

	Provider Mode
	Grace    time.Duration      // of a provider that is Graceful
	Latency  time.Duration      // how long the provider takes
	Lifetime time.Duration      // of its tokens
	Replay   credentials.Replay // of every service
	Same     bool               // the provider sends the access token again that it sent before
	Saving   time.Duration      // how long a save is on its way
	Ahead    time.Duration      // of the clock of the node that every other process talks to

	Actions []Action
}

// Mode is what a provider does about refresh tokens that were used.
type Mode string

// The modes, from the strictest.
const (
	Revokes  Mode = "Revokes"  // one that comes back ends the family (RFC 9700 section 4.14.2)
	Refuses  Mode = "Refuses"  // one that comes back is refused, and the newest works on
	Graceful Mode = "Graceful" // one that comes back soon gets a new answer; later, it ends the family
	Keeps    Mode = "Keeps"    // refresh tokens do not rotate
)

// Action is one step of a plan. Processes and credentials are numbers from 0.
type Action interface{ do(w *world) }

type (
	// Ask has a caller of process P ask for the token of credential K.
	Ask struct {
		P, K   int
		Within time.Duration // the deadline of its context; zero: none
	}

	// Crowd has callers of every process ask for everything.
	Crowd struct{}

	// Invalidate has a caller report the token that this process got last, if it got one: the API
	// turned it down.
	Invalidate struct {
		P, K   int
		Within time.Duration
	}

	// Renew has process P renew what is due, as a cron job does.
	Renew struct{ P int }

	// Put has a person authorize the account again, and puts the new grant, with an access token or
	// without.
	Put struct {
		K     int
		Token bool
	}

	// Delete deletes the credential; with Again, it is put at once.
	Delete struct {
		K     int
		Again bool
	}

	// Revoke has a person withdraw the authorization at the provider.
	Revoke struct{ K int }

	// Sleep lets time pass.
	Sleep struct{ For time.Duration }

	// Until lets time pass until shortly before or after something is to happen, if it is.
	Until struct {
		K    int
		What Event
		Plus time.Duration
	}

	// Pause stops a process, as SIGSTOP does: what it calls and what it is answered waits until it
	// goes on.
	Pause struct {
		P   int
		For time.Duration
	}

	// Kill ends a process, as SIGKILL does. Another takes its place.
	Kill struct{ P int }

	// Exit ends a process in the normal way, with Manager.Close. Another takes its place at once.
	// Within zero, the context of Close has already ended.
	Exit struct {
		P      int
		Within time.Duration
	}

	// Down has the store go away from all processes. Callers of each go on asking for everything
	// meanwhile, and for a while when it is back.
	Down struct {
		For time.Duration
		As  Trouble // Refused, Silent, Frozen, LostReply or ReadOnly; empty: Refused
	}

	// Lag has the reads of process P answered by a node that is By behind, for that long: a replica
	// behind a proxy that splits reads from writes.
	Lag struct {
		P       int
		By, For time.Duration
	}

	// Cut has the store go away from process P alone.
	Cut struct {
		P   int
		For time.Duration
		As  Trouble // as for Down
	}

	// SetClock sets the store's clock, forward or back.
	SetClock struct{ By time.Duration }

	// Fault is met by the next call of that kind about credential K, whichever process makes it.
	Fault struct {
		K   int
		At  Op
		Is  Trouble
		For time.Duration
		As  Trouble // of AwayBefore and AwayAfter, as for Down
	}
)

// Event is something to wait for.
type Event string

// The events. Each may lie in the past, or never come: then nobody waits.
const (
	Due        Event = "Due"
	Expiry     Event = "Expiry"
	LeaseEnd   Event = "LeaseEnd"
	BackOffEnd Event = "BackOffEnd"
)

// Trouble is what a call may meet.
type Trouble string

// The troubles. Those that last do so for the fault's For.
const (
	Refused   Trouble = "Refused"   // no effect, an error
	LostReply Trouble = "LostReply" // it took effect, an error

	SlowRequest Trouble = "SlowRequest" // it takes a while to have an effect; none, if the caller gives up first
	SlowReply   Trouble = "SlowReply"   // it took effect, and the reply takes a while
	Late        Trouble = "Late"        // the caller gets an error, and later on it takes effect all the same

	PausedBefore Trouble = "PausedBefore" // the process is stopped, and goes on to make the call
	PausedAfter  Trouble = "PausedAfter"  // it took effect; the process is stopped, and goes on to read the reply

	KilledBefore Trouble = "KilledBefore"
	KilledAfter  Trouble = "KilledAfter"

	Locked Trouble = "Locked" // another transaction holds the row for a while: no effect, an error that says so

	AwayBefore Trouble = "AwayBefore" // the store goes away from all processes as the call arrives
	AwayAfter  Trouble = "AwayAfter"  // it took effect; the store goes away with its reply

	Behind Trouble = "Behind" // of Get and Versions: the answer is that of a node that is For behind

	// Of an outage alone:

	Silent   Trouble = "Silent"   // nothing is answered and nothing has an effect: a cable is cut
	Frozen   Trouble = "Frozen"   // nothing is answered; all that was sent takes effect at the end
	ReadOnly Trouble = "ReadOnly" // reads are answered, writes are refused

	// Of Refresh alone:

	Busy      Trouble = "Busy"      // refused, with a Retry-After
	Stubborn  Trouble = "Stubborn"  // the rotation took effect; the refresher then ignores its context for a while
	Panicking Trouble = "Panicking" // the rotation took effect; the refresher panics
)

// futile reports whether tokens expire before they are saved: no caller can get one.
func (p Plan) futile() bool { return p.Lifetime <= p.Saving }

// String writes the plan as Go, to be kept as a case.
func (p Plan) String() string {
	var b strings.Builder
	b.WriteString("model.Plan{\n")
	v := reflect.ValueOf(p)
	for i := range v.NumField() - 1 {
		if field := v.Field(i); !field.IsZero() {
			fmt.Fprintf(&b, "\t%s: %s,\n", v.Type().Field(i).Name, code(field))
		}
	}
	b.WriteString("\tActions: []model.Action{\n")
	for _, a := range p.Actions {
		v := reflect.ValueOf(a)
		var fields []string
		for i := range v.NumField() {
			if field := v.Field(i); !field.IsZero() {
				fields = append(fields, v.Type().Field(i).Name+": "+code(field))
			}
		}
		fmt.Fprintf(&b, "\t\tmodel.%s{%s},\n", v.Type().Name(), strings.Join(fields, ", "))
	}
	b.WriteString("\t},\n}")
	return b.String()
}

// code writes a field's value as Go.
func code(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		if value%time.Second == 0 {
			return fmt.Sprintf("%d*time.Second", value/time.Second)
		}
		return fmt.Sprintf("%d*time.Millisecond", value/time.Millisecond)
	case Op, Event, Trouble, Mode:
		return fmt.Sprintf("model.%v", value)
	case credentials.Replay:
		return "credentials.NeverReplay"
	default:
		return fmt.Sprintf("%v", value)
	}
}
