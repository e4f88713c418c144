package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

func newTestStore() *Store {
	return &Store{reads: newOutage(), writes: newOutage(), pool: func() (none sql.DBStats) { return none }}
}

func (s *Store) try(ctx context.Context, op func(context.Context) error) error {
	return s.write(ctx, "do it", op)
}

// TestRetry runs calls of 3 s that meet the same error again and again.
func TestRetry(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want []error // all are wrapped
	}{
		{"passes", server(2003, "HY000"), []error{
			credentials.ErrUnavailable, context.DeadlineExceeded, &mysql.MySQLError{Number: 2003},
		}},
		{"locked", server(3572, "HY000"), []error{
			credentials.ErrUnavailable, credentials.ErrRowLocked, &mysql.MySQLError{Number: 3572},
		}},
		{"not let in", server(1045, "28000"), []error{credentials.ErrUnavailable, &mysql.MySQLError{Number: 1045}}},
		{"schema", server(1146, "42S02"), []error{credentials.ErrSchema, &mysql.MySQLError{Number: 1146}}},
		{"lasts", server(1142, "42000"), []error{&mysql.MySQLError{Number: 1142}}},
		{"outcome", credentials.ErrSuperseded, []error{credentials.ErrSuperseded}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				calls, began := 0, time.Now()
				err := newTestStore().try(ctx, func(context.Context) error {
					calls++
					return test.err
				})
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("got error %v, want %v", err, want)
					}
				}
				locked := errors.Is(err, credentials.ErrRowLocked)
				if locked != (test.name == "locked") {
					t.Errorf("got error %v, which says that the row is locked: %v", err, locked)
				}
				text := fmt.Sprint(err)
				if !strings.HasPrefix(text, "do it: ") || strings.Contains(text, "hunter2") {
					t.Errorf("got error %v, want one that names the action and has none of the server's text", err)
				}
				took, again := time.Since(began), errors.Is(err, credentials.ErrUnavailable) && test.name != "not let in"
				if again && took != 3*time.Second || !again && calls != 1 {
					t.Errorf("gave up after %d calls and %v; its context ends after 3s", calls, took)
				}
			})
		})
	}
}

// TestRetryOutlastsARestart: a server refuses connections for most of the call's time.
func TestRetryOutlastsARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := newTestStore().try(ctx, func(context.Context) error {
			if time.Since(began) < 4*time.Second {
				return failed(&net.OpError{Op: "dial", Err: errors.New("connection refused")})
			}
			return nil
		})
		if err != nil {
			t.Errorf("after %v: got error %v, want success", time.Since(began), err)
		}
	})
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := newTestStore().try(ctx, func(context.Context) error { return server(1213, "40001") })
		if took := time.Since(began); took != 3*time.Millisecond {
			t.Errorf("ended after %v, its context after 3ms", took)
		}
		for _, want := range []error{
			credentials.ErrUnavailable, context.DeadlineExceeded, &mysql.MySQLError{Number: 1213},
		} {
			if !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
		}

		called := false
		op := func(context.Context) error { called = true; return nil }
		if err := newTestStore().try(ctx, op); err == nil || called {
			t.Errorf("under a context that has ended: called %v, error %v", called, err)
		}
	})
}

// TestCancelledCall: the error is that of the caller's context, and not that of a try's own, whose
// time was over before.
func TestCancelledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(maxFirstTry+time.Second, cancel)
		err := newTestStore().try(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return failed(fmt.Errorf("a query: %w", ctx.Err()))
		})
		if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want one that says that the call was cancelled", err)
		}
	})
}

// TestFirstTryThatHangs: a first try that hangs leaves time for a second one, and a call without a
// deadline is bounded all the same.
func TestFirstTryThatHangs(t *testing.T) {
	for _, test := range []struct{ deadline, first, all time.Duration }{
		{4 * time.Second, 2 * time.Second, 4 * time.Second},
		{time.Minute, maxFirstTry, time.Minute},
		{0, maxFirstTry, maxCall},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if test.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.deadline)
				defer cancel()
			}
			began, firstEnded := time.Now(), time.Duration(0)
			err := newTestStore().try(ctx, func(ctx context.Context) error {
				<-ctx.Done()
				if firstEnded == 0 {
					firstEnded = time.Since(began)
				}
				return failed(ctx.Err())
			})
			took := time.Since(began)
			if firstEnded != test.first || took != test.all || !errors.Is(err, credentials.ErrUnavailable) {
				t.Errorf("deadline %v: the first try ended after %v, the call after %v, error %v",
					test.deadline, firstEnded, took, err)
			}
			if errors.Is(err, context.DeadlineExceeded) != (test.deadline > 0) {
				t.Errorf("deadline %v: got error %v, which must be a context's if the caller's has ended", test.deadline, err)
			}
		})
	}
}

// TestOutage: 200 calls lose their server for 3 s. Each call dials once, and then all of them dial
// a few times a second together; the first success has all others follow at once.
func TestOutage(t *testing.T) {
	const calls, away = 200, 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s, began := newTestStore(), time.Now()
		var dials, failures atomic.Int64
		var last atomic.Int64
		for range calls {
			go func() {
				err := s.try(ctx, func(context.Context) error {
					if time.Since(began) < away {
						dials.Add(1)
						return failed(mysql.ErrInvalidConn)
					}
					return nil
				})
				if err != nil {
					failures.Add(1)
				}
				last.Store(int64(time.Since(began)))
			}()
		}
		time.Sleep(away)
		t.Logf("%d dials in %v", dials.Load(), away)
		if n := dials.Load(); n < calls || n > calls+60 {
			t.Errorf("%d dials of %d calls in %v, want one each and a few a second beside", n, calls, away)
		}
		time.Sleep(2 * time.Second)
		if n := failures.Load(); n > 0 {
			t.Errorf("%d calls failed", n)
		}
		if late := time.Duration(last.Load()) - away; late > maxPause {
			t.Errorf("the last call succeeded %v after the server came back", late)
		}
	})
}

// TestOutageTryThatHangs: no try in an outage waits for another that hangs.
func TestOutageTryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s, began := newTestStore(), time.Now()
		var hung atomic.Bool
		ended := make(chan time.Duration, 2)
		for range 2 {
			go func() {
				tries := 0
				_ = s.try(ctx, func(ctx context.Context) error {
					switch tries++; {
					case tries == 1:
						return failed(mysql.ErrInvalidConn)
					case hung.CompareAndSwap(false, true):
						<-ctx.Done()
						return failed(ctx.Err())
					}
					return nil
				})
				ended <- time.Since(began)
			}()
		}
		if took := <-ended; took > time.Second {
			t.Errorf("the other call ended after %v", took)
		}
	})
}
