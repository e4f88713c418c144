package storm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// clientID is the workers' name at the token endpoint.
const clientID = "storm"

// refresher is the workers' way to the token endpoint.
func (j job) refresher(tokenURL string) credentials.Refresher {
	return oauth2refresh.New(oauth2.Config{
		ClientID:     j.ClientID,
		ClientSecret: j.ClientSecret,
		Endpoint:     oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader},
	})
}

// options are a manager's defaults, but for an endpoint that is slower than they allow, and for faults, which last as
// long as leases do.
func (j job) options() *credentials.Options {
	o := &credentials.Options{Holder: holder(j.Worker)}
	if j.Faulty {
		o.Lease, o.ExchangeTimeout, o.StoreTimeout = j.Lease, j.ExchangeTimeout, shortStore
		return o
	}
	if slow := 2*j.Latency + 5*time.Second; slow > credentials.DefaultExchangeTimeout {
		o.ExchangeTimeout = slow
		o.Lease = slow + credentials.DefaultLease - credentials.DefaultExchangeTimeout
	}
	return o
}

// holder is a worker's name in the rows.
func holder(worker int) string { return fmt.Sprintf("storm worker %d", worker) }

// watchedRefresher looks at the connections of the flight that calls it, when its exchange begins and when it ends.
type watchedRefresher struct {
	credentials.Refresher

	connections *Connections

	mu   sync.Mutex // guards what follows
	held int        // most connections that an exchange's own flight held
	lost int        // looks that could not tell, since a connection was asked for in nobody's name
}

// Refresh implements [credentials.Refresher].
func (r *watchedRefresher) Refresh(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
	r.look(ctx)
	defer r.look(ctx)
	return r.Refresher.Refresh(ctx, c)
}

func (r *watchedRefresher) look(ctx context.Context) {
	own, unknown := r.connections.Held(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = max(r.held, own)
	if unknown > 0 || !r.connections.Seen(ctx) { // the claim before it took a connection
		r.lost++
	}
}

func (r *watchedRefresher) seen() (held, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held, r.lost
}
