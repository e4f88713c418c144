package credentials

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Disconnectable is the part of a store that [Disconnect] needs. The stores of packages mysql and
// memstore have it.
type Disconnectable interface {
	Get(ctx context.Context, key Key) (Credential, error)
	Disable(ctx context.Context, change Change) error
	Remove(ctx context.Context, change Change) error
}

// disconnectPause is the time between two looks at a credential whose exchange is under way.
const disconnectPause = 200 * time.Millisecond

// Disconnect removes a credential for good, as when a person disconnects the account, and returns
// the refresh token that it had last, zero if it had none. The caller has the provider revoke that
// one afterwards (RFC 7009, oauth2refresh.Refresher.Revoke), so that a provider that does not
// answer is never in the way of the deletion.
//
// The credential is disabled first: nobody gets its token, and no exchange begins any more. An
// exchange that is under way is awaited for wait at most, or until its lease ends, so that its
// result is the one that is returned; a lease's length is a good choice. The result of a holder
// that comes back later still is dropped, and with it the chance to revoke that one; many providers
// end it with the token before it. Where ctx ends or the store fails, the credential stays
// disabled, and Disconnect may be called again.
//
// ch.By is needed. ch.Row and ch.Version, where they are set, are those of the credential that is
// disabled.
func Disconnect(ctx context.Context, store Disconnectable, ch Change, wait time.Duration) (Secret, error) {
	if err := store.Disable(ctx, ch); err != nil {
		return Secret{}, fmt.Errorf("disconnect %s: %w", ch.Key, err)
	}
	ends := time.Now().Add(wait)
	for row := ch.Row; ; {
		c, err := store.Get(ctx, ch.Key)
		if err != nil {
			return Secret{}, fmt.Errorf("disconnect %s: %w", ch.Key, err)
		}
		if row == 0 {
			row = c.Row
		}
		if left := min(time.Until(ends), c.Lease.EndsIn); c.Lease.Live() && left > 0 {
			if err := pauseFor(ctx, min(left, disconnectPause)); err != nil {
				return Secret{}, fmt.Errorf("disconnect %s, which is disabled: %w", ch.Key, err)
			}
			continue
		}
		err = store.Remove(ctx, Change{Key: ch.Key, By: ch.By, Row: row, Version: c.Version})
		switch {
		case err == nil:
			return c.RefreshToken, nil
		case !errors.Is(err, ErrSuperseded) || c.Row != row: // made again by somebody
			return Secret{}, fmt.Errorf("disconnect %s: %w", ch.Key, err)
		}
	}
}

// pauseFor waits for d, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}
