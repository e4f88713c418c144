package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

func server(number uint16) error {
	return &mysql.MySQLError{Number: number, Message: "said the server"}
}

func TestRetry(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		calls int   // before the call gives up
		want  error // that the result wraps
	}{
		{"deadlock", server(1213), attempts, credentials.ErrUnavailable},
		{"lock wait time-out", server(1205), attempts, credentials.ErrUnavailable},
		{"the host's open transaction", server(1568), attempts, credentials.ErrUnavailable},
		{"certification failed", server(1180), attempts, credentials.ErrUnavailable},
		{"read-only", server(1290), attempts, credentials.ErrUnavailable},
		{"too many connections", server(1040), attempts, credentials.ErrUnavailable},
		{"lost race", errLostRace, attempts, credentials.ErrUnavailable},
		{"reply lost", mysql.ErrInvalidConn, attempts, credentials.ErrUnavailable},
		{"nothing sent", driver.ErrBadConn, attempts, credentials.ErrUnavailable},
		{"connection given back", sql.ErrConnDone, attempts, credentials.ErrUnavailable},
		{"cut off", io.ErrUnexpectedEOF, attempts, credentials.ErrUnavailable},
		{"refused", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, attempts, credentials.ErrUnavailable},
		{"no such table", server(1146), 1, credentials.ErrSchema},
		{"no such column", server(1054), 1, credentials.ErrSchema},
		{"a column that wants a value", server(1364), 1, credentials.ErrSchema},
		{"access denied", server(1045), 1, server(1045)},
		{"syntax error", server(1064), 1, nil},
		{"superseded", credentials.ErrSuperseded, 1, credentials.ErrSuperseded},
		{"not found", fmt.Errorf("wrapped: %w", credentials.ErrNotFound), 1, credentials.ErrNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, began := 0, time.Now()
				err := (&Store{}).retry(t.Context(), "do it", func() error {
					calls++
					return test.err
				})
				if calls != test.calls {
					t.Errorf("called %d times, want %d", calls, test.calls)
				}
				if test.want != nil && !errors.Is(err, test.want) && !sameNumber(err, test.want) {
					t.Errorf("got error %v, want %v", err, test.want)
				}
				if err == nil || !strings.HasPrefix(err.Error(), "do it: ") {
					t.Errorf("got error %v, want one that says what was done", err)
				}
				if took := time.Since(began); took > attempts*mostPause {
					t.Errorf("gave up after %v", took)
				}
			})
		})
	}
}

func sameNumber(got, want error) bool {
	var g, w *mysql.MySQLError
	return errors.As(got, &g) && errors.As(want, &w) && g.Number == w.Number
}

func TestRetryUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := (&Store{}).retry(t.Context(), "do it", func() error {
			if calls++; calls < attempts {
				return server(1213)
			}
			return nil
		})
		if err != nil || calls != attempts {
			t.Errorf("got error %v after %d calls, want success after %d", err, calls, attempts)
		}
	})
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := (&Store{}).retry(ctx, "do it", func() error { return server(1213) })
		if took := time.Since(began); took != 3*time.Millisecond {
			t.Errorf("ended after %v, its context after 3ms", took)
		}
		for _, want := range []error{credentials.ErrUnavailable, context.DeadlineExceeded} {
			if !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
		}
		if !sameNumber(err, server(1213)) {
			t.Errorf("got error %v, which does not say what the attempts came to", err)
		}

		called := false
		if err := (&Store{}).retry(ctx, "do it", func() error { called = true; return nil }); err == nil || called {
			t.Errorf("under a context that has ended: called %v, error %v", called, err)
		}
	})
}

// TestSyntaxErrorIsNotQuoted (invariant 14): with interpolated parameters it quotes a statement that has tokens in it.
func TestSyntaxErrorIsNotQuoted(t *testing.T) {
	quoting := &mysql.MySQLError{Number: 1064, Message: "syntax to use near 'hunter2'"}
	err := (&Store{}).retry(t.Context(), "save", func() error { return fmt.Errorf("wrapped: %w", quoting) })
	for text := range strings.SplitSeq(fmt.Sprintf("%v\n%+v\n%#v", err, err, err), "\n") {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the error shows the statement: %s", text)
		}
	}
	if !sameNumber(err, server(1064)) {
		t.Errorf("got error %v, want error 1064", err)
	}
}
