package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// What refreshers do that they should not, what their callers are told, and what the row then says.
func TestMisbehavingRefresher(t *testing.T) {
	foreign := errors.New(mark + " in the body")
	for _, test := range []struct {
		name   string
		answer func(ctx context.Context, c credentials.Credential) (credentials.Grant, error)
		class  credentials.Class
		reason string // part of it
	}{
		{"panics", func(_ context.Context, c credentials.Credential) (credentials.Grant, error) {
			panic(c.RefreshToken.Reveal())
		}, credentials.Unknown, "panicked with a string"},
		{"panics with nil", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			panic(nil)
		}, credentials.Unknown, "panicked"},
		{"dereferences nil", func(_ context.Context, c credentials.Credential) (credentials.Grant, error) {
			var g *credentials.Grant
			return *g, nil
		}, credentials.Unknown, "panicked with a runtime"},
		{"ends its goroutine", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			runtime.Goexit()
			return credentials.Grant{}, nil
		}, credentials.Unknown, "ended its goroutine"},
		{"returns nothing", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, nil
		}, credentials.Unknown, "empty token"},
		{"returns a refresh token alone", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{RefreshToken: secret("r"), Lifetime: time.Hour}, nil
		}, credentials.Unknown, "empty token"},
		{"returns an overlong token", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{Token: secret(strings.Repeat("x", credentials.MaxTokenLength))}, nil
		}, credentials.Unknown, "over 65535 bytes"},
		{"returns an overlong refresh token", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{Token: secret("t"), RefreshToken: secret(strings.Repeat("x", credentials.MaxTokenLength))}, nil
		}, credentials.Unknown, "over 65535 bytes"},
		{"returns a foreign error", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, foreign
		}, credentials.Unknown, "*errors.errorString"},
		{"wraps its error", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, fmt.Errorf("%s: %w", mark, &credentials.RefreshError{Class: credentials.Transient, Reason: "busy"})
		}, credentials.Transient, "busy"},
		{"gives no class", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, &credentials.RefreshError{Reason: "no class"}
		}, credentials.Unknown, "no class"},
		{"gives a class of its own", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, &credentials.RefreshError{Class: "worse", Reason: "odd class"}
		}, credentials.Unknown, "odd class"},
		{"quotes tokens in its reason and code", func(_ context.Context, c credentials.Credential) (credentials.Grant, error) {
			quote := c.Token.Reveal() + "," + c.RefreshToken.Reveal()
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Code: quote, Reason: quote}
		}, credentials.Transient, "[redacted],[redacted]"},
		{"gives an unprintable reason", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Reason: "line\nbreak\x00 é " + strings.Repeat("x", 300)}
		}, credentials.Transient, "line?break? ? xxx"},
		{"gives up when its context ends", func(ctx context.Context, _ credentials.Credential) (credentials.Grant, error) {
			<-ctx.Done()
			return credentials.Grant{}, fmt.Errorf("%s: %w", mark, ctx.Err())
		}, credentials.Unknown, "did not end in time"},
		{"does not heed its context", func(context.Context, credentials.Credential) (credentials.Grant, error) {
			time.Sleep(time.Minute)
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Reason: "late"}
		}, credentials.Unknown, "did not end in time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.put(alice, credentials.Grant{Token: secret("stored"), RefreshToken: secret("seed"), Lifetime: time.Second})
				time.Sleep(time.Second)
				w.provider.script = func(ctx context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
					if n > 1 {
						return credentials.Grant{}, errOrdinary
					}
					return test.answer(ctx, c)
				}
				p := w.start("P")
				a := p.ask(alice)
				e := a.failed(test.class)
				if !strings.Contains(e.Reason, test.reason) || len(e.Reason) > 255 || len(e.Code) > 64 {
					w.Errorf("got code %q, reason %q, want one with %q", e.Code, e.Reason, test.reason)
				}
				if most := credentials.DefaultExchangeTimeout + time.Second; a.took > most {
					w.Errorf("it took %v, want at most %v", a.took, most)
				}
				row := w.row(alice)
				if row.Failure.Class != test.class || row.Failure.Reason != e.Reason || row.Lease.ID != "" {
					w.Errorf("the row has failure %+v, lease %+v", row.Failure, row.Lease)
				}
				if row.RefreshToken.Reveal() != mark+"-seed" || row.Token.Reveal() != mark+"-stored" {
					w.Error("the row's tokens have changed")
				}
				if unknown := test.class == credentials.Unknown; unknown != (row.Interrupted.By == "P") {
					w.Errorf("class %s: the row has interruption %+v", test.class, row.Interrupted)
				}
				time.Sleep(time.Until(e.RetryAt))
				p.ask(alice).is("access-alice-1")
				w.calls(2)
			})
		})
	}
}

// A refresher that returns a success long after its deadline: the refresh token it brings may be the only one that
// works, and is saved, though the exchange was given up as lost, and though the store is down when it comes.
func TestLateSuccessIsSaved(t *testing.T) {
	for _, replay := range []credentials.Replay{credentials.ReplayOnce, credentials.NeverReplay} {
		t.Run(fmt.Sprint("replay ", replay), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.seed(alice)
				w.provider.latency = time.Minute
				w.provider.script = func(_ context.Context, c credentials.Credential, _ int) (credentials.Grant, error) {
					time.Sleep(w.provider.latency)
					return w.provider.rotate(c)
				}
				p := w.start("P", func(s *setup) { s.service.Replay = replay })
				e := p.ask(alice).failed(map[credentials.Replay]credentials.Class{
					credentials.ReplayOnce: credentials.Unknown, credentials.NeverReplay: credentials.Rejected,
				}[replay])
				if !errors.Is(e, context.DeadlineExceeded) {
					w.Errorf("the cause is %v", e.Err)
				}
				p.store.on("Save", refuse, nil)
				w.reaches(time.Minute + 10*time.Second)
				p.store.on("Save", nil, nil)
				w.reaches(time.Minute + 15*time.Second)
				p.ask(alice).is("access-alice-1")
				w.start("Q").ask(alice).is("access-alice-1")
				if got := w.row(alice).RefreshToken.Reveal(); got != mark+"-refresh-alice-1" {
					w.Errorf("the row has %s", got)
				}
				w.calls(1)
			})
		})
	}
}

// One that comes just after its deadline is a success like any other.
func TestSuccessInTheLastMoment(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(ctx context.Context, c credentials.Credential, _ int) (credentials.Grant, error) {
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			return w.provider.rotate(c)
		}
		p := w.start("P")
		a := p.ask(alice)
		a.is("access-alice-1")
		if want := credentials.DefaultExchangeTimeout + 100*time.Millisecond; a.took != want {
			w.Errorf("it took %v, want %v", a.took, want)
		}
	})
}

// A late failure is of no use to anybody, and its text is as dangerous as any other.
func TestLateFailureIsLogged(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(_ context.Context, c credentials.Credential, _ int) (credentials.Grant, error) {
			time.Sleep(time.Minute)
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Rejected, Reason: "busy with " + c.RefreshToken.Reveal()}
		}
		w.start("P").ask(alice).failed(credentials.Unknown)
		w.reaches(2 * time.Minute)
		if logs := w.logs.String(); !strings.Contains(logs, "busy with [redacted]") {
			w.Errorf("the log has no line on it:\n%s", logs)
		}
		if c := w.row(alice); c.Failure.Class != credentials.Unknown {
			w.Errorf("the row has failure %+v", c.Failure)
		}
	})
}
