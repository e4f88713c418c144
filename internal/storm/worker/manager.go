package worker

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// manager is a manager whose exchanges are watched for connections that they hold.
type manager struct {
	*credentials.Manager
	watched *WatchedRefresher
}

// newManager returns a manager with these rows and this way to the token endpoint.
func (w *worker) newManager(rows credentials.Store, r credentials.Refresher) (*manager, error) {
	watched := w.connections.Watch(r)
	service := credentials.Service{Refresher: watched, MinTokenAge: w.minTokenAge()}
	m, err := credentials.NewManager(rows, credentials.Services{w.Service: service}, w.options())
	return &manager{m, watched}, err
}

// minTokenAge lets some of the exchanges happen that chaos's callers force, and not all.
func (w *worker) minTokenAge() time.Duration {
	if w.Faulty {
		return time.Second
	}
	return 0
}

// refresher is the workers' way to the token endpoint.
func (w *worker) refresher(tokenURL string) credentials.Refresher {
	return oauth2refresh.New(oauth2.Config{
		ClientID:     w.ClientID,
		ClientSecret: w.ClientSecret,
		Endpoint:     oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader},
	})
}

// options returns a manager's defaults, with three exceptions: a log of warnings alone, an endpoint
// that is slower than the defaults allow, and faults, which last as long as leases do.
func (w *worker) options() *credentials.Options {
	warnings := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	o := &credentials.Options{Holder: wire.Holder(w.Worker), Logger: slog.New(warnings)}
	if w.Faulty {
		o.Lease, o.ExchangeTimeout, o.StoreTimeout = w.Lease, w.ExchangeTimeout, wire.StoreTimeout
		return o
	}
	if slow := 2*w.Latency + 5*time.Second; slow > credentials.DefaultExchangeTimeout {
		o.ExchangeTimeout = slow
		o.Lease = slow + credentials.DefaultLease - credentials.DefaultExchangeTimeout
	}
	return o
}

// close closes the manager and returns the connections that its calls held.
func (w *worker) close(ctx context.Context, m *manager) (*wire.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second+2*w.Lease)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		return nil, fmt.Errorf("close the manager: %w", err)
	}
	// database/sql gives some connections back in the background.
	for w.db.Stats().InUse > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	r := &wire.Result{InUse: w.db.Stats().InUse}
	r.Held, r.Unattributed = m.watched.Seen()
	return r, nil
}

func (w *worker) key(account int) credentials.Key {
	return credentials.Key{Service: w.Service, Account: w.Accounts[account]}
}
