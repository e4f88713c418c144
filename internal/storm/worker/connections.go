package worker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

// Connections knows the caller behind each connection of one pool. database/sql tells how many
// connections are in use, but not by whom; a storm asks how many a call holds itself while it
// exchanges. So the pool's connections are wrapped: a connection notes its caller when it is
// checked out, and forgets the caller when database/sql takes it back.
//
// The caller is in the context ([NewCaller]), which a call inherits from the caller that started
// it. A claim of many credentials is made in the name of one of their callers.
type Connections struct {
	mu         sync.Mutex
	checkedOut map[*trackedConn]checkout // guarded by mu
}

type checkout struct {
	caller *Caller // Nil if it is unknown.
	inTx   bool    // A transaction was begun.
}

// Open returns a pool for that configuration, and the callers behind its connections.
func Open(cfg *mysql.Config) (*sql.DB, *Connections, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, nil, err
	}
	db, connections := Track(connector)
	return db, connections, nil
}

// Track returns a pool on connector, and the callers behind its connections.
func Track(connector driver.Connector) (*sql.DB, *Connections) {
	c := &Connections{checkedOut: make(map[*trackedConn]checkout)}
	return sql.OpenDB(&trackedConnector{Connector: connector, connections: c}), c
}

// Held returns how many connections are checked out in the name of ctx's caller, and how many with
// a transaction in nobody's name, because their context comes from no caller. A manager's poller
// works for all callers and so in nobody's name, but it begins no transaction.
func (c *Connections) Held(ctx context.Context) (own, unknown int) {
	caller := callerOf(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, out := range c.checkedOut {
		switch {
		case out.caller == nil && out.inTx:
			unknown++
		case out.caller != nil && out.caller == caller:
			own++
		}
	}
	return own, unknown
}

// checkOut notes the caller of a connection that was checked out under ctx.
func (c *Connections) checkOut(ctx context.Context, conn *trackedConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.checkedOut, conn)
	c.note(ctx, conn, false)
}

// use notes a statement, and the caller of a connection that database/sql opened in the background
// for a caller that waited: such a connection is checked out under no caller's context.
func (c *Connections) use(ctx context.Context, conn *trackedConn, beginsTx bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(ctx, conn, beginsTx)
}

// note is called with mu held.
func (c *Connections) note(ctx context.Context, conn *trackedConn, beginsTx bool) {
	out := c.checkedOut[conn]
	if out.caller == nil {
		out.caller = callerOf(ctx)
	}
	out.inTx = out.inTx || beginsTx
	c.checkedOut[conn] = out
}

func (c *Connections) giveBack(conn *trackedConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.checkedOut, conn)
}

// WatchedRefresher looks at the connections of the call behind an exchange, when the exchange
// begins and when it ends.
type WatchedRefresher struct {
	credentials.Refresher
	connections *Connections

	mu           sync.Mutex
	held         int // guarded by mu: the most connections that an exchange's own call held
	unattributed int // guarded by mu: the looks at connections without a known caller
}

// Watch returns r, watched.
func (c *Connections) Watch(r credentials.Refresher) *WatchedRefresher {
	return &WatchedRefresher{Refresher: r, connections: c}
}

// Refresh implements [credentials.Refresher].
func (r *WatchedRefresher) Refresh(
	ctx context.Context, in credentials.RefreshInput,
) (credentials.Grant, error) {
	r.look(ctx)
	defer r.look(ctx)
	return r.Refresher.Refresh(ctx, in)
}

func (r *WatchedRefresher) look(ctx context.Context) {
	own, unknown := r.connections.Held(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = max(r.held, own)
	if unknown > 0 || callerOf(ctx) == nil {
		r.unattributed++
	}
}

// Seen returns the highest number of connections that an exchange's own call held, and how often
// that number could not be told.
func (r *WatchedRefresher) Seen() (held, unattributed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held, r.unattributed
}

// Caller is the context of one caller, in whose name connections are checked out.
type Caller struct{ context.Context }

type callerKey struct{}

// NewCaller returns the context of a caller.
func NewCaller(ctx context.Context) *Caller { return &Caller{ctx} }

func callerOf(ctx context.Context) *Caller {
	caller, _ := ctx.Value(callerKey{}).(*Caller)
	return caller
}

// Value implements [context.Context].
func (c *Caller) Value(key any) any {
	if key == (callerKey{}) {
		return c
	}
	return c.Context.Value(key)
}
