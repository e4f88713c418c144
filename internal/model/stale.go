package model

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// past is a row as it was from a moment on, which a node that is behind may still show.
type past struct {
	from time.Time
	row  credentials.Credential // zero: there was none
}

// remember notes the row as the account's last write left it.
func (a *account) remember(row credentials.Credential) {
	if n := len(a.pasts); n > 0 && a.pasts[n-1].row.Row == row.Row && a.pasts[n-1].row.Version == row.Version {
		return
	}
	a.pasts = append(a.pasts, past{from: time.Now(), row: row})
}

// behind returns the row as it was that long ago, with its durations as they are now: a node that
// is behind has old rows and a good clock.
func (a *account) behind(by time.Duration) (c credentials.Credential, there bool) {
	now := time.Now()
	var from time.Time
	for _, p := range a.pasts {
		if !p.from.After(now.Add(-by)) {
			c, from = p.row, p.from
		}
	}
	age := now.Sub(from)
	for _, left := range []*time.Duration{&c.ExpiresIn, &c.RefreshExpiresIn, &c.DueIn, &c.Lease.EndsIn, &c.Failure.RetryIn} {
		if *left != credentials.Never {
			*left -= age
		}
	}
	for _, ago := range []*time.Duration{&c.Lease.Age, &c.Failure.Ago, &c.Interrupted.Ago, &c.Survived.Ago, &c.Refreshed.Ago} {
		*ago += age
	}
	c.ReadAt = c.ReadAt.Add(age)
	return c, c.Row != 0
}

// behind returns by how much the node is behind that answers such a call of the process.
func (p *process) behind(kind Op) time.Duration {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if (kind == Get || kind == GetAll || kind == Versions) && time.Now().Before(p.lags) {
		return p.lag
	}
	return 0
}

// readBehind is a read that is answered by a node that is behind.
func (w *world) readBehind(ctx context.Context, a *account, by time.Duration) (credentials.Credential, error) {
	if err := ctx.Err(); err != nil {
		return credentials.Credential{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.StaleReads++
	a.staleAt = time.Now()
	c, there := a.behind(by)
	if !there {
		return credentials.Credential{}, fmt.Errorf("%w: %s", credentials.ErrNotFound, a.key)
	}
	return c, nil
}

func (w *world) versionsBehind(ctx context.Context, rows map[uint64]credentials.Key, by time.Duration) (map[uint64]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	versions := make(map[uint64]uint64)
	for row := range rows {
		if c, there := w.byRow[row].behind(by); there && c.Row == row {
			versions[row] = c.Version
		}
	}
	return versions, nil
}
