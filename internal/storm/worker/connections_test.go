package worker_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// track returns a pool of fake connections.
func track(t *testing.T) (*sql.DB, *worker.Connections, *fakeConnector) {
	t.Helper()
	connector := new(fakeConnector)
	db, connections := worker.Track(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db, connections, connector
}

func TestConnectionHeldDuringAnExchangeIsCounted(t *testing.T) {
	type giveBack func() error
	for name, take := range map[string]func(context.Context, *sql.DB) (giveBack, error){
		"transaction": func(ctx context.Context, db *sql.DB) (giveBack, error) {
			tx, err := db.BeginTx(ctx, nil)
			return tx.Commit, err
		},
		"transaction rolled back": func(ctx context.Context, db *sql.DB) (giveBack, error) {
			tx, err := db.BeginTx(ctx, nil)
			return tx.Rollback, err
		},
		"connection": func(ctx context.Context, db *sql.DB) (giveBack, error) {
			conn, err := db.Conn(ctx)
			return conn.Close, err
		},
		"open rows": func(ctx context.Context, db *sql.DB) (giveBack, error) {
			rows, err := db.QueryContext(ctx, "SELECT 1")
			return func() error { return errors.Join(rows.Close(), rows.Err()) }, err
		},
	} {
		for _, reused := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				me, other := worker.NewCaller(t.Context()), worker.NewCaller(t.Context())
				db, connections, _ := track(t)
				if reused {
					must(t, db.PingContext(other))
				}
				giveBack, err := take(me, db)
				must(t, err)
				wantHeld(t, connections, me, 1)
				wantHeld(t, connections, other, 0)
				must(t, giveBack())
				wantHeld(t, connections, me, 0)
				if got := db.Stats().OpenConnections; got != 1 {
					t.Errorf("%d connections are open, want the one that is reused", got)
				}
			})
		}
	}
}

func TestConnectionsOfStatementsAreGivenBack(t *testing.T) {
	db, connections, _ := track(t)
	ctx := worker.NewCaller(t.Context())
	_, err := db.ExecContext(ctx, "UPDATE t")
	must(t, err)
	must(t, db.PingContext(ctx))
	stmt, err := db.PrepareContext(ctx, "SELECT 1")
	must(t, err)
	must(t, stmt.Close())
	wantHeld(t, connections, ctx, 0)
}

func TestBrokenConnectionIsNoLongerHeld(t *testing.T) {
	db, connections, connector := track(t)
	ctx := worker.NewCaller(t.Context())
	conn, err := db.Conn(ctx)
	must(t, err)
	wantHeld(t, connections, ctx, 1)
	connector.broken = driver.ErrBadConn
	_, _ = conn.ExecContext(ctx, "UPDATE t")
	_ = conn.Close()
	wantHeld(t, connections, ctx, 0)
}

// A connection that database/sql opens in the background, because the one that a caller waited for
// broke, is checked out under nobody's context.
func TestConnectionOpenedInTheBackgroundGetsItsCaller(t *testing.T) {
	db, connections, connector := track(t)
	db.SetMaxOpenConns(1)
	first, err := db.Conn(worker.NewCaller(t.Context()))
	must(t, err)

	ctx := worker.NewCaller(t.Context())
	begun := make(chan *sql.Tx)
	go func() {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Error(err)
		}
		begun <- tx
	}()
	deadline := time.Now().Add(10 * time.Second)
	for ; db.Stats().WaitCount == 0; time.Sleep(time.Millisecond) {
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
	db, connections, _ := track(t)
	me := worker.NewCaller(t.Context())
	tx, err := db.BeginTx(context.Background(), nil)
	must(t, err)
	if own, unknown := connections.Held(me); own != 0 || unknown != 1 {
		t.Errorf("Held = %d, %d; want 0 of its own and 1 unknown", own, unknown)
	}
	must(t, tx.Rollback())
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
		stranger       bool // The exchange's context comes from no caller.
		before, during bool // The caller takes a connection then, and keeps it.
		want           int
	}{
		"holds nothing":                     {want: 0},
		"holds one from before, until then": {before: true, want: 1},
		"takes one meanwhile":               {during: true, want: 1},
		"cannot tell":                       {stranger: true},
	} {
		t.Run(name, func(t *testing.T) {
			db, connections, _ := track(t)
			ctx := t.Context()
			if !test.stranger {
				ctx = worker.NewCaller(ctx)
			}
			must(t, db.PingContext(ctx))
			var conn *sql.Conn
			take := func() {
				var err error
				conn, err = db.Conn(ctx)
				must(t, err)
			}
			watched := connections.Watch(credentials.RefresherFunc(
				func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
					if test.before {
						must(t, conn.Close())
					}
					if test.during {
						take()
					}
					return credentials.Grant{}, nil
				}))
			if test.before {
				take()
			}
			_, err := watched.Refresh(ctx, credentials.RefreshInput{})
			must(t, err)
			held, unattributed := watched.Seen()
			if held != test.want || (unattributed > 0) != test.stranger {
				t.Errorf("Seen = %d, %d; want %d, and unattributed looks: %v",
					held, unattributed, test.want, test.stranger)
			}
			if test.during {
				must(t, conn.Close())
			}
		})
	}
}

func wantHeld(t *testing.T, c *worker.Connections, ctx context.Context, want int) {
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
	broken    error // Statements return it.
}

func (c *fakeConnector) Connect(context.Context) (driver.Conn, error) {
	c.connected++
	return fake{c}, nil
}

func (c *fakeConnector) Driver() driver.Driver { return nil }

// fake is a connection, and its transactions, statements and rows.
type fake struct{ connector *fakeConnector }

func (f fake) Begin() (driver.Tx, error)                                    { return f, nil }
func (f fake) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return f, nil }
func (f fake) Prepare(string) (driver.Stmt, error)                          { return f, nil }
func (f fake) PrepareContext(context.Context, string) (driver.Stmt, error)  { return f, nil }
func (f fake) Close() error                                                 { return nil }
func (f fake) Ping(context.Context) error                                   { return nil }
func (f fake) ResetSession(context.Context) error                           { return nil }
func (f fake) IsValid() bool                                                { return true }
func (f fake) CheckNamedValue(*driver.NamedValue) error                     { return nil }
func (f fake) Commit() error                                                { return nil }
func (f fake) Rollback() error                                              { return nil }
func (f fake) NumInput() int                                                { return 0 }
func (f fake) Exec([]driver.Value) (driver.Result, error)                   { return nil, nil }
func (f fake) Query([]driver.Value) (driver.Rows, error)                    { return f, nil }
func (f fake) Columns() []string                                            { return []string{"1"} }
func (f fake) Next([]driver.Value) error                                    { return io.EOF }

func (f fake) ExecContext(
	context.Context, string, []driver.NamedValue,
) (driver.Result, error) {
	return driver.RowsAffected(0), f.connector.broken
}

func (f fake) QueryContext(
	context.Context, string, []driver.NamedValue,
) (driver.Rows, error) {
	return f, nil
}
