package model

import (
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// settle lets all trouble end and everybody do what they still have to, and then looks at what is
// left: every caller has its answer, every process gives the token that is stored, or the error
// that the row has; nothing is lost.
func (w *world) settle() {
	w.note("— at rest")
	w.mu.Lock()
	for _, a := range w.accounts {
		clear(a.faults)
	}
	w.mu.Unlock()
	// Troubles are over, saves and failures recorded, leases of the dead ended.
	time.Sleep(2*patience + 2*time.Minute)
	for _, a := range w.accounts {
		w.mu.Lock()
		retry, ahead := a.cell.failure.retry, w.ahead(nil)
		w.mu.Unlock()
		if !retry.never {
			time.Sleep(time.Until(retry.to.Add(-ahead)) + time.Second)
		}
	}
	synctest.Wait()
	w.isBroken()

	// The first look renews what is due, the later ones see what has become of it.
	var callers []*caller
	for range 4 {
		callers = w.crowd(0)
		time.Sleep(w.plan.Latency + w.longest() + 3*time.Second + 2*grace)
	}
	w.mu.Lock()
	for _, c := range callers {
		w.final(c)
	}
	w.mu.Unlock()
	for _, p := range w.processes {
		w.mu.Lock()
		p.closing = true
		w.mu.Unlock()
		w.close(p, time.Minute)
	}
	for _, p := range w.processes {
		w.mu.Lock()
		if p.gone {
			w.breaks(broken("at rest, Close has nothing to wait for", "%s", p.name))
		}
		w.mu.Unlock()
	}
	for _, p := range w.all {
		w.mu.Lock()
		if !p.gone {
			w.allStored(p)
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.accounts {
		w.nothingLost(a) // not before: a token may just have been due, and its exchange be under way
	}
}

// longest is how long a waiter may leave it until it looks.
func (w *world) longest() (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.accounts {
		d = max(d, a.longest)
	}
	return min(d, lease)
}

// final looks at what a caller gets when all is well. w.mu is held.
func (w *world) final(c *caller) {
	cell := c.a.cell
	switch {
	case !c.done && !w.plan.futile():
		w.breaks(broken("at rest, every caller has an answer", "%s, %s", c.by.name, c.a.key))
	case cell.exists && cell.failure.class == credentials.ClassDead || !cell.exists:
		// A process may serve what is still valid, if the row is there.
		if c.err == nil && !cell.exists {
			w.breaks(broken("at rest, what was deleted is not served", "%s, %s", c.by.name, c.a.key))
		}
	case w.plan.futile(): // nobody can have a token
	case c.err != nil:
		w.breaks(broken("at rest, every caller has a token", "%s, %s: %v", c.by.name, c.a.key, c.err))
	default:
		commit := c.a.committed[c.token.Value.Reveal()]
		if commit != nil && !commit.replaced.IsZero() && c.at.Sub(commit.replaced) > 2*credentials.DefaultRecheck {
			w.breaks(broken("at rest, every process has the token that is stored", "%s, %s: replaced %v ago", c.by.name, c.a.key, c.at.Sub(commit.replaced)))
		}
	}
}

// nothingLost: the row has the refresh token that works, unless its holder died with it. w.mu is
// held.
func (w *world) nothingLost(a *account) {
	f, c := a.family, a.cell
	if !c.exists || w.late[f] {
		w.Late++
		return
	}
	if c.failure.class == credentials.ClassDead && c.failure.code == "invalid_grant" && w.provider.RefreshToken(c.refresh).Works() {
		w.breaks(broken("invariant 5: no living grant is called dead", "at rest: %s, %s", a.key, c.refresh))
	}
	if left := w.find(a.key, c); left != nil && !w.excused(left, time.Now()) {
		w.breaks(broken("a lease lapses for a reason", "at rest: %s, %s", a.key, left.by.name))
	}
	lost := f.Revoked || c.failure.class == credentials.ClassDead || c.refresh != f.Newest.Text
	if lost && a.mayLose == "" {
		w.breaks(broken("no grant is lost while every process lives, however long the store was away",
			"%s has %s, and %s is the newest; revoked: %t; %+v", a.key, c.refresh, f.Newest.Text, f.Revoked, c.failure))
	}
	if f.Revoked || c.refresh == f.Newest.Text {
		return
	}
	if by := w.handedTo[f.Newest]; by != nil && by.answered && !by.by.gone {
		w.breaks(broken("invariant 4: the newest refresh token is not lost", "%s has %s, and %s got %s", a.key, c.refresh, by.by.name, f.Newest.Text))
		return
	}
	w.Lost++
}
