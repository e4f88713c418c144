package integration_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

// splitter opens connections as through a proxy that splits reads from writes: a plain SELECT
// outside a transaction goes to the replica, and all else to the source.
type splitter struct {
	source, replica       driver.Connector
	fromSource, toReplica atomic.Int64 // statements
}

// split returns a pool behind a splitter.
func (h *heldBack) split(t *testing.T) (*sql.DB, *splitter) {
	t.Helper()
	s := &splitter{}
	for server, connector := range map[*private]*driver.Connector{
		h.primary: &s.source, h.standby: &s.replica,
	} {
		config := server.configFor(t, pairDatabase, interpolated)
		config.User, config.Passwd = "app", h.password
		var err error
		*connector, err = mysql.NewConnector(config)
		must(t, err)
	}
	db := sql.OpenDB(s)
	t.Cleanup(func() { succeeds(t, "Close of the pool", db.Close()) })
	return db, s
}

func (s *splitter) Connect(ctx context.Context) (driver.Conn, error) {
	source, err := s.source.Connect(ctx)
	if err != nil {
		return nil, err
	}
	replica, err := s.replica.Connect(ctx)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &splitConn{s: s, Conn: source, replica: replica}, nil
}

func (s *splitter) Driver() driver.Driver { return s.source.Driver() }

type splitConn struct {
	driver.Conn // to the source

	s       *splitter
	replica driver.Conn
	open    bool // a transaction is
}

func (c *splitConn) QueryContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (driver.Rows, error) {
	to, count := c.Conn, &c.s.fromSource
	if !c.open && strings.HasPrefix(query, "SELECT") && !strings.Contains(query, "FOR UPDATE") {
		to, count = c.replica, &c.s.toReplica
	}
	count.Add(1)
	return to.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *splitConn) ExecContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (driver.Result, error) {
	c.s.fromSource.Add(1)
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err == nil {
		switch {
		case strings.HasPrefix(query, "START TRANSACTION"), strings.Contains(query, " AND CHAIN"):
			c.open = true
		case strings.HasPrefix(query, "COMMIT"), strings.HasPrefix(query, "ROLLBACK"):
			c.open = false
		}
	}
	return result, err
}

func (c *splitConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.Conn.(driver.NamedValueChecker).CheckNamedValue(v)
}

func (c *splitConn) ResetSession(ctx context.Context) error {
	return errors.Join(c.Conn.(driver.SessionResetter).ResetSession(ctx),
		c.replica.(driver.SessionResetter).ResetSession(ctx))
}

func (c *splitConn) IsValid() bool {
	return c.Conn.(driver.Validator).IsValid() && c.replica.(driver.Validator).IsValid()
}

func (c *splitConn) Close() error { return errors.Join(c.Conn.Close(), c.replica.Close()) }

// TestReaderThatIsBehind: a process reads from a replica that has not applied the last write, and
// never does while the test lasts. No caller gets an error that was true before that write.
func TestReaderThatIsBehind(t *testing.T) {
	t.Parallel()
	for _, kind := range requirePrivate(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := holdBack(t, kind)
			store, change := h.store, credentials.Change{Key: alice, By: "ann@host"}
			var late credentials.Fence // of a holder that comes back
			unlock := func() {}
			for _, test := range []struct {
				name         string
				before, then func() error
			}{
				{
					"put", func() error { return nil },
					func() error { return store.Put(bounded(t), alice, renewal("new").Grant) },
				},
				{
					"deleted and put again",
					func() error { return store.Put(bounded(t), alice, refreshToken("seed")) },
					func() error {
						return errors.Join(store.Delete(bounded(t), alice),
							store.Put(bounded(t), alice, renewal("new").Grant))
					},
				},
				{
					"put, and locked by another program", func() error { return nil },
					func() error {
						must(t, store.Put(bounded(t), alice, renewal("new").Grant))
						tx, err := h.primary.open(t, pairDatabase, interpolated).BeginTx(t.Context(), nil)
						must(t, err)
						unlock = func() { must(t, tx.Rollback()) }
						_, err = tx.ExecContext(bounded(t), "UPDATE credentials SET created_at = UTC_TIMESTAMP(6)")
						return err
					},
				},
				{
					"dead, and put", func() error {
						seed(t, store, alice)
						return store.Fail(bounded(t), claim(t, store, alice).Fence(),
							credentials.Failure{Class: credentials.ClassDead})
					},
					func() error { return store.Put(bounded(t), alice, renewal("new").Grant) },
				},
				{
					"backing off, and a late success", func() error {
						seed(t, store, alice)
						first := claim(t, store, alice)
						late = first.Fence()
						second := claimOf("second")
						second.Unused = first.Lease.ID
						c, err := store.Claim(bounded(t), alice, second)
						must(t, err)
						return store.Fail(bounded(t), c.Fence(),
							credentials.Failure{Class: credentials.ClassTransient, RetryIn: time.Hour})
					},
					func() error { return store.Save(bounded(t), late, renewal("new")) },
				},
				{
					"disabled, and enabled", func() error {
						must(t, store.Put(bounded(t), alice, renewal("new").Grant))
						return store.Disable(bounded(t), change)
					},
					func() error { return store.Enable(bounded(t), change) },
				},
			} {
				t.Run(test.name, func(t *testing.T) {
					must(t, test.before())
					h.settle(t)
					h.hold(t)
					must(t, test.then())
					db, _ := h.split(t)
					m := newManager(t, newStore(t, db), credentials.RefresherFunc(
						func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
							return credentials.Grant{}, errors.New("a refresh token was presented")
						}))
					began := time.Now()
					token, err := m.Token(bounded(t), alice)
					succeeds(t, "Token", err)
					equal(t, "the token", token.Value.Reveal(), "new")
					t.Logf("after %v", time.Since(began))
					unlock()
					unlock = func() {}
					h.forget(t)
				})
			}
		})
	}
}

// TestWaitersBehindAReader: two processes read from a replica that applies nothing while the test
// lasts. One of them exchanges, and the other learns of the result, for a claim looks at the row
// once a second.
func TestWaitersBehindAReader(t *testing.T) {
	const took = 300 * time.Millisecond
	t.Parallel()
	for _, kind := range requirePrivate(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := holdBack(t, kind)
			seed(t, h.store, alice)
			h.settle(t)
			h.hold(t)
			var exchanges atomic.Int32
			type result struct {
				token credentials.Token
				took  time.Duration
				err   error
			}
			results := make(chan result, 2)
			for range cap(results) {
				db, s := h.split(t)
				m := newManager(t, newStore(t, db), credentials.RefresherFunc(
					func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
						time.Sleep(took)
						return renewal(fmt.Sprint("new ", exchanges.Add(1))).Grant, nil
					}))
				go func() {
					began := time.Now()
					token, err := m.Token(bounded(t), alice)
					r := result{token, time.Since(began), err}
					t.Logf("after %v: %d statements on the source, %d on the replica",
						r.took, s.fromSource.Load(), s.toReplica.Load())
					results <- r
				}()
			}
			for range cap(results) {
				r := receive(t, "a token", results)
				succeeds(t, "Token", r.err)
				equal(t, "the token", r.token.Value.Reveal(), "new 1")
			}
			equal(t, "exchanges", exchanges.Load(), 1)
		})
	}
}
