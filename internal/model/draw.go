package model

import (
	"time"

	"pgregory.net/rapid"

	"github.com/latchkey-go/latchkey/credentials"
)

// The values that are drawn, simplest first, since cases shrink to the front. The durations lie
// around those of the protocol: 1 ms for the way to the store, 200 ms for an exchange, 5 s for a
// call of the store, 15 s for an exchange at most, 30 s for a lease, 5 min of soft expiry.
var (
	latencies = []time.Duration{200 * time.Millisecond, 0, 5 * time.Second}
	lifetimes = []time.Duration{10 * time.Minute, time.Hour, 3 * time.Minute}
	graces    = []time.Duration{time.Minute, 10 * time.Second}
	deadlines = []time.Duration{0, 0, 150 * time.Millisecond, time.Millisecond, 2 * time.Second, 20 * time.Second}
	sleeps    = []time.Duration{
		time.Millisecond, 10 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second, 6 * time.Second, 17 * time.Second,
		31 * time.Second, 65 * time.Second, 10 * time.Minute,
	}
	troubles = []time.Duration{time.Second, 100 * time.Millisecond, 4 * time.Second, 10 * time.Second, 22 * time.Second, 31 * time.Second, 70 * time.Second}
	outages  = []time.Duration{
		40 * time.Second, 90 * time.Second, 33 * time.Second, 28 * time.Second, 14 * time.Second, 4 * time.Second,
	}
	lags   = []time.Duration{12 * time.Second, time.Second, 100 * time.Millisecond, 40 * time.Second}
	shifts = []time.Duration{time.Millisecond, 0, -2 * time.Millisecond, 60 * time.Millisecond, -300 * time.Millisecond, time.Second}

	settings = []time.Duration{-time.Hour, time.Hour, -10 * time.Minute, 40 * time.Second, -40 * time.Second}

	events = []Event{Expiry, Due, LeaseEnd, BackOffEnd}

	callTroubles = []Trouble{
		Refused, LostReply, SlowRequest, SlowReply, PausedBefore, PausedAfter, KilledBefore, KilledAfter, Late,
	}
	refreshTroubles = append([]Trouble{Busy, Stubborn, Panicking}, callTroubles...)
	storeTroubles   = append(callTroubles, Locked, AwayBefore, AwayAfter)
	outageKinds     = []Trouble{Refused, Silent, Frozen, LostReply, ReadOnly}
)

// kinds says how often which action is drawn.
var kinds = func() (list []func(*rapid.T, Plan) Action) {
	for _, kind := range []struct {
		weight int
		draw   func(t *rapid.T, p Plan) Action
	}{
		{6, func(t *rapid.T, p Plan) Action { return Ask{p.process(t), p.key(t), pick(t, deadlines)} }},
		{5, func(t *rapid.T, p Plan) Action { return Sleep{pick(t, sleeps)} }},
		{5, func(t *rapid.T, p Plan) Action { return Until{p.key(t), pick(t, events), pick(t, shifts)} }},
		{3, func(t *rapid.T, p Plan) Action { return Renew{p.process(t)} }},
		{2, func(t *rapid.T, p Plan) Action { return Invalidate{p.process(t), p.key(t), pick(t, deadlines)} }},
		{4, func(t *rapid.T, p Plan) Action {
			return fault(t, p.key(t), Refresh, refreshTroubles)
		}},
		{6, func(t *rapid.T, p Plan) Action {
			at := pick(t, []Op{Save, Claim, ClaimDue, Fail, Get, Release, Versions})
			return fault(t, p.key(t), at, storeTroubles)
		}},
		{2, func(t *rapid.T, p Plan) Action {
			return Fault{K: p.key(t), At: pick(t, []Op{Get, Versions}), Is: Behind, For: pick(t, outages)}
		}},
		{1, func(t *rapid.T, p Plan) Action { return Pause{p.process(t), pick(t, troubles)} }},
		{1, func(t *rapid.T, p Plan) Action { return Kill{p.process(t)} }},
		{1, func(t *rapid.T, p Plan) Action { return Exit{p.process(t), pick(t, append(troubles, 0, 0))} }},
		{1, func(t *rapid.T, p Plan) Action { return SetClock{pick(t, settings)} }},
		{2, func(t *rapid.T, p Plan) Action {
			return Down{pick(t, outages), pick(t, outageKinds)}
		}},
		{1, func(t *rapid.T, p Plan) Action { return Cut{p.process(t), pick(t, outages), pick(t, outageKinds)} }},
		{2, func(t *rapid.T, p Plan) Action { return Lag{p.process(t), pick(t, lags), pick(t, outages)} }},
		{1, func(t *rapid.T, p Plan) Action { return Put{p.key(t), rapid.Bool().Draw(t, "token")} }},
		{1, func(t *rapid.T, p Plan) Action { return Delete{p.key(t), rapid.Bool().Draw(t, "again")} }},
		{1, func(t *rapid.T, p Plan) Action { return Revoke{p.key(t)} }},
	} {
		for range kind.weight {
			list = append(list, kind.draw)
		}
	}
	return list
}()

