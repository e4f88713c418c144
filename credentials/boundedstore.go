package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// boundedStore is the store as a manager uses it: each call ends within StoreTimeout, and its
// outcome is noted in the health of the store. While that has no hope, a call fails at once.
type boundedStore struct {
	store   Store
	timeout time.Duration
	health  *health
	events  *events
	log     *slog.Logger
}

func bounded[T any](
	ctx context.Context, s *boundedStore, k kind, call func(context.Context) (T, error),
) (T, error) {
	var none T
	probe, err := s.health.enter()
	if err != nil {
		return none, err
	}
	ended := false
	defer func() {
		if !ended { // the store panicked
			s.health.left(probe)
		}
	}()
	began := s.health.now()
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := call(limited)
	ended = true
	err = inner(ctx, err)
	failed := err != nil && !errors.Is(err, ErrRowLocked) &&
		(errors.Is(err, ErrUnavailable) || limited.Err() != nil && !answers(err))
	switch {
	case failed && ctx.Err() != nil: // by its caller, who gave it up
		s.health.left(probe)
	case failed:
		s.events.count(func(f *Stats) { f.StoreFailures++ })
		if !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if s.health.failed(probe, k, began, err) {
			s.log.WarnContext(ctx,
				"the store does not answer; one call at a time is tried until it does", "error", err)
		}
	default:
		if s.health.succeeded(probe, k) {
			s.log.InfoContext(ctx, "the store answers again")
		}
	}
	return answer, err
}

// answers reports whether the error is the store's answer, which may come as the time for it is
// over.
func answers(err error) bool {
	for _, answer := range []error{ErrNotFound, ErrSuperseded, ErrSchema, ErrSealed, ErrOtherDeployment} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

func (s *boundedStore) Get(ctx context.Context, key Key) (Credential, error) {
	return bounded(ctx, s, reads, func(ctx context.Context) (Credential, error) { return s.store.Get(ctx, key) })
}

func (s *boundedStore) GetAll(ctx context.Context, keys []Key) ([]Found, error) {
	return bounded(ctx, s, reads, func(ctx context.Context) ([]Found, error) { return s.store.GetAll(ctx, keys) })
}

func (s *boundedStore) Versions(ctx context.Context, rows map[uint64]Key) (map[uint64]uint64, error) {
	return bounded(ctx, s, reads, func(ctx context.Context) (map[uint64]uint64, error) { return s.store.Versions(ctx, rows) })
}

func (s *boundedStore) Ensure(ctx context.Context, key Key, grant Grant) error {
	return s.write(ctx, func(ctx context.Context) error { return s.store.Ensure(ctx, key, grant) })
}

func (s *boundedStore) Claim(ctx context.Context, key Key, claim Claim) (Credential, error) {
	return bounded(ctx, s, writes, func(ctx context.Context) (Credential, error) { return s.store.Claim(ctx, key, claim) })
}

func (s *boundedStore) ClaimAll(ctx context.Context, keys []Key, claim Claim) ([]Found, error) {
	return bounded(ctx, s, writes, func(ctx context.Context) ([]Found, error) { return s.store.ClaimAll(ctx, keys, claim) })
}

func (s *boundedStore) Save(ctx context.Context, fence Fence, renewal Renewal) error {
	return s.write(ctx, func(ctx context.Context) error { return s.store.Save(ctx, fence, renewal) })
}

func (s *boundedStore) Fail(ctx context.Context, fence Fence, failure Failure) error {
	return s.write(ctx, func(ctx context.Context) error { return s.store.Fail(ctx, fence, failure) })
}

func (s *boundedStore) Release(ctx context.Context, fence Fence) error {
	return s.write(ctx, func(ctx context.Context) error { return s.store.Release(ctx, fence) })
}

func (s *boundedStore) DueServices(ctx context.Context) (map[string]time.Duration, error) {
	return bounded(ctx, s, reads, func(ctx context.Context) (map[string]time.Duration, error) { return s.store.DueServices(ctx) })
}

func (s *boundedStore) ClaimDue(ctx context.Context, batch Batch) ([]Credential, error) {
	return bounded(ctx, s, writes, func(ctx context.Context) ([]Credential, error) { return s.store.ClaimDue(ctx, batch) })
}

func (s *boundedStore) FindClaims(ctx context.Context, batch Batch, age time.Duration) ([]Credential, error) {
	return bounded(ctx, s, reads, func(ctx context.Context) ([]Credential, error) { return s.store.FindClaims(ctx, batch, age) })
}

func (s *boundedStore) write(ctx context.Context, call func(context.Context) error) error {
	_, err := bounded(ctx, s, writes, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}
