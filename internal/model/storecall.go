package model

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// prepare makes a call of a step, with what it refers to as it is now; nil if there is nothing to
// call.
func (s *subject) prepare(ctx context.Context, k *kept, step step) *op {
	o := &op{kind: step.kind}
	switch step.kind {
	case Claim, ClaimAll, ClaimDue:
		k.prepareClaim(o, step)
	case forgot:
		if !k.cell.exists {
			return nil
		}
		fence := credentials.Fence{Key: k.key, Row: k.cell.row, Claim: rand.Text(), Version: k.cell.version + 1}
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
		s.prepareResult(o, c, step)
	case put:
		r := s.result(false)
		o.grant = credentials.Grant{RefreshToken: r.RefreshToken}
		if step.token {
			o.grant.AccessToken, o.grant.Lifetime = r.AccessToken, r.Lifetime
		}
	}
	return o
}

// prepareClaim completes a claim: a new one, or the latest once more.
func (k *kept) prepareClaim(o *op, step step) {
	o.batch = credentials.Batch{Service: k.key.Service, Limit: step.limit}
	if n := len(k.claims); step.again && n > 0 && k.claims[n-1].claim.ID != "" {
		o.claim = k.claims[n-1].claim
		if step.kind == ClaimDue {
			o.kind = FindClaims
		}
		return
	}
	o.claim = credentials.Claim{
		ID: rand.Text(), Holder: fmt.Sprint("holder ", len(k.claims)), Lease: longTime,
	}
	switch {
	case step.takes && step.kind != ClaimDue:
		o.claim.TakeOver = k.cell.lease.id
	case step.takes:
		o.claim.Lapsed = time.Microsecond
	}
	if step.unused {
		o.claim.Unused = k.cell.lease.id
	}
	if step.short {
		o.claim.Lease = shortTime
	}
	o.claim.MinTokenAge = step.minAge
	if step.invalidated {
		o.claim.Invalidated = credentials.TokenID{Row: k.cell.row, Version: k.cell.tokenOf}
	}
	k.claims = append(k.claims, &made{claim: o.claim})
}

// prepareResult completes a save, failure or release under the claim.
func (s *subject) prepareResult(o *op, c *made, step step) {
	o.fence = c.fence
	if c.result.AccessToken.IsZero() || step.other {
		c.result = s.result(step.due)
	}
	o.renewal = c.result
	if step.slow && c.readAt != 0 {
		o.renewal.From, o.from = c.readAt.Add(-longTime/4), c.read.plus(-longTime/4)
	}
	o.failure = credentials.Failure{Class: step.class, Code: "code", Reason: "why"}
	if !step.due && step.class != credentials.ClassDead {
		o.failure.RetryIn = longTime
	}
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
			AccessToken:     credentials.NewSecret(fmt.Sprint("access ", s.issued)),
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
	if o.kind == Save || o.kind == Fail || o.kind == Release {
		limit := callTime
		if k.cell.open(o.kind, o.fence) {
			limit = openTime
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	o.at.from = time.Now().Add(-blur)
	defer func() { o.at.to = time.Now().Add(blur) }()
	switch o.kind {
	case put:
		o.err = s.store.Put(ctx, k.key, o.grant)
		return
	case remove:
		o.err = s.store.Delete(ctx, k.key)
		return
	}
	o.batch.Claim = o.claim
	c := testkit.Call{
		Method: o.kind, Key: k.key, Keys: []credentials.Key{k.key}, Claim: o.claim, Batch: o.batch,
		Fence: o.fence, Renewal: o.renewal, Failure: o.failure,
	}
	o.err = c.Do(ctx, s.store)
	o.got = c.Credential
	for _, found := range c.Found {
		o.got, o.err = found.Credential, found.Err
	}
	if len(c.Credentials) > 0 {
		o.got = c.Credentials[0]
	}
	if len(c.Credentials) > 1 {
		o.err = fmt.Errorf("%d credentials of a service that has one", len(c.Credentials))
	}
}

// A store of several servers takes a part of its time to believe that a row is gone, or that it
// never saw the claim.
const (
	callTime = 4 * time.Second
	openTime = 40 * time.Millisecond // of a call that is known to meet such a row
)

// versions looks at the row as a poller does.
func (s *subject) versions(ctx context.Context, k *kept) *Violation {
	if k.cell.row == 0 && k.cell.before == 0 {
		return nil
	}
	row := k.cell.row
	if !k.cell.exists {
		row = k.cell.before
	}
	got, err := s.store.Versions(ctx, map[uint64]credentials.Key{row: k.key})
	if err != nil {
		return broken("the store works", "Versions: %v", err)
	}
	if version, ok := got[row]; ok != k.cell.exists || version != k.cell.version {
		return broken("the row is what was done to it", "Versions: got %d, %t, want %d, %t", version, ok, k.cell.version, k.cell.exists)
	}
	return nil
}