// crowded draws an outage that begins while several processes have exchanges under way.
func (p Plan) crowded(t *rapid.T) []Action {
	return []Action{
		Until{K: p.key(t), What: Expiry, Plus: time.Millisecond},
		Crowd{},
		Sleep{pick(t, []time.Duration{100 * time.Millisecond, time.Millisecond, 3 * time.Millisecond, 203 * time.Millisecond})},
		Down{pick(t, outages), pick(t, outageKinds)},
	}
}

// turnedDown draws a token that a process gets and reports, when it is old or too young.
func (p Plan) turnedDown(t *rapid.T) []Action {
	process, key := p.process(t), p.key(t)
	return []Action{
		Ask{process, key, 0},
		Sleep{pick(t, []time.Duration{31 * time.Second, 250 * time.Millisecond})},
		Invalidate{process, key, 0},
	}
}

// fault draws what a call meets.
func fault(t *rapid.T, k int, at Op, kinds []Trouble) Action {
	f := Fault{K: k, At: at, Is: pick(t, kinds)}
	if f.Is == AwayBefore || f.Is == AwayAfter {
		f.For, f.As = pick(t, outages), pick(t, outageKinds)
	} else {
		f.For = pick(t, troubles)
	}
	return f
}

func pick[T any](t *rapid.T, from []T) T { return rapid.SampledFrom(from).Draw(t, "pick") }

func (p Plan) process(t *rapid.T) int { return rapid.IntRange(0, p.Processes-1).Draw(t, "process") }

func (p Plan) key(t *rapid.T) int { return rapid.IntRange(0, p.Keys-1).Draw(t, "key") }

// draw draws a plan. It is drawn as a whole before anything is done, so that it can be tried
// several times and written down; the number of actions follows -rapid.steps.
func draw(t *rapid.T, mode Mode, replay credentials.Replay) Plan {
	p := Plan{
		Processes: rapid.IntRange(1, 4).Draw(t, "processes"),
		Keys:      rapid.IntRange(1, 3).Draw(t, "keys"),
		Provider:  mode,
		Latency:   pick(t, latencies),
		Lifetime:  pick(t, lifetimes),
		Replay:    replay,
	}
	if mode == Graceful {
		p.Grace = pick(t, graces)
	}
	switch rapid.IntRange(0, 11).Draw(t, "peculiarity") {
	case 8:
		p.Same = true
	case 9:
		p.Lifetime, p.Saving = time.Second, 1500*time.Millisecond
	case 10:
		p.Ahead = pick(t, []time.Duration{2 * time.Second, 5 * time.Second})
	case 11:
		p.Ahead, p.Latency = 40*time.Second, latencies[0]
	}
	t.Repeat(map[string]func(*rapid.T){
		"step": func(t *rapid.T) {
			switch rapid.IntRange(0, 9).Draw(t, "scene") {
			case 8:
				p.Actions = append(p.Actions, p.turnedDown(t)...)
			case 9:
				p.Actions = append(p.Actions, p.crowded(t)...)
			}
			p.Actions = append(p.Actions, pick(t, kinds)(t, p))
		},
	})
	return p
}
