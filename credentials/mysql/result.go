package mysql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Save implements [credentials.Store]: one UPDATE. Only where that misses, a SELECT tells an
// earlier try of the same save, whose reply was lost, from a later result.
func (s *Store) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	if fence.Claim == "" {
		return credentials.ErrNoClaim
	}
	args, err := s.grantArgs(fence.Key, renewal.Grant, renewal.Lifetime, renewal.RefreshLifetime, renewal.DueIn)
	if err != nil {
		return err
	}
	maps.Copy(args, fenceArgs(fence))
	args["holder"], args["took"] = renewal.By, renewal.Took.Microseconds()
	args["from"] = nil
	if renewal.From != 0 {
		args["from"] = time.Duration(renewal.From).Microseconds()
	}
	missed := newMiss(ctx, fence)
	return s.writeRow(ctx, "save", fence, func(ctx context.Context, conn *sqlx.Conn) error {
		n, err := exec(ctx, conn, s.sql.updateSave, args)
		if err != nil || n > 0 {
			return err
		}
		stored, err := missed.explain(ctx, s, conn)
		switch {
		case err != nil:
			return err
		case stored.TokenVersion < fence.Version:
			return errBehind // the row came between the two statements, and the UPDATE would find it now
		}
		return s.unlessHeld(stored, renewal.Grant, credentials.ErrSuperseded)
	})
}

// Fail implements [credentials.Store]: one UPDATE, and a second one where a write since the claim
// made the first miss.
func (s *Store) Fail(ctx context.Context, fence credentials.Fence, failure credentials.Failure) error {
	if fence.Claim == "" {
		return credentials.ErrNoClaim
	}
	args := fenceArgs(fence)
	args["class"], args["code"], args["reason"] = string(failure.Class), failure.Code, failure.Reason
	args["unknown"] = failure.Class == credentials.ClassUnknown
	args["refusals"] = failure.Refusals
	args["retry_in"] = micros(failure.RetryIn)
	if failure.Class == credentials.ClassDead {
		args["retry_in"] = nil
	}
	superseded, missed := false, newMiss(ctx, fence)
	const action = "record the failure"
	err := s.writeRow(ctx, action, fence, func(ctx context.Context, conn *sqlx.Conn) error {
		n, err := exec(ctx, conn, s.sql.updateFail, args)
		if superseded = err == nil && n == 0; !superseded {
			return err
		}
		return s.release(ctx, conn, missed)
	})
	if err == nil && superseded {
		return fmt.Errorf("%s: %w", action, credentials.ErrSuperseded)
	}
	return err
}

// Release implements [credentials.Store].
func (s *Store) Release(ctx context.Context, fence credentials.Fence) error {
	if fence.Claim == "" {
		return credentials.ErrNoClaim
	}
	missed := newMiss(ctx, fence)
	err := s.writeRow(ctx, "release the lease", fence, func(ctx context.Context, conn *sqlx.Conn) error {
		return s.release(ctx, conn, missed)
	})
	if errors.Is(err, errDeleted) {
		return nil
	}
	return err
}

// release gives up the lease in the transaction that is open on conn, if the lease is still the
// claim's own.
func (s *Store) release(ctx context.Context, conn *sqlx.Conn, missed *miss) error {
	n, err := exec(ctx, conn, s.sql.updateRelease, fenceArgs(missed.fence))
	if err == nil && n == 0 {
		_, err = missed.explain(ctx, s, conn)
	}
	return err
}

func fenceArgs(f credentials.Fence) map[string]any {
	args := rowArgs(f.Key, f.Row)
	args["claim"], args["version"] = f.Claim, f.Version
	return args
}
