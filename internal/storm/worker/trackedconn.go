package worker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
)

type trackedConnector struct {
	driver.Connector
	connections *Connections
}

// Connect opens a connection for the caller in ctx.
func (t *trackedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := t.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := inner.(fullConn)
	if !ok {
		_ = inner.Close()
		return nil, fmt.Errorf("connections of type %T cannot be tracked: "+
			"an optional interface of database/sql/driver is missing", inner)
	}
	conn := &trackedConn{fullConn: full, connections: t.connections}
	t.connections.checkOut(ctx, conn)
	return conn, nil
}

// fullConn is the set of interfaces that go-sql-driver's connections implement. All are passed on:
// database/sql behaves differently on a connection that lacks one of the optional interfaces.
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
	c.connections.checkOut(ctx, c)
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

func (c *trackedConn) ExecContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (driver.Result, error) {
	// The store begins its transactions itself.
	begins := query == "START TRANSACTION" || strings.HasPrefix(query, "ROLLBACK AND CHAIN")
	c.connections.use(ctx, c, begins)
	return c.fullConn.ExecContext(ctx, query, args)
}

func (c *trackedConn) QueryContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (driver.Rows, error) {
	c.connections.use(ctx, c, false)
	return c.fullConn.QueryContext(ctx, query, args)
}
