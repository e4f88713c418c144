package memstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Disable marks the credential: nobody gets its token, and no exchange begins. A credential that is
// disabled already stays as it is. The errors wrap [credentials.ErrNotFound], and
// [credentials.ErrSuperseded] if the credential is not the one that the operator saw.
func (s *Store) Disable(ctx context.Context, ch credentials.Change) error {
	if ch.By == "" {
		return errors.New("memstore: Change.By is empty; say who disables the credential")
	}
	return s.operate(ctx, ch, func(r *row, now time.Time) (write func(), err error) {
		if r.disabled.by != "" {
			return nil, nil
		}
		return func() {
			r.disabled, r.due = mark{by: ch.By, since: now}, time.Time{}
			r.marked()
		}, nil
	})
}

// Enable takes the mark off that Disable has made. The credential is due when its lease or its
// back-off ends, otherwise at once. One that is not disabled stays as it is. Errors are those of
// Disable.
func (s *Store) Enable(ctx context.Context, ch credentials.Change) error {
	return s.operate(ctx, ch, func(r *row, now time.Time) (write func(), err error) {
		if r.disabled.by == "" {
			return nil, nil
		}
		return func() {
			r.disabled, r.due = mark{}, r.dueAgain(now)
			r.marked()
		}, nil
	})
}

// dueAgain returns when a credential is due that was disabled.
func (r *row) dueAgain(now time.Time) time.Time {
	nothingToPresent := !r.accessToken.IsZero() && r.refreshToken.IsZero() && r.expires.IsZero()
	switch {
	case r.lease.id != "":
		return r.lease.ends
	case r.failure.class == credentials.ClassDead:
		return time.Time{}
	case r.failure.retry.After(now):
		return r.failure.retry
	case nothingToPresent:
		return time.Time{}
	}
	return now
}

// EndLease ends the lease that stands in the row, live or ended, as a claim in its place would. The
// errors are those of Disable; one wraps [credentials.ErrNotApplicable] if there is no lease.
func (s *Store) EndLease(ctx context.Context, ch credentials.Change) error {
	return s.operate(ctx, ch, func(r *row, now time.Time) (write func(), err error) {
		if r.lease.id == "" {
			return nil, fmt.Errorf("%w: no lease stands in the row", credentials.ErrNotApplicable)
		}
		return func() {
			if r.version <= r.lease.version {
				r.interrupted = interruption{by: r.lease.holder, since: r.lease.since}
				r.setDue(now)
			}
			r.lease = lease{}
			r.version++
		}, nil
	})
}

// ReviveOne clears the mark of one dead grant, whatever it died of, and has it due at once. With
// replay, what is known of an interrupted exchange is cleared too. The errors are those of Disable;
// one wraps [credentials.ErrNotApplicable] if the grant is not dead.
func (s *Store) ReviveOne(ctx context.Context, ch credentials.Change, replay bool) error {
	return s.operate(ctx, ch, func(r *row, now time.Time) (write func(), err error) {
		if r.failure.class != credentials.ClassDead {
			return nil, fmt.Errorf("%w: the grant is not dead", credentials.ErrNotApplicable)
		}
		return func() {
			r.failure = failure{}
			if replay {
				r.interrupted = interruption{}
			}
			r.setDue(now)
			r.version++
		}, nil
	})
}

// Remove deletes the credential as Delete does, if it is the one that the operator saw. Errors are
// those of Disable.
func (s *Store) Remove(ctx context.Context, ch credentials.Change) error {
	return s.operate(ctx, ch, func(r *row, _ time.Time) (write func(), err error) {
		return func() { s.remove(r) }, nil
	})
}

// operate makes an operator's change. decide returns how to write it; nil if the row is as the
// change would leave it.
func (s *Store) operate(
	ctx context.Context, ch credentials.Change, decide func(*row, time.Time) (write func(), err error),
) error {
	ch, err := ch.Normalize()
	if err != nil {
		return err
	}
	var refused error
	err = s.under(ctx, ch.Key, func(r *row) {
		write, err := decide(r, s.now())
		if write == nil && err == nil {
			return
		}
		if refused = cmp.Or(ch.Moved(r.id, r.version), err); refused == nil {
			write()
		}
	})
	return cmp.Or(err, refused)
}
