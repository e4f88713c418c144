package model

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// way is a process's way to the store, on which each call can meet a fault.
type way struct{ p *process }

var _ credentials.Store = (*way)(nil)

// call makes a call of the store, with what it meets. effect runs at most once, and in a goroutine of its own where the
// process does not learn of it.
func call[T any](ctx context.Context, p *process, a *account, kind Op, effect func(ctx context.Context, late bool) (T, error)) (T, error) {
	var none T
	if !p.step() {
		return none, errGone
	}
	fault := p.meets(a, kind)
	if fault.Is != "" {
		defer p.under(func() { p.trouble(a, kind) })
	}
	switch fault.Is {
	case Refused:
		time.Sleep(wire)
		return none, unavailable("connection refused")
	case SlowRequest:
		if !sleep(ctx, fault.For) {
			return none, fmt.Errorf("%w: %w", credentials.ErrUnavailable, context.Cause(ctx))
		}
	case Late:
		p.w.live.Go(func() {
			time.Sleep(fault.For)
			_, _ = effect(context.WithoutCancel(ctx), true)
			p.under(func() { p.trouble(a, kind) })
		})
		sleep(ctx, fault.For/2)
		return none, unavailable("connection lost")
	case PausedBefore:
		p.under(func() { p.pause(fault.For) })
	case KilledBefore:
		p.under(p.kill)
	}
	if !p.step() {
		return none, errGone
	}
	time.Sleep(wire)
	answer, err := effect(ctx, false)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", credentials.ErrUnavailable, err)
	}
	time.Sleep(wire)
	switch fault.Is {
	case LostReply:
		return none, unavailable("connection lost")
	case SlowReply:
		if !sleep(ctx, fault.For) {
			return none, fmt.Errorf("%w: %w", credentials.ErrUnavailable, context.Cause(ctx))
		}
	case PausedAfter:
		p.under(func() { p.pause(fault.For) })
	case KilledAfter:
		p.under(p.kill)
	}
	if !p.step() {
		return none, errGone
	}
	return answer, err
}

// Get implements [credentials.Store].
func (y *way) Get(ctx context.Context, key credentials.Key) (credentials.Credential, error) {
	p, a := y.p, y.p.w.byKey[key]
	return call(ctx, p, a, Get, func(ctx context.Context, _ bool) (credentials.Credential, error) {
		return p.w.read(ctx, a)
	})
}

// Versions implements [credentials.Store].
func (y *way) Versions(ctx context.Context, rows []uint64) (map[uint64]uint64, error) {
	p := y.p
	if len(rows) == 0 {
		return nil, nil
	}
	var a *account
	p.under(func() { a = p.w.byRow[rows[0]] })
	asked := time.Now()
	return call(ctx, p, a, Versions, func(ctx context.Context, _ bool) (map[uint64]uint64, error) {
		return p.w.versions(ctx, p, rows, asked)
	})
}

// Claim implements [credentials.Store].
func (y *way) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (credentials.Credential, error) {
	p, a := y.p, y.p.w.byKey[key]
	return call(ctx, p, a, Claim, func(ctx context.Context, late bool) (credentials.Credential, error) {
		return p.w.claim(ctx, p, a, claim, late)
	})
}

// DueServices implements [credentials.Store].
func (y *way) DueServices(ctx context.Context) (map[string]time.Duration, error) {
	p := y.p
	return call(ctx, p, p.w.accounts[0], DueServices, func(ctx context.Context, _ bool) (map[string]time.Duration, error) {
		return p.w.dueServices(ctx)
	})
}

// ClaimDue implements [credentials.Store]. All credentials are of one service; the call meets what the first of them has
// in store for it.
func (y *way) ClaimDue(ctx context.Context, batch credentials.Batch) ([]credentials.Credential, error) {
	p := y.p
	return call(ctx, p, p.w.accounts[0], ClaimDue, func(ctx context.Context, late bool) ([]credentials.Credential, error) {
		return p.w.claimDue(ctx, p, batch, late)
	})
}

// Save implements [credentials.Store].
func (y *way) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	return y.write(ctx, Save, fence, func(ctx context.Context, a *account) error {
		return y.p.w.save(ctx, a, fence, renewal)
	})
}

// Fail implements [credentials.Store].
func (y *way) Fail(ctx context.Context, fence credentials.Fence, failure credentials.Failure) error {
	return y.write(ctx, Fail, fence, func(ctx context.Context, a *account) error {
		return y.p.w.fail(ctx, a, fence, failure)
	})
}

// Release implements [credentials.Store].
func (y *way) Release(ctx context.Context, fence credentials.Fence) error {
	return y.write(ctx, Release, fence, func(ctx context.Context, a *account) error {
		return y.p.w.release(ctx, a, fence)
	})
}

func (y *way) write(
	ctx context.Context, kind Op, fence credentials.Fence, effect func(ctx context.Context, a *account) error,
) error {
	p := y.p
	var a *account
	p.under(func() {
		a = p.w.byRow[fence.Row]
		c := p.w.claims[fence]
		if kind == Release {
			c = p.w.named(fence)
		}
		if c == nil || c.by != p {
			p.w.breaks(broken("invariant 2: results belong to a claim", "%s by %s under %+v", kind, p.name, fence))
		} else if kind == Release {
			c.released = true
		}
	})
	_, err := call(ctx, p, a, kind, func(ctx context.Context, _ bool) (struct{}, error) {
		return struct{}{}, effect(ctx, a)
	})
	return err
}
