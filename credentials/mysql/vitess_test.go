package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/jmoiron/sqlx"
)

// answering is a driver whose connections answer each statement with that error.
type answering struct{ err error }

func (a answering) Connect(context.Context) (driver.Conn, error) { return a, nil }
func (a answering) Driver() driver.Driver                        { return a }
func (a answering) Open(string) (driver.Conn, error)             { return a, nil }
func (a answering) Prepare(string) (driver.Stmt, error)          { return nil, errors.New("not asked for") }
func (a answering) Begin() (driver.Tx, error)                    { return nil, errors.New("not asked for") }
func (a answering) Close() error                                 { return nil }
func (a answering) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return nil, a.err
}

// TestPrepares: go-sql-driver answers driver.ErrSkip to a statement with values that the DSN has it
// prepare.
func TestPrepares(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{{driver.ErrSkip, true}, {errors.New("the server's"), false}} {
		db := sqlx.NewDb(sql.OpenDB(answering{test.err}), "mysql")
		conn, err := db.Connx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := prepares(t.Context(), conn); got != test.want {
			t.Errorf("after the error %v: got %t, want %t", test.err, got, test.want)
		}
		_ = db.Close()
	}
}
