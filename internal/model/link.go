package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// how a call takes effect.
type how struct {
	late   bool          // when its process had given it up
	behind time.Duration // by how much the node that answers it is
	locked *account      // whose row a ClaimAll finds locked; nil: none
}

// call is a process's way to the store, on which each call can meet a fault. The effect takes place
// at most once, and in a goroutine of its own where the process does not learn of it.
func (p *process) call(ctx context.Context, c *testkit.Call) error {
	byKeys := c.Method == GetAll || c.Method == ClaimAll
	if c.Method == Versions && len(c.Rows) == 0 || byKeys && len(c.Keys) == 0 {
		return nil
	}
	a := p.concerned(c)
	v := p.view()
	p.under(func() { p.spins(c.Method) })
	err := p.meet(ctx, c, a, v)
	p.under(func() { p.health.observe(err, v.at) })
	if c.Method == Get || c.Method == Claim {
		p.sees(v.at, c.Credential, err)
	}
	for _, found := range c.Found {
		p.sees(v.at, found.Credential, cmp.Or(err, found.Err))
	}
	return err
}

// concerned returns the credential whose faults the call meets: the first of several, and of all
// those of a service. A result must belong to a claim of the process.
func (p *process) concerned(c *testkit.Call) (a *account) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	switch c.Method {
	case Get, Claim:
		return w.byKey[c.Key]
	case GetAll, ClaimAll:
		return w.byKey[c.Keys[0]]
	case Versions:
		return w.byRow[slices.Min(slices.Collect(maps.Keys(c.Rows)))]
	case Save, Fail, Release:
	default:
		return w.accounts[0]
	}
	claim := w.claims[c.Fence]
	if c.Method == Release {
		claim = w.named(c.Fence)
	}
	if claim == nil || claim.by != p {
		w.breaks(broken("invariant 2: results belong to a claim", "%s by %s under %+v", c.Method, p.name, c.Fence))
	} else if c.Method == Release {
		claim.released = true
	}
	return w.byRow[c.Fence.Row]
}

// makes has the call take effect.
func (w *world) makes(ctx context.Context, c *testkit.Call, a *account, v view, as how) (err error) {
	switch p := v.process; c.Method {
	case Get:
		c.Credential, err = w.get(ctx, p, a, as.behind)
	case GetAll:
		c.Found = make([]credentials.Found, len(c.Keys))
		for i, key := range c.Keys {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.Found[i].Credential, c.Found[i].Err = w.get(ctx, p, w.byKey[key], as.behind)
		}
	case Versions:
		if as.behind > 0 {
			c.Versions, err = w.versionsBehind(ctx, c.Rows, as.behind)
		} else {
			c.Versions, err = w.versions(ctx, p, c.Rows, v.at)
		}
	case Claim:
		c.Credential, err = w.claim(ctx, v, a, c.Claim, as.late)
	case ClaimAll:
		c.Found, err = w.claimAll(ctx, v, c.Keys, c.Claim, as)
	case DueServices:
		c.Due, err = w.dueServices(ctx, p)
	case ClaimDue:
		c.Credentials, err = w.claimDue(ctx, v, c.Batch, as.late)
	case FindClaims:
		c.Credentials, err = w.findClaims(ctx, p, c.Batch, c.Age)
	case Save:
		if !sleep(ctx, w.plan.Saving) {
			return ctx.Err()
		}
		err = w.save(ctx, p, a, c.Fence, c.Renewal)
	case Fail:
		err = w.fail(ctx, p, a, c.Fence, c.Failure)
	case Release:
		err = w.release(ctx, p, a, c.Fence)
	}
	return err
}

// meet makes a call with the fault that it meets.
func (p *process) meet(ctx context.Context, c *testkit.Call, a *account, v view) error {
	if !p.step() {
		return errGone
	}
	if o := p.outageOf(c.Method); o.on() {
		return p.through(ctx, o, c, a, v)
	}
	fault := p.meets(a, c.Method)
	if fault.Is != "" {
		defer p.under(func() { p.trouble(a, c.Method) })
	}
	if fault.Is == AwayBefore {
		p.under(func() { p.w.goesAway(fault.For, fault.As) })
		return p.through(ctx, p.outageOf(c.Method), c, a, v)
	}
	if err := p.beforeCall(ctx, c, a, v, fault); err != nil {
		return err
	}
	time.Sleep(wire)
	as := how{behind: p.behind(c.Method)}
	switch {
	case fault.Is == Behind:
		as.behind = fault.For
	case fault.Is == Locked && c.Method == ClaimAll:
		as.locked = a
	}
	err := p.w.makes(ctx, c, a, v, as)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", credentials.ErrUnavailable, err)
	}
	time.Sleep(wire)
	if lost := p.afterCall(ctx, c, fault); lost != nil {
		return lost
	}
	return err
}

// beforeCall has the process meet a fault on the way to the store. An error says that the call does
// not get there while the process waits.
func (p *process) beforeCall(ctx context.Context, c *testkit.Call, a *account, v view, fault Fault) error {
	switch fault.Is {
	case Refused:
		time.Sleep(wire)
		return unavailable("connection refused")
	case Locked:
		if c.Method == ClaimAll { // which waits for no row
			break
		}
		sleep(ctx, fault.For)
		return errLocked
	case SlowRequest:
		if !sleep(ctx, fault.For) {
			return timedOut(ctx)
		}
	case Late:
		sent := *c
		p.w.live.Go(func() {
			time.Sleep(fault.For)
			_ = p.w.makes(context.WithoutCancel(ctx), &sent, a, v, how{late: true})
			p.under(func() { p.trouble(a, sent.Method) })
		})
		sleep(ctx, fault.For/2)
		return unavailable("connection lost")
	case PausedBefore:
		p.under(func() { p.pause(fault.For) })
	case KilledBefore:
		p.under(p.kill)
	}
	if !p.step() {
		return errGone
	}
	return nil
}

// afterCall has the process meet a fault when the call has taken effect. An error says that the
// reply is lost.
func (p *process) afterCall(ctx context.Context, c *testkit.Call, fault Fault) error {
	switch fault.Is {
	case LostReply:
		return unavailable("connection lost")
	case AwayAfter:
		p.under(func() { p.w.goesAway(fault.For, fault.As) })
	case SlowReply:
		if !sleep(ctx, fault.For) {
			return timedOut(ctx)
		}
	case PausedAfter:
		p.under(func() { p.pause(fault.For) })
	case KilledAfter:
		p.under(p.kill)
	}
	if !p.step() {
		return errGone
	}
	if o := p.outageOf(c.Method); o.on() { // the reply is lost with the connection
		return unavailable("connection lost")
	}
	return nil
}

// errLocked is what the store says of a row that somebody has locked.
var errLocked = fmt.Errorf("%w: %w", credentials.ErrUnavailable, credentials.ErrRowLocked)

func timedOut(ctx context.Context) error {
	return fmt.Errorf("%w: %w", credentials.ErrUnavailable, context.Cause(ctx))
}
