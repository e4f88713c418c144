package mysql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

const (
	// maxCall bounds a call whose context has no deadline.
	maxCall = 30 * time.Second

	// maxFirstTry bounds the first try of a call, as does half of the call's time: the rest is for
	// a second try on another connection, should the first one's hang.
	maxFirstTry = 10 * time.Second

	// The pauses between tries grow from minPause to maxPause, with full jitter.
	minPause = 2 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// read runs f, which does nothing but read, until it succeeds. No statement is sent beside f's own.
func (s *Store) read(ctx context.Context, action string, f func(context.Context, *sqlx.Conn) error) error {
	return s.retry(ctx, s.reads, action, func(ctx context.Context) error {
		return s.onConnection(ctx, func(conn *sqlx.Conn) error { return f(ctx, conn) })
	})
}

// write runs op, which is made of transactions, until it succeeds.
func (s *Store) write(ctx context.Context, action string, op func(context.Context) error) error {
	return s.retry(ctx, s.writes, action, op)
}

// retry runs op, a call that may be repeated, until it settles or the time is over. Conflicts never
// reach the caller as such; an error that would have passed wraps credentials.ErrUnavailable, and
// the context's error only if the caller's own context has ended.
func (s *Store) retry(
	ctx context.Context, o *outage, action string, op func(ctx context.Context) error,
) error {
	callers := ctx
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(maxCall)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	var last error
	for attempt := 0; ctx.Err() == nil; attempt++ {
		limit := time.Until(deadline)
		if attempt == 0 {
			limit = min(limit/2, maxFirstTry)
		}
		err := within(ctx, limit, op)
		if err == nil {
			o.end()
			return nil
		}
		d := classify(err)
		switch d {
		case schemaMismatch:
			return fmt.Errorf("%s: %w: %w; %s", action, credentials.ErrSchema, err, migrateHint)
		case notRetryable:
			return fmt.Errorf("%s: %w", action, err)
		case notLetIn:
			return fmt.Errorf("%s: %w: %w", action, credentials.ErrUnavailable, err)
		}
		// An error of the ended context does not say why earlier tries failed.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if d == retryable && o.lost() {
			s.discardIdle(ctx)
		}
		sleep(ctx, rand.N(backOff(attempt)), nil)
		if d == retryable {
			o.takeTurn(ctx)
		}
	}
	unavailable := credentials.ErrUnavailable
	if rowLocked(last) {
		unavailable = fmt.Errorf("%w: %w", credentials.ErrUnavailable, credentials.ErrRowLocked)
	}
	// The caller's context says that time is up, the last error why it was not enough.
	return fmt.Errorf("%s: %w: %w", action, unavailable, errors.Join(callers.Err(), last))
}

func within(ctx context.Context, limit time.Duration, op func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return op(ctx)
}

// backOff is the longest pause after that many failed tries.
func backOff(failed int) time.Duration {
	return min(minPause<<min(failed, 10), maxPause)
}

// sleep returns when the time is over, the context has ended or early is closed.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
	}
}
