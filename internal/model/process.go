package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// process is a manager with its own way to the store and to the provider. world.mu guards its
// fields.
type process struct {
	w      *world
	index  int
	name   string
	m      *credentials.Manager
	keeper *credentials.Keeper

	killed  bool
	closing bool
	left    bool          // closed while the store was in trouble, perhaps with a claim whose reply was lost
	gone    bool          // killed, or closed with results that could not be saved
	stopped time.Time     // until then
	second  time.Time     // when the present stretch of steps began
	steps   map[Op]int    // since then
	pauses  time.Duration // all of them so far

	troubled time.Time              // when it was last paused, or the like
	troubles map[*account]time.Time // when a call of its store about that last met trouble
	provider map[*account]time.Time // when a call of its provider about that last met trouble
	cut      outage                 // of its own way to the store
	lag      time.Duration          // of the node that answers its reads
	lags     time.Time              // until when it does
	health   health
	seen     map[string]sighting // by the lease's ID
	unasked  map[*account]int    // exchanges in a row that no caller waited for
	given    map[*account]given
	last     map[*account]got
	cached   map[*account]cached
}

// got is a token that a caller got, and when.
type got struct {
	credentials.Token
	at time.Time
}

// given is the newest token that any caller of a process got.
type given struct {
	credentials.TokenID
	at, expiry time.Time
	paused     time.Duration // of the process before
}

// cached is a token that a process must have in its cache, as it gave it to a caller.
type cached struct {
	token       string
	at, expires time.Time
}

// errGone is what the dead are told at the end of the world.
var errGone = errors.New("the process is dead")

func unavailable(why string) error { return fmt.Errorf("%w: %s", credentials.ErrUnavailable, why) }

// start has a process take that place. w.mu is held, or nobody else is there yet.
func (w *world) start(index int) {
	p := &process{
		w: w, index: index, name: fmt.Sprintf("%c%d", 'A'+index, len(w.all)),
		troubles: make(map[*account]time.Time), provider: make(map[*account]time.Time),
		seen:    make(map[string]sighting),
		unasked: make(map[*account]int), given: make(map[*account]given),
		last: make(map[*account]got), cached: make(map[*account]cached),
	}
	services := credentials.Services{"github": {Refresher: p, Replay: w.plan.Replay}}
	m, err := credentials.NewManager(testkit.StoreFunc(p.call), services, &credentials.Options{
		Holder: p.name, Logger: slog.New(slog.NewTextHandler(leak{w}, nil)),
	})
	if err != nil {
		panic(err)
	}
	keeper, err := credentials.NewKeeper(m, nil)
	if err != nil {
		panic(err)
	}
	p.m, p.keeper = m, keeper
	w.processes[index] = p
	w.all = append(w.all, p)
}

// leak is where logs go. It looks for secrets.
type leak struct{ w *world }

func (l leak) Write(line []byte) (int, error) {
	if strings.Contains(string(line), mark) {
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		l.w.breaks(broken("invariant 14: no secret in a log", "%s", line))
	}
	return len(line), nil
}

// Bounds of the calls of one kind that a process may make within a second. Fake time does not pass
// while a process computes: a process that spins would do so for ever.
const (
	maxReads  = 1500
	maxWrites = 200
)

// spins notes a call, and breaks the run where there are too many. w.mu is held.
func (p *process) spins(kind Op) {
	if now := time.Now(); now.Sub(p.second) >= time.Second {
		p.second, p.steps = now, make(map[Op]int)
	}
	most := maxWrites
	if kind.Reads() {
		most = maxReads
	}
	if p.steps[kind]++; p.steps[kind] > most {
		p.w.breaks(broken("no process spins", "%s within a second: %v", p.name, p.steps))
		p.killed, p.gone = true, true
	}
}

// step is where a process can be stopped: false if it will never go on.
func (p *process) step() bool {
	for waited := false; ; waited = true {
		p.w.mu.Lock()
		dead, until := p.killed, p.stopped
		if waited {
			p.troubleAll()
		}
		p.w.mu.Unlock()
		if dead {
			<-p.w.over
			return false
		}
		if wait := time.Until(until); wait > 0 {
			time.Sleep(wait)
		} else {
			return true
		}
	}
}

// pause stops the process. w.mu is held.
func (p *process) pause(d time.Duration) {
	now := time.Now()
	p.troubleAll()
	p.w.mayLose("a process was paused")
	if until := now.Add(d); until.After(p.stopped) {
		p.pauses += until.Sub(later(now, p.stopped))
		p.stopped = until
		p.w.troubled = later(p.w.troubled, until)
	}
}

// paused is how long the process was stopped so far. w.mu is held.
func (p *process) paused() time.Duration { return p.pauses - max(time.Until(p.stopped), 0) }

// kill ends the process, and another takes its place. w.mu is held.
func (p *process) kill() {
	if p.killed {
		return
	}
	p.w.Kills++
	p.w.noteLocked("%s is killed", p.name)
	p.troubleAll()
	p.w.mayLose("a process was killed")
	p.killed, p.gone = true, true
	for _, c := range p.w.callers {
		if c.by == p {
			c.void = true
		}
	}
	if p.w.processes[p.index] == p {
		p.w.start(p.index)
	}
}

// troubleAll marks trouble of the whole process. w.mu is held.
func (p *process) troubleAll() {
	p.troubled = time.Now()
	p.w.troubled = later(p.w.troubled, p.troubled)
}

// trouble marks trouble of a call. w.mu is held.
func (p *process) trouble(a *account, kind Op) {
	now := time.Now()
	a.troubled = now
	if kind == Refresh {
		p.provider[a] = now
		return
	}
	p.troubles[a] = now
	switch kind {
	case GetAll, Versions, ClaimAll, ClaimDue, DueServices: // which are about several rows at once
		p.troubleAll()
	}
}

// lastTrouble is when something last went wrong that this process would notice where that
// credential is concerned. w.mu is held.
func (p *process) lastTrouble(a *account) time.Time {
	return later(p.hindered(a), later(p.provider[a], p.w.away.until))
}

// anyTrouble is lastTrouble for any credential: an outage shows at the calls about one, and keeps
// the process from asking about the others. w.mu is held.
func (p *process) anyTrouble() (last time.Time) {
	for _, a := range p.w.accounts {
		last = later(last, p.lastTrouble(a))
	}
	return last
}

// hindered is when something last kept this process, and not all of them, from the credential's
// row. w.mu is held.
func (p *process) hindered(a *account) time.Time {
	return later(later(p.troubled, p.stopped), later(p.troubles[a], p.cut.until))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// meets takes the fault that is due at such a call; the zero Fault if there is none. w.mu is not
// held.
func (p *process) meets(a *account, kind Op) Fault {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	made := kind
	switch kind {
	case GetAll:
		kind = Get
	case ClaimAll:
		kind = Claim
	}
	faults := a.faults[kind]
	if len(faults) == 0 {
		return Fault{}
	}
	a.faults[kind] = faults[1:]
	p.w.noteLocked("%s meets %s at %s", p.name, faults[0].Is, made)
	p.trouble(a, made)
	switch is := faults[0].Is; {
	case kind == Refresh && is != Refused && is != Busy:
		p.w.mayLose("nobody knows the outcome of an exchange", a)
	case is == Late && (kind == Claim || kind == ClaimDue):
		// Of any row: one call may claim several.
		p.w.mayLose("a claim was made when its process had given it up")
	}
	return faults[0]
}

// under runs f with the world's lock held.
func (p *process) under(f func()) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	f()
}

// sleep returns whether ctx lasted as long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
