package model

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// caller is someone who asks for a token, and what becomes of that. world.mu guards its fields.
type caller struct {
	by         *process
	a          *account
	turnedDown string    // the token it reports; "" if it asks
	gotAt      time.Time // when it got that token
	deadline   time.Time

	start  time.Time
	leased bool          // a lease stood in the row when it asked
	owed   bool          // an exchange had been interrupted then, whose holder may not have had its time to save
	paused time.Duration // of its process before
	void   bool          // its process was killed
	done   bool
	at     time.Time // when
	token  credentials.Token
	err    error
}

// ask has a caller ask, or report a token, in a goroutine of its own.
func (w *world) ask(p *process, a *account, turnedDown got, within time.Duration) *caller {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	c := &caller{
		by: p, a: a, turnedDown: turnedDown.Value.Reveal(), gotAt: turnedDown.at,
		start: now, leased: a.cell.lease.id != "", owed: a.cell.interrupted != "", paused: p.paused(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	if within > 0 {
		c.deadline = now.Add(within)
		ctx, cancel = context.WithDeadline(context.Background(), c.deadline)
	}
	if c.turnedDown != "" {
		a.turnedDown[c.turnedDown] = true
		delete(p.cached, a)
	}
	p.unasked[a] = 0
	w.callers = append(w.callers, c)
	w.live.Go(func() {
		defer cancel()
		var token credentials.Token
		var err error
		if c.turnedDown == "" {
			token, err = p.m.Token(ctx, a.key)
		} else {
			token, err = p.m.Invalidate(ctx, a.key, turnedDown.Token)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		c.returns(ctx, token, err)
	})
	return c
}

// returns looks at what the caller got. w.mu is held.
func (c *caller) returns(ctx context.Context, token credentials.Token, err error) {
	w, now := c.by.w, time.Now()
	c.done, c.at, c.token, c.err = true, now, token, err
	w.past(c.a, now)
	if c.void {
		return
	}
	w.noteLocked("a caller of %s, %s: %s, %v", c.by.name, c.a.key, token.Value.Reveal(), err)
	if !c.deadline.IsZero() && now.After(c.deadline.Add(time.Millisecond)) {
		w.breaks(broken("no caller waits past its context", "%v", now.Sub(c.deadline)))
	}
	c.tookTooLong(now)
	switch {
	case (err == nil) == token.Value.IsZero():
		w.breaks(broken("a caller gets a token or an error", "%v, %v", token.Value, err))
	case err == nil:
		c.got(token, now)
	default:
		c.failed(ctx, err, now)
	}
}

// tookTooLong: no caller is kept for ever, and none for long where all is well.
func (c *caller) tookTooLong(now time.Time) {
	w, took := c.by.w, now.Sub(c.start)-(c.by.paused()-c.paused)
	// A caller that reports a token joins one exchange after the other that does not know of the
	// report, while its result cannot be stored.
	if took > patience && !(c.turnedDown != "" && w.troubled.After(c.start)) {
		w.breaks(broken("no caller hangs", "%s waits for %v", c.by.name, took))
	}
	calm := later(later(w.troubled, c.a.troubled), later(c.by.lastTrouble(c.a), w.began.Add(-afterwards))).Add(afterwards)
	well := 2*w.plan.Latency + 2*w.plan.Saving + 2*c.a.longest + 3*time.Second
	// It may be a lease that was left, or one that took another's place and was given up.
	if c.leased || c.owed {
		well += 2*grace + time.Second
	}
	if c.leased && !w.clocks.back.IsZero() {
		well += lease // which began in the future, and is counted in whole
	}
	if took > well && c.start.After(calm) && !w.plan.futile() {
		w.breaks(broken("where all is well, a caller gets its token soon", "%s waits for %v", c.by.name, took))
	}
}

// overdue looks at those who have not got anything yet. w.mu is held.
func (w *world) overdue() {
	for _, c := range w.callers {
		if !c.done && !c.void {
			c.tookTooLong(time.Now())
		}
	}
}

// got: a token was committed, is valid, and is not the one that was turned down.
func (c *caller) got(token credentials.Token, now time.Time) {
	w, text := c.by.w, token.Value.Reveal()
	commit := c.a.committed[text]
	switch {
	case commit == nil:
		w.breaks(broken("invariant 3: no caller sees a token that is not committed", "%s of %s", text, c.a.key))
		return
	case !commit.ends.Add(w.tooLong()).After(now):
		w.breaks(broken("no caller gets a token that has expired", "%s, %v ago", text, now.Sub(commit.ends)))
	case token.Expiry.After(commit.ends.Add(w.tooLong())):
		w.breaks(broken("invariant 12: no process takes a token for fresher than it is", "%v longer", token.Expiry.Sub(commit.ends)))
	case text == c.turnedDown && !w.plan.Same:
		w.breaks(broken("who reports a token gets another", "%s", text))
	}
	c.newest(commit, token, now)
	c.by.last[c.a] = got{token, now}
	if !c.a.turnedDown[text] {
		c.by.cached[c.a] = cached{token: text, at: now, expires: token.Expiry}
	}
}

// newest: of one row, no older token is given over a newer one in one process, and no token is
// taken for longer-lived than it was; slow answers of the store may have made its life seem
// shorter.
func (c *caller) newest(commit *commit, token credentials.Token, now time.Time) {
	w, p, id := c.by.w, c.by, commit.id()
	before := p.given[c.a]
	if before.Row == id.Row && before.at.Before(c.start) {
		if id.Version < before.Version {
			w.breaks(broken("no older token is given over a newer one", "%s, %s: version %d after %d",
				p.name, c.a.key, id.Version, before.Version))
		}
		// Callers get a token beside an error with the life that was read.
		lived := before.expiry.After(now) && c.a.cell.failure.class == "" && !c.besideReport(token) &&
			!later(c.a.troubled, p.lastTrouble(c.a)).After(before.at)
		grown := token.Expiry.Sub(before.expiry) - (p.pauses - before.paused)
		if id == before.TokenID && lived && grown > patience && !w.plan.Same {
			w.breaks(broken("the life of a token never grows", "%s, %s: by %v", p.name, c.a.key, grown))
		}
	}
	if before.Row != id.Row || id.Version >= before.Version {
		p.given[c.a] = given{id, now, token.Expiry, p.pauses}
	}
}

// besideReport reports whether a report of the token was under way in the caller's process while
// the caller waited, which is then given the token beside the report's error.
func (c *caller) besideReport(token credentials.Token) bool {
	for _, other := range c.by.w.callers {
		if other.by == c.by && other.a == c.a && other.turnedDown == token.Value.Reveal() &&
			(!other.done || !other.at.Before(c.start)) {
			return true
		}
	}
	return false
}

// failed: an error has a reason, and holds no secret.
func (c *caller) failed(ctx context.Context, err error, now time.Time) {
	w, p, a := c.by.w, c.by, c.a
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(err.Error(), mark) || strings.Contains(fmt.Sprintf("%+v", err), mark) {
		w.breaks(broken("invariant 14: no secret in an error", "%s", text))
	}
	recent := func(at time.Time) bool { return !at.Before(c.start.Add(-patience)) }
	var refresh *credentials.RefreshError
	var allowed bool
	switch {
	case errors.As(err, &refresh) && refresh.Code == "too_young":
		w.TooYoung++
		allowed = c.turnedDown != "" && recent(a.young) && refresh.Class == credentials.ClassTransient &&
			refresh.RetryAt.Sub(now) <= 2*credentials.DefaultMinTokenAge // by a clock that was set back
	case errors.As(err, &refresh):
		allowed = refresh.Class == credentials.ClassDead && recent(a.dead) || c.refused() ||
			refresh.Class != credentials.ClassDead && (!later(a.troubled, w.troubled).IsZero() || w.plan.futile())
		c.stored(err, now)
	case errors.Is(err, credentials.ErrUnavailable):
		// An outage is over for a process when a call has succeeded; the others fail beside that
		// one.
		allowed = recent(p.anyTrouble()) || p.health.steady.IsZero() || w.plan.futile()
	case errors.Is(err, credentials.ErrNotFound):
		allowed = recent(a.absent)
	case errors.Is(err, credentials.ErrClosed):
		allowed = p.closing
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		allowed = true
	}
	if !allowed {
		w.breaks(broken("an error has a reason", "%s, %s: %v", p.name, a.key, err))
	}
	// A look at the store that takes long makes a process believe that the token ends sooner, by
	// that much.
	held, ok := p.cached[a]
	ok = ok && !w.clocks.setSince(a.committed[held.token]) && c.turnedDown == "" &&
		held.expires.After(now.Add(storeTimeout)) && !held.at.After(c.start)
	// The clock may have been set during the exchange, and a look has since told the process so.
	ok = ok && a.committed[held.token].expires.After(w.clock(p).Add(storeTimeout))
	// One that was deleted meanwhile may have been found missing, and a put ends the token before
	// it.
	if ok && !a.committed[held.token].over && a.absent.Before(a.committed[held.token].at) && !a.turnedDown[held.token] {
		w.breaks(broken("invariant 11: who has a valid token gives no error", "%s, %s: %v, for %v more", p.name, a.key, err, held.expires.Sub(now)))
	}
}

// refused reports whether this process may say that the grant is dead without the row saying so: it
// may not have been able to record it.
func (c *caller) refused() bool {
	if c.by.w.plan.Replay == credentials.NeverReplay && !c.by.lastTrouble(c.a).Before(c.start.Add(-patience)) {
		return true
	}
	for _, shown := range c.a.presentations {
		if shown.by == c.by && shown.granted.AccessToken.IsZero() {
			return true
		}
	}
	return false
}

// stored: a provider's failure is no caller's while the token in the store is valid, also by the
// count of a process that read it slowly.
func (c *caller) stored(err error, now time.Time) {
	if c.turnedDown != "" || !c.a.cell.exists {
		return
	}
	if c.a.turnedDown[c.a.cell.token] && errors.Is(err, credentials.ErrGrantDead) {
		return // nobody can have a better one
	}
	commit := c.a.committed[c.a.cell.token]
	if commit == nil || c.by.lastTrouble(c.a).After(commit.since()) {
		return // this process may not know of it
	}
	if commit.since().Before(c.start.Add(-patience)) &&
		commit.expires.After(c.by.w.clock(c.by).Add(storeTimeout)) &&
		!c.by.w.clocks.setSince(commit) {
		c.by.w.breaks(broken("invariant 11: a failing provider is no caller's business while the stored token is valid", "%v", err))
	}
}
