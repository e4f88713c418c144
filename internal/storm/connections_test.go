package storm_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm"
)

func TestConnectionHeldDuringAnExchangeIsCounted(t *testing.T) {
	me, other := storm.WithOwner(t.Context(), "me"), storm.WithOwner(t.Context(), "other")
	hold := func(take func(t *testing.T, db *sql.DB, ctx context.Context) (giveBack func())) func(t *testing.T) {
		return func(t *testing.T) {
			for _, reused := range []bool{false, true} {
				db, connections := storm.Track(new(fakeConnector))
				t.Cleanup(func() { _ = db.Close() })
				if reused {
					must(t, db.PingContext(other))
				}
				giveBack := take(t, db, me)
				wantHeld(t, connections, me, 1)
				wantHeld(t, connections, other, 0)
				if !connections.Seen(me) {
					t.Error("Seen(me) = false after it took a connection")
				}
				giveBack()
				wantHeld(t, connections, me, 0)
				if got := db.Stats().OpenConnections; got != 1 {
					t.Errorf("%d connections are open, want the one that is reused", got)
				}
			}
		}
	}
	t.Run("transaction", hold(func(t *testing.T, db *sql.DB, ctx context.Context) func() {
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		return func() { must(t, tx.Commit()) }
	}))
	t.Run("transaction rolled back", hold(func(t *testing.T, db *sql.DB, ctx context.Context) func() {
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		return func() { must(t, tx.Rollback()) }
	}))
	t.Run("connection", hold(func(t *testing.T, db *sql.DB, ctx context.Context) func() {
		conn, err := db.Conn(ctx)
		must(t, err)
		return func() { must(t, conn.Close()) }
	}))
	t.Run("open rows", hold(func(t *testing.T, db *sql.DB, ctx context.Context) func() {
		rows, err := db.QueryContext(ctx, "SELECT 1")
		must(t, err)
		return func() { must(t, errors.Join(rows.Close(), rows.Err())) }
	}))
}

func TestConnectionsOfStatementsAreGivenBack(t *testing.T) {
	db, connections := storm.Track(new(fakeConnector))
	t.Cleanup(func() { _ = db.Close() })
	ctx := storm.WithOwner(t.Context(), "me")
	_, err := db.ExecContext(ctx, "UPDATE t")
	must(t, err)
	must(t, db.PingContext(ctx))
	stmt, err := db.PrepareContext(ctx, "SELECT 1")
	must(t, err)
	must(t, stmt.Close())
	wantHeld(t, connections, ctx, 0)
}

func TestBrokenConnectionIsNoLongerHeld(t *testing.T) {
	connector := new(fakeConnector)
	db, connections := storm.Track(connector)
	t.Cleanup(func() { _ = db.Close() })
	ctx := storm.WithOwner(t.Context(), "me")
	conn, err := db.Conn(ctx)
	must(t, err)
	wantHeld(t, connections, ctx, 1)
	connector.broken = driver.ErrBadConn
	_, _ = conn.ExecContext(ctx, "UPDATE t")
	_ = conn.Close()
	wantHeld(t, connections, ctx, 0)
}

// A connection that database/sql opens in the background, because the one that a caller waited for broke, is checked
// out under nobody's context.
func TestConnectionOpenedInTheBackgroundGetsItsOwner(t *testing.T) {
	connector := new(fakeConnector)
	db, connections := storm.Track(connector)
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	first, err := db.Conn(storm.WithOwner(t.Context(), "first"))
	must(t, err)

	ctx := storm.WithOwner(t.Context(), "second")
	begun := make(chan *sql.Tx)
	go func() {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Error(err)
		}
		begun <- tx
	}()
	for deadline := time.Now().Add(10 * time.Second); db.Stats().WaitCount == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	_ = first.Raw(func(any) error { return driver.ErrBadConn })
	_ = first.Close()
	tx := <-begun
	if connector.connected != 2 {
		t.Fatalf("%d connections were opened, want 2", connector.connected)
	}
	wantHeld(t, connections, ctx, 1)
	must(t, tx.Rollback())
	wantHeld(t, connections, ctx, 0)
}

func TestTransactionInNobodysNameIsReported(t *testing.T) {
	db, connections := storm.Track(new(fakeConnector))
	t.Cleanup(func() { _ = db.Close() })
	me := storm.WithOwner(t.Context(), "me")
	tx, err := db.BeginTx(context.Background(), nil)
	must(t, err)
	if own, unknown := connections.Held(me); own != 0 || unknown != 1 {
		t.Errorf("Held = %d, %d; want 0 of its own and 1 unknown", own, unknown)
	}
	must(t, tx.Rollback())
	if connections.Seen(me) {
		t.Error("Seen(me) = true, but it never had a connection")
	}
	// A plain statement in nobody's name is the manager's poller.
	rows, err := db.QueryContext(context.Background(), "SELECT 1")
	must(t, err)
	if _, unknown := connections.Held(me); unknown != 0 {
		t.Errorf("Held: %d unknown, want 0", unknown)
	}
	must(t, errors.Join(rows.Close(), rows.Err()))
}

