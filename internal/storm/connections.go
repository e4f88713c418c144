package storm

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// Connections knows who holds which connection of one pool. database/sql tells how many connections are in use, but
// not by whom; a storm wants to know what the flight that is exchanging holds itself. So the pool's connections are
// wrapped: each notes its owner when it is checked out and forgets it when database/sql takes it back.
//
// The owner is a value in the context ([WithOwner]), which a flight inherits from the caller that started it.
type Connections struct {
	mu   sync.Mutex                // guards what follows
	out  map[*trackedConn]checkout // the connections that are checked out
	seen map[any]bool              // the owners that ever had one
}

type checkout struct {
	owner any  // nil: not known
	inTx  bool // a transaction was begun
}

type ownerKey struct{}

// WithOwner returns a context under which connections are checked out in the name of owner, which must be comparable
// and not nil.
func WithOwner(ctx context.Context, owner any) context.Context {
	return context.WithValue(ctx, ownerKey{}, owner)
}

// Open returns a pool for that configuration and the account of who holds its connections.
func Open(cfg *mysql.Config) (*sql.DB, *Connections, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, nil, err
	}
	db, connections := Track(connector)
	return db, connections, nil
}

// Track returns a pool on connector and the account of who holds its connections.
func Track(connector driver.Connector) (*sql.DB, *Connections) {
	c := &Connections{out: make(map[*trackedConn]checkout), seen: make(map[any]bool)}
	return sql.OpenDB(&trackedConnector{Connector: connector, connections: c}), c
}

// Held returns how many connections are checked out in the name of ctx's owner, and how many with a transaction in
// nobody's: those were asked for under a context that comes from no caller. (A manager's poller works for all callers
// and so for none; but it begins no transaction.)
func (c *Connections) Held(ctx context.Context) (own, unknown int) {
	me := ctx.Value(ownerKey{})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, out := range c.out {
		switch {
		case out.owner == nil && out.inTx:
			unknown++
		case out.owner != nil && out.owner == me:
			own++
		}
	}
	return own, unknown
}

// Seen reports whether ctx's owner ever had a connection. Where it had none, it either needed none or is not who asks
// for them, and Held says nothing about it.
func (c *Connections) Seen(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[ctx.Value(ownerKey{})]
}

func (c *Connections) take(ctx context.Context, conn *trackedConn) {
	c.note(conn, checkout{owner: ctx.Value(ownerKey{})})
}

// use notes the owner of a connection that was not checked out under its context: one that database/sql opened in the
// background, for a caller that was waiting.
func (c *Connections) use(ctx context.Context, conn *trackedConn, beginsTx bool) {
	c.mu.Lock()
	out := c.out[conn]
	c.mu.Unlock()
	if out.owner == nil {
		out.owner = ctx.Value(ownerKey{})
	}
	out.inTx = out.inTx || beginsTx
	c.note(conn, out)
}

func (c *Connections) note(conn *trackedConn, out checkout) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out[conn] = out
	if out.owner != nil {
		c.seen[out.owner] = true
	}
}

func (c *Connections) giveBack(conn *trackedConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.out, conn)
}

type trackedConnector struct {
	driver.Connector

	connections *Connections
}

// Connect opens a connection for the owner in ctx.
func (t *trackedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := t.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := inner.(fullConn)
	if !ok {
		_ = inner.Close()
		return nil, fmt.Errorf("connections of type %T cannot be tracked: an optional interface of database/sql/driver is missing", inner)
	}
	conn := &trackedConn{fullConn: full, connections: t.connections}
	t.connections.take(ctx, conn)
	return conn, nil
}

// fullConn is what go-sql-driver's connections implement. All of it is passed on: database/sql behaves differently on
// a connection that lacks one of the optional interfaces.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

type trackedConn struct {
	fullConn

	connections *Connections
}

// ResetSession is called when an idle connection is checked out.
func (c *trackedConn) ResetSession(ctx context.Context) error {
	c.connections.take(ctx, c)
	return c.fullConn.ResetSession(ctx)
}

// IsValid is called when a connection is given back.
func (c *trackedConn) IsValid() bool {
	c.connections.giveBack(c)
	return c.fullConn.IsValid()
}

// Close is called instead of IsValid for a connection that is broken.
func (c *trackedConn) Close() error {
	c.connections.giveBack(c)
	return c.fullConn.Close()
}

func (c *trackedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.connections.use(ctx, c, true)
	return c.fullConn.BeginTx(ctx, opts)
}

func (c *trackedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.connections.use(ctx, c, false)
	return c.fullConn.PrepareContext(ctx, query)
}

func (c *trackedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.connections.use(ctx, c, query == "START TRANSACTION") // which the store sends itself
	return c.fullConn.ExecContext(ctx, query, args)
}

func (c *trackedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.connections.use(ctx, c, false)
	return c.fullConn.QueryContext(ctx, query, args)
}

func (c *trackedConn) Ping(ctx context.Context) error {
	c.connections.use(ctx, c, false)
	return c.fullConn.Ping(ctx)
}
