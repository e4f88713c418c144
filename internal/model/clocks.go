package model

import (
	"time"

	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// clocks are those of the store's nodes: that of the node which half of the processes talk to may
// be ahead of the others', and all of them may be set. Cells of the model count by them; everything
// else counts in the time that has really passed.
type clocks struct {
	set           time.Duration // the clocks of all nodes were set forward by that much in all
	forward, back time.Time     // when they were last set that way
	tooLong       time.Duration // by how much a token in the store may seem to live too long
}

// ahead is how far the clock of the node that serves the process is from the time that has passed;
// the person who puts and deletes has no process.
func (w *world) ahead(p *process) time.Duration {
	if p != nil && p.index%2 == 1 {
		return w.clocks.set + w.plan.Ahead
	}
	return w.clocks.set
}

// clock is the time by the clock of the node that serves the process.
func (w *world) clock(p *process) time.Time { return time.Now().Add(w.ahead(p)) }

// node is the store as the process reaches it.
func (w *world) node(p *process) *memstore.Store { return w.db.Node(w.ahead(p)) }

func (x SetClock) do(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.clocks.set += x.By
	if x.By > 0 {
		w.clocks.forward = now
		w.mayLose("the store's clock was set forward")
	} else {
		w.clocks.back = now
		w.clocks.tooLong -= x.By
	}
	w.troubled = now
	w.ClocksSet++
}

// setSince reports whether the clocks were set since the token was stored: processes then disagree
// about its end.
func (c clocks) setSince(token *commit) bool {
	return token != nil && later(c.forward, c.back).After(token.since())
}

// tooLong is by how much tokens may seem to live longer than they do: a clock that is set back, or
// that is behind the one by which the end was written, cannot know it.
func (w *world) tooLong() time.Duration { return w.clocks.tooLong + w.plan.Ahead }
