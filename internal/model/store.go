package model

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/storetest"
)

// RunStore drives a store with claims, results, puts and deletes of several holders in any order,
// late, repeated and at the same time, and holds every answer and every row against the model.
// newStore is called once; all plans share the store, under keys of their own, which are deleted.
//
// The time is the store's: so it works with a real server as well as in memory. steps is about how
// many steps are made in all, -rapid.checks plans of about -rapid.steps steps each; zero: no end
// but theirs. A step takes two or three calls, and one in ten waits for a lease of a few
// milliseconds to end.
func RunStore(t *testing.T, newStore func(t *testing.T) storetest.Store, steps int) {
	store := newStore(t)
	found, left, made := "", steps, 0
	rapid.Check(t, func(rt *rapid.T) {
		plan := drawSteps(rt)
		n := 1
		if found != "" {
			n = 3
		} else if steps > 0 && left <= 0 {
			return
		}
		for range n {
			s := newSubject(store)
			v := s.run(plan)
			made += len(plan.steps)
			if found == "" {
				left -= len(plan.steps)
			}
			if v == nil || found != "" && v.Rule != found {
				continue
			}
			found = v.Rule
			rt.Logf("%s\n%s", v.Detail, strings.Join(s.history, "\n"))
			rt.Fatalf("%s", v.Rule)
		}
	})
	t.Logf("%d steps", made)
}

// step is one thing that is done to a store, or several at the same time.
type step struct {
	kind  Op
	key   int
	claim int // which one, counted from the last; of those of the key

	invalidated, short, again bool          // of a claim: the stored token is turned down; it ends soon; it is the last one, repeated
	minAge                    time.Duration // of a claim
	takes, unused             bool          // of a claim: it may take over the lease; it knows the lease for unused
	limit                     int           // of a batch
	due, other, slow          bool          // of a success: to be renewed at once; not what was saved under that claim before; long on its way
	class                     credentials.Class
	token                     bool // of a put

	together []step
}

const (
	lapse    Op = "Lapse"    // wait until the lease has ended, unless it is a long one
	forgot   Op = "Forgot"   // a fail-over forgets a claim, whose result may yet come
	together Op = "Together" // several calls at once
)

type storePlan struct {
	keys  int
	steps []step
}

func drawSteps(t *rapid.T) storePlan {
	p := storePlan{keys: rapid.IntRange(1, 2).Draw(t, "keys")}
	t.Repeat(map[string]func(*rapid.T){
		"step": func(t *rapid.T) {
			kind := pick(t, []Op{Claim, Claim, Claim, ClaimAll, ClaimDue, Save, Save, Save, Fail, Fail, Release, put, remove, lapse, lapse, forgot, together})
			s := drawStep(t, p, kind)
			if kind == together {
				s.key = 0
				for range rapid.IntRange(2, 3).Draw(t, "at once") {
					s.together = append(s.together, drawStep(t, storePlan{keys: 1}, pick(t, []Op{Claim, Claim, ClaimAll, ClaimDue, Save, Fail, Release, put, remove})))
				}
			}
			p.steps = append(p.steps, s)
		},
	})
	return p
}

func drawStep(t *rapid.T, p storePlan, kind Op) step {
	s := step{kind: kind, key: rapid.IntRange(0, p.keys-1).Draw(t, "key")}
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	switch kind {
	case Claim, ClaimAll:
		s.invalidated, s.short, s.again = flag("invalidated"), flag("short"), rapid.IntRange(0, 4).Draw(t, "again") == 4
		s.takes, s.unused = flag("takes"), rapid.IntRange(0, 4).Draw(t, "unused") == 4
		s.minAge = pick(t, []time.Duration{0, longTime, shortTime})
	case ClaimDue:
		s.short, s.again = flag("short"), rapid.IntRange(0, 4).Draw(t, "again") == 4
		s.takes, s.unused = flag("takes"), rapid.IntRange(0, 4).Draw(t, "unused") == 4
		s.limit = rapid.IntRange(1, 3).Draw(t, "limit")
	case Save, Fail, Release:
		s.claim = rapid.IntRange(0, 3).Draw(t, "claim")
		s.due, s.other, s.slow = flag("due"), rapid.IntRange(0, 4).Draw(t, "other") == 4, flag("slow")
		s.class = pick(t, []credentials.Class{credentials.ClassTransient, credentials.ClassUnknown, credentials.ClassDead})
	case put:
		s.token = flag("token")
	}
	return s
}