func TestExchangeIsWatchedAtItsBeginAndEnd(t *testing.T) {
	for name, test := range map[string]struct {
		before, during bool // takes a connection and keeps it
		want           int
	}{
		"holds nothing":                     {want: 0},
		"holds one from before, until then": {before: true, want: 1},
		"takes one meanwhile":               {during: true, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			db, connections := storm.Track(new(fakeConnector))
			t.Cleanup(func() { _ = db.Close() })
			ctx := storm.WithOwner(t.Context(), "me")
			must(t, db.PingContext(ctx))
			var conn *sql.Conn
			take := func() {
				var err error
				conn, err = db.Conn(ctx)
				must(t, err)
			}
			watched, seen := storm.Watch(credentials.RefresherFunc(func(context.Context, credentials.Credential) (credentials.Grant, error) {
				if test.before {
					must(t, conn.Close())
				}
				if test.during {
					take()
				}
				return credentials.Grant{}, nil
			}), connections)
			if test.before {
				take()
			}
			_, err := watched.Refresh(ctx, credentials.Credential{})
			must(t, err)
			if held, lost := seen(); held != test.want || lost != 0 {
				t.Errorf("seen = %d, %d; want %d, 0", held, lost, test.want)
			}
			if test.during {
				must(t, conn.Close())
			}
		})
	}
	t.Run("cannot tell", func(t *testing.T) {
		db, connections := storm.Track(new(fakeConnector))
		t.Cleanup(func() { _ = db.Close() })
		watched, seen := storm.Watch(credentials.RefresherFunc(func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, nil
		}), connections)
		_, err := watched.Refresh(storm.WithOwner(t.Context(), "me"), credentials.Credential{})
		must(t, err)
		if _, lost := seen(); lost == 0 {
			t.Error("an exchange whose flight never had a connection in its caller's name passed for watched")
		}
	})
}

// database/sql does without what a connection does not implement, and so behaves differently.
func TestTrackedConnectionsImplementWhatTheDriversDo(t *testing.T) {
	cfg, err := mysql.ParseDSN(database(t))
	must(t, err)
	connector, err := mysql.NewConnector(cfg)
	must(t, err)
	inner, err := connector.Connect(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = inner.Close() })
	db, _, err := storm.Open(cfg)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.Raw(func(outer any) error {
		for name, implements := range map[string]func(any) bool{
			"ConnBeginTx":        func(c any) bool { _, ok := c.(driver.ConnBeginTx); return ok },
			"ConnPrepareContext": func(c any) bool { _, ok := c.(driver.ConnPrepareContext); return ok },
			"ExecerContext":      func(c any) bool { _, ok := c.(driver.ExecerContext); return ok },
			"NamedValueChecker":  func(c any) bool { _, ok := c.(driver.NamedValueChecker); return ok },
			"Pinger":             func(c any) bool { _, ok := c.(driver.Pinger); return ok },
			"QueryerContext":     func(c any) bool { _, ok := c.(driver.QueryerContext); return ok },
			"SessionResetter":    func(c any) bool { _, ok := c.(driver.SessionResetter); return ok },
			"Validator":          func(c any) bool { _, ok := c.(driver.Validator); return ok },
		} {
			if got, want := implements(outer), implements(inner); got != want {
				t.Errorf("%s is implemented: %v, by the driver's: %v", name, got, want)
			}
		}
		return nil
	}))
}

func wantHeld(t *testing.T, c *storm.Connections, ctx context.Context, want int) {
	t.Helper()
	if got, unknown := c.Held(ctx); got != want || unknown != 0 {
		t.Errorf("Held = %d, %d; want %d, 0", got, unknown, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeConnector's connections accept everything.
type fakeConnector struct {
	connected int
	broken    error // what statements return
}

func (c *fakeConnector) Connect(context.Context) (driver.Conn, error) {
	c.connected++
	return &fakeConn{connector: c}, nil
}
func (c *fakeConnector) Driver() driver.Driver { return nil }

type fakeConn struct{ connector *fakeConnector }

func (c *fakeConn) Begin() (driver.Tx, error)                { return fakeTx{}, nil }
func (c *fakeConn) Prepare(string) (driver.Stmt, error)      { return fakeStmt{}, nil }
func (c *fakeConn) Close() error                             { return nil }
func (c *fakeConn) Ping(context.Context) error               { return nil }
func (c *fakeConn) ResetSession(context.Context) error       { return nil }
func (c *fakeConn) IsValid() bool                            { return true }
func (c *fakeConn) CheckNamedValue(*driver.NamedValue) error { return nil }
func (c *fakeConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return fakeTx{}, nil
}
func (c *fakeConn) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return fakeStmt{}, nil
}
func (c *fakeConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(0), c.connector.broken
}
func (c *fakeConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return fakeRows{}, nil
}

type fakeTx struct{}

func (fakeTx) Commit() error   { return nil }
func (fakeTx) Rollback() error { return nil }

type fakeStmt struct{}

func (fakeStmt) Close() error                               { return nil }
func (fakeStmt) NumInput() int                              { return 0 }
func (fakeStmt) Exec([]driver.Value) (driver.Result, error) { return driver.RowsAffected(0), nil }
func (fakeStmt) Query([]driver.Value) (driver.Rows, error)  { return fakeRows{}, nil }

type fakeRows struct{}

func (fakeRows) Columns() []string         { return []string{"1"} }
func (fakeRows) Close() error              { return nil }
func (fakeRows) Next([]driver.Value) error { return io.EOF }
