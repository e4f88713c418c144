package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// untilOver takes until its context ends, and returns that context's error.
func untilOver(ctx context.Context) error {
	<-ctx.Done()
	return fmt.Errorf("gave up: %w", ctx.Err())
}

// A time-out of the library's own, or of a service's finder and refresher, is no error of the
// caller's context. (All other tests look at that too: see world.ended.)
func TestInnerTimeoutsStayInside(t *testing.T) {
	for _, test := range []struct {
		name    string
		arrange func(p *process)
		want    error // nil: a RefreshError of class unknown
	}{
		{"read", func(p *process) { p.store.Before(testkit.Get, testkit.Hang) }, credentials.ErrUnavailable},
		{"claim", func(p *process) { p.store.Before(testkit.Claim, testkit.Hang) }, credentials.ErrUnavailable},
		{"save", func(p *process) { p.store.Before(testkit.Save, testkit.Hang) }, credentials.ErrUnavailable},
		{"failure", func(p *process) {
			p.store.Before(testkit.Fail, testkit.Hang)
			p.w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
				return credentials.Grant{}, untilOver(ctx)
			}
		}, nil},
		{"exchange", func(p *process) {
			p.w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
				return credentials.Grant{}, untilOver(ctx)
			}
		}, nil},
		{"classified exchange", func(p *process) {
			p.w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassUnknown, Err: untilOver(ctx)}
			}
		}, nil},
		{"exchange that goes on", func(p *process) {
			p.w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
				time.Sleep(time.Minute)
				return credentials.Grant{}, errOrdinary
			}
		}, nil},
		{"exchange with a cancellation of its own", func(p *process) {
			p.w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
				return credentials.Grant{}, context.Canceled
			}
		}, nil},
	} {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			p := w.start("P")
			test.arrange(p)
			if test.want != nil {
				p.ask(alice).fails(test.want)
			} else if e := p.ask(alice).failed(credentials.ClassUnknown); e.Err != nil && e.Err.Error() == "" {
				w.Error("the cause has no text")
			}
		})
	}
}

// The finder of services has StoreTimeout.
func TestInnerTimeoutOfTheFinderStaysInside(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", finding(func(ctx context.Context, _ string) (credentials.Service, error) {
			return credentials.Service{}, untilOver(ctx)
		}))
		a := p.ask(alice)
		if <-a.done; a.err == nil || a.took != credentials.DefaultStoreTimeout {
			w.Errorf("got error %v after %v", a.err, a.took)
		}
		w.ended(a.ctx, a.err)
		_, err := p.keeper.RunOnce(w.Context())
		if err == nil {
			w.Error("RunOnce: got no error")
		}
		w.ended(w.Context(), err)
	})
}

// RunOnce hands its context on to the store, so both contexts may be the cause: the error is that
// of the one that has ended.
func TestTimeoutsOfRunOnce(t *testing.T) {
	for _, test := range []struct {
		name   string
		ctx    func(ctx context.Context) (context.Context, context.CancelFunc)
		answer testkit.Hook
		want   error // of the caller's context; nil: it has not ended
	}{
		{"store's time", context.WithCancel, testkit.Hang, nil},
		{"caller's time", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, testkit.Hang, context.DeadlineExceeded},
		{"caller's time, as the store's is over", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, func(ctx context.Context, _ *testkit.Call) error {
			<-ctx.Done()
			return context.DeadlineExceeded
		}, context.Canceled},
	} {
		inWorldOf(t, test.name, func(w *world) {
			p := w.start("P")
			p.store.Before(testkit.DueServices, test.answer)
			ctx, cancel := test.ctx(w.Context())
			defer cancel()
			_, err := p.keeper.RunOnce(ctx)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				w.Errorf("got error %v, want %v", err, test.want)
			}
			w.ended(ctx, err)
		})
	}
}

// Close that was given a signal's context waits by a limit of its own, and names the signal's end.
func TestCloseNamesTheCallersContext(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.latency = 10 * time.Second
		p := w.start("P")
		p.store.Before(testkit.Save, testkit.Hang)
		p.begins(alice)
		ctx := w.overContext()
		err := <-p.close(ctx)
		if !errors.Is(err, context.Canceled) {
			w.Errorf("got error %v, want that of the context", err)
		}
		w.ended(ctx, err)
	})
}
