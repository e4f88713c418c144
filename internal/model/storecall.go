package model

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// prepare makes a call of a step, with what it refers to as it is now; nil if there is nothing to call.
func (s *subject) prepare(ctx context.Context, k *kept, step step) *op {
	o := &op{kind: step.kind}
	switch step.kind {
	case Claim, ClaimDue:
		o.batch = credentials.Batch{Service: k.key.Service, Limit: step.limit, Repeated: step.again}
		if n := len(k.claims); step.again && n > 0 && k.claims[n-1].claim.ID != "" {
			o.claim = k.claims[n-1].claim
			return o
		}
		o.claim = credentials.Claim{ID: rand.Text(), Holder: fmt.Sprint("holder ", len(k.claims)), Lease: longTime}
		if step.short {
			o.claim.Lease = shortTime
		}
		if step.rejected {
			o.claim.Rejected = credentials.NewSecret(k.cell.token)
		}
		k.claims = append(k.claims, &made{claim: o.claim})
	case forgot:
		if !k.cell.exists {
			return nil
		}
		fence := credentials.Fence{Row: k.cell.row, Claim: rand.Text(), Version: k.cell.version + 1}
		k.claims = append(k.claims, &made{fence: fence})
		return nil
	case lapse:
		s.lapse(ctx, k)
		return nil
	case Save, Fail, Release:
		c := k.nth(step.claim)
		if c == nil {
			return nil
		}
		o.fence = c.fence
		if c.result.Token.IsZero() || step.other {
			c.result = s.result(step.due)
		}
		o.renewal = c.result
		if step.slow && c.readAt != 0 {
			o.renewal.From, o.from = c.readAt.Add(-longTime/4), c.read.plus(-longTime/4)
		}
		o.failure = credentials.Failure{Class: step.class, Code: "code", Reason: "why"}
		if !step.due && step.class != credentials.Rejected {
			o.failure.RetryIn = longTime
		}
	case put:
		r := s.result(false)
		o.grant = credentials.Grant{RefreshToken: r.RefreshToken}
		if step.token {
			o.grant.Token, o.grant.Lifetime = r.Token, r.Lifetime
		}
	}
	return o
}

// nth returns a claim that was made, counted from the last.
func (k *kept) nth(n int) *made {
	for i := len(k.claims) - 1; i >= 0; i-- {
		if k.claims[i].fence.Claim == "" {
			continue
		}
		if n == 0 {
			return k.claims[i]
		}
		n--
	}
	return nil
}

// result is what an exchange brings.
func (s *subject) result(due bool) credentials.Renewal {
	s.issued++
	r := credentials.Renewal{
		Grant: credentials.Grant{
			Token:           credentials.NewSecret(fmt.Sprint("access ", s.issued)),
			RefreshToken:    credentials.NewSecret(fmt.Sprint("refresh ", s.issued)),
			Lifetime:        2 * longTime,
			RefreshLifetime: credentials.Never,
		},
		By: "holder", DueIn: longTime, Took: 150 * time.Millisecond,
	}
	if due {
		r.DueIn = 0
	}
	return r
}

// lapse waits until a short lease has ended.
func (s *subject) lapse(ctx context.Context, k *kept) {
	if k.cell.lease.id == "" || k.cell.lease.ends.from.After(time.Now().Add(longTime/2)) {
		return
	}
	for {
		c, err := s.store.Get(ctx, k.key)
		if err != nil || !c.Lease.Live() {
			return
		}
		time.Sleep(shortTime / 5)
	}
}

// call makes the call and notes its answer, and when it was.
func (s *subject) call(ctx context.Context, k *kept, o *op) {
	o.at.from = time.Now().Add(-blur)
	switch o.kind {
	case Get:
		o.got, o.err = s.store.Get(ctx, k.key)
	case Claim:
		o.got, o.err = s.store.Claim(ctx, k.key, o.claim)
	case ClaimDue:
		var claimed []credentials.Credential
		o.batch.Claim = o.claim
		if claimed, o.err = s.store.ClaimDue(ctx, o.batch); len(claimed) > 0 {
			o.got = claimed[0]
		}
		if len(claimed) > 1 {
			o.err = fmt.Errorf("%d credentials of a service that has one", len(claimed))
		}
	case Save:
		o.err = s.store.Save(ctx, o.fence, o.renewal)
	case Fail:
		o.err = s.store.Fail(ctx, o.fence, o.failure)
	case Release:
		o.err = s.store.Release(ctx, o.fence)
	case put:
		o.err = s.store.Put(ctx, k.key, o.grant)
	case remove:
		o.err = s.store.Delete(ctx, k.key)
	}
	o.at.to = time.Now().Add(blur)
}

// versions looks at the row as a poller does.
func (s *subject) versions(ctx context.Context, k *kept) *Violation {
	if k.cell.row == 0 && k.cell.before == 0 {
		return nil
	}
	row := k.cell.row
	if !k.cell.exists {
		row = k.cell.before
	}
	got, err := s.store.Versions(ctx, []uint64{row})
	if err != nil {
		return broken("the store works", "Versions: %v", err)
	}
	if version, ok := got[row]; ok != k.cell.exists || version != k.cell.version {
		return broken("the row is what was done to it", "Versions: got %d, %t, want %d, %t", version, ok, k.cell.version, k.cell.exists)
	}
	return nil
}