// subject is the credentials of one plan.
type subject struct {
	store   storetest.Store
	keys    []*kept
	issued  int
	history []string
}

// kept is one of them.
type kept struct {
	key    credentials.Key
	cell   cell
	claims []*made

	givenUp bool // a call was, whose statement may be under way on the server and lock the row
}

// made is a claim that was tried, and what it brings.
type made struct {
	claim  credentials.Claim
	fence  credentials.Fence
	readAt credentials.Instant // when its credential was read, by the store's clock
	read   span                // and by ours
	result credentials.Renewal
}

func newSubject(store storetest.Store) *subject { return &subject{store: store} }

const (
	longTime  = time.Hour
	shortTime = 5 * time.Millisecond
	// blur is how far two clocks that count the same stretch of time may differ.
	blur = time.Millisecond
)

// run makes the steps, and looks after each at the row that it left.
func (s *subject) run(p storePlan) (v *Violation) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range p.keys {
		key := credentials.Key{Service: "model." + strings.ToLower(rand.Text()), Account: "alice"}
		s.keys = append(s.keys, &kept{key: key})
		defer func() {
			if err := s.store.Delete(ctx, key); err != nil && !errors.Is(err, credentials.ErrNotFound) && v == nil {
				v = broken("the store works", "Delete at the end: %v", err)
			}
		}()
	}
	for _, k := range s.keys {
		if v := s.sequence(ctx, k, []step{{kind: put}}); v != nil {
			return v
		}
	}
	for _, step := range p.steps {
		k, steps := s.keys[step.key], step.together
		if step.kind != together {
			steps = append(steps, step)
		}
		if v := s.sequence(ctx, k, steps); v != nil {
			return v
		}
	}
	return nil
}

// sequence makes these steps at once, and finds an order in which they can have happened.
func (s *subject) sequence(ctx context.Context, k *kept, steps []step) *Violation {
	var ops []*op
	for _, step := range steps {
		if o := s.prepare(ctx, k, step); o != nil {
			o.alone = len(steps) == 1 && !k.givenUp
			ops = append(ops, o)
		}
	}
	done := make(chan struct{})
	for _, o := range ops {
		go func() {
			s.call(ctx, k, o)
			done <- struct{}{}
		}()
	}
	for range ops {
		<-done
	}
	for _, o := range ops {
		k.givenUp = k.givenUp || errors.Is(o.err, credentials.ErrUnavailable) && !o.passedOver()
		s.history = append(s.history, fmt.Sprintf("%s of %s, claim %q, fence %+v, result %q: version %d, lease %q, error %v",
			o.kind, k.key.Service, o.claim.ID, o.fence, o.renewal.AccessToken.Reveal(), o.got.Version, o.got.Lease.ID, o.err))
		if (o.kind == Claim || o.kind == ClaimAll || o.kind == ClaimDue) && o.got.Lease.ID == o.claim.ID && o.got.Lease.Live() {
			for _, c := range k.claims {
				if c.claim.ID == o.claim.ID {
					c.fence, c.readAt, c.read = o.got.Fence(), o.got.ReadAt, o.at
				}
			}
		}
	}
	read := op{kind: Get}
	s.call(ctx, k, &read)
	next, v := inSomeOrder(k.cell, ops, read)
	if v != nil {
		return v
	}
	k.cell = next
	return s.versions(ctx, k)
}

// inSomeOrder applies the calls in that order in which they make sense, if there is one. The
// violation is that of the order in which they were made.
func inSomeOrder(c cell, ops []*op, read op) (cell, *Violation) {
	if len(ops) == 0 {
		return c.apply(read)
	}
	var first *Violation
	for i, o := range ops {
		next, v := c.apply(*o)
		if v == nil {
			rest := append(append([]*op(nil), ops[:i]...), ops[i+1:]...)
			if next, v = inSomeOrder(next, rest, read); v == nil {
				return next, nil
			}
		}
		if first == nil {
			first = v
		}
	}
	return c, first
}
