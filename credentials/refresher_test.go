package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// misbehaviours are those of refreshers, each with the class and the reason of the error that
// follows.
var misbehaviours = []struct {
	name   string
	answer func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error)
	class  credentials.Class
	reason string // part of it
}{
	{"panics", func(_ context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
		panic(in.RefreshToken.Reveal())
	}, credentials.ClassUnknown, "panicked with a string"},
	{"panics with nil", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		panic(nil)
	}, credentials.ClassUnknown, "panicked"},
	{"dereferences nil", func(_ context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
		var g *credentials.Grant
		return *g, nil
	}, credentials.ClassUnknown, "panicked with a runtime"},
	{"ends its goroutine", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		runtime.Goexit()
		return credentials.Grant{}, nil
	}, credentials.ClassUnknown, "ended its goroutine"},
	{"returns nothing", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, nil
	}, credentials.ClassUnknown, "empty token"},
	{"returns a refresh token alone", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{RefreshToken: secret("r"), Lifetime: time.Hour}, nil
	}, credentials.ClassUnknown, "empty token"},
	{"returns an overlong token", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{AccessToken: secret(strings.Repeat("x", credentials.MaxTokenLength))}, nil
	}, credentials.ClassUnknown, "of more than 61440 bytes"},
	{"returns an overlong refresh token", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{AccessToken: secret("t"), RefreshToken: secret(strings.Repeat("x", credentials.MaxTokenLength))}, nil
	}, credentials.ClassUnknown, "of more than 61440 bytes"},
	{"returns a foreign error", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, errors.New(mark + " in the body")
	}, credentials.ClassUnknown, "*errors.errorString"},
	{"wraps its error", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, fmt.Errorf("%s: %w", mark, &credentials.RefreshError{Class: credentials.ClassTransient, Reason: "busy"})
	}, credentials.ClassTransient, "busy"},
	{"gives no class", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, &credentials.RefreshError{Reason: "no class"}
	}, credentials.ClassUnknown, "no class"},
	{"gives a class of its own", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, &credentials.RefreshError{Class: "worse", Reason: "odd class"}
	}, credentials.ClassUnknown, "odd class"},
	{"quotes tokens in its reason and code", func(_ context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
		quote := mark + "-stored" + "," + in.RefreshToken.Reveal()
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, Code: quote, Reason: quote}
	}, credentials.ClassTransient, "[redacted],[redacted]"},
	{"quotes tokens in capitals", func(_ context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
		reason := "ACCESS " + strings.ToUpper(mark+"-stored") + " REFRESH " + strings.ToLower(in.RefreshToken.Reveal()) + "."
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, Reason: reason}
	}, credentials.ClassTransient, "ACCESS [redacted] REFRESH [redacted]."},
	{"gives an unprintable reason", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, Reason: "line\nbreak\x00 é " + strings.Repeat("x", 300)}
	}, credentials.ClassTransient, "line?break? ? xxx"},
	{"gives up when its context ends", func(ctx context.Context, _ credentials.RefreshInput) (credentials.Grant, error) {
		<-ctx.Done()
		return credentials.Grant{}, fmt.Errorf("%s: %w", mark, ctx.Err())
	}, credentials.ClassUnknown, "did not end in time"},
	{"does not heed its context", func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		time.Sleep(time.Minute)
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, Reason: "late"}
	}, credentials.ClassUnknown, "did not end in time"},
}

// A refresher that misbehaves ends as an error of the right class, for its callers and in the row.
func TestMisbehavingRefresher(t *testing.T) {
	for _, test := range misbehaviours {
		inWorldOf(t, test.name, func(w *world) {
			w.put(alice, credentials.Grant{AccessToken: secret("stored"), RefreshToken: secret("seed"), Lifetime: time.Second})
			time.Sleep(time.Second)
			w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
				if n > 1 {
					return credentials.Grant{}, errOrdinary
				}
				return test.answer(ctx, in)
			}
			p := w.start("P")
			a := p.ask(alice)
			e := a.failed(test.class)
			if !strings.Contains(e.Reason, test.reason) || len(e.Reason) > 255 || len(e.Code) > 64 {
				w.Errorf("got code %q, reason %q, want one with %q", e.Code, e.Reason, test.reason)
			}
			a.within(credentials.DefaultExchangeTimeout + time.Second)
			row := w.row(alice)
			if row.Failure.Class != test.class || row.Failure.Reason != e.Reason || row.Lease.ID != "" {
				w.Errorf("the row has failure %+v, lease %+v", row.Failure, row.Lease)
			}
			if row.RefreshToken.Reveal() != mark+"-seed" || row.AccessToken.Reveal() != mark+"-stored" {
				w.Error("the row's tokens have changed")
			}
			if unknown := test.class == credentials.ClassUnknown; unknown != (row.Interrupted.By == "P") {
				w.Errorf("class %s: the row has interruption %+v", test.class, row.Interrupted)
			}
			time.Sleep(time.Until(e.RetryAt))
			p.ask(alice).is("access-alice-1")
			w.presented(2)
		})
	}
}

// A refresher that returns a success long after its deadline: the refresh token it brings may be
// the only one that works, and is saved, though the exchange was given up as lost, and though the
// store is down when it comes.
func TestLateSuccessIsSaved(t *testing.T) {
	for _, replay := range []credentials.Replay{credentials.ReplayOnce, credentials.NeverReplay} {
		inWorldOf(t, fmt.Sprint("replay ", replay), func(w *world) {
			w.seed(alice)
			w.provider.latency = time.Minute
			w.provider.script = func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
				time.Sleep(w.provider.latency)
				return w.provider.exchange(in)
			}
			p := w.start("P", func(s *setup) { s.service.Replay = replay })
			e := p.ask(alice).failed(map[credentials.Replay]credentials.Class{
				credentials.ReplayOnce: credentials.ClassUnknown, credentials.NeverReplay: credentials.ClassDead,
			}[replay])
			if !strings.Contains(e.Reason, "did not end in time") {
				w.Errorf("the reason is %q", e.Reason)
			}
			p.store.Before(testkit.Save, testkit.Refuse)
			w.reaches(time.Minute + 10*time.Second)
			p.store.Heal(testkit.Save)
			w.reaches(time.Minute + 15*time.Second)
			p.ask(alice).is("access-alice-1")
			w.start("Q").ask(alice).is("access-alice-1")
			w.storedRefresh(alice, "refresh-alice-1")
			w.presented(1)
		})
	}
}

// One that comes just after its deadline is a success like any other.
func TestSuccessInTheLastMoment(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			return w.provider.exchange(in)
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
		w.provider.script = func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
			time.Sleep(time.Minute)
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassDead, Reason: "busy with " + in.RefreshToken.Reveal()}
		}
		w.start("P").ask(alice).failed(credentials.ClassUnknown)
		w.reaches(2 * time.Minute)
		if logs := w.logs.String(); !strings.Contains(logs, "busy with [redacted]") {
			w.Errorf("the log has no line on it:\n%s", logs)
		}
		if c := w.row(alice); c.Failure.Class != credentials.ClassUnknown {
			w.Errorf("the row has failure %+v", c.Failure)
		}
	})
}

// TestExtrasThatDoNotFit: a row has to take a grant, or it is lost. Of more extras than
// MaxExtraSize those that fit are kept, an answer's before the stored ones, each by name.
func TestExtrasThatDoNotFit(t *testing.T) {
	third := secret(strings.Repeat("x", credentials.MaxExtraSize/3))
	extras := func(names ...string) map[string]credentials.Secret {
		extra := make(map[string]credentials.Secret)
		for _, name := range names {
			extra[name] = third
		}
		return extra
	}
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{RefreshToken: secret("seed"), Extra: extras("a", "b")})
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			extra := extras("c", "d", "e")
			extra["z"] = secret("small")
			return credentials.Grant{AccessToken: secret("access"), Extra: extra}, nil
		}
		token := w.start("P").mustGet(alice)
		row := w.row(alice)
		if got, want := slices.Sorted(maps.Keys(row.Extra)), []string{"c", "d", "z"}; !slices.Equal(got, want) {
			w.Errorf("the row has the extras %q, want %q", got, want)
		}
		for _, name := range []string{"a", "b", "c", "d", "e", "z"} {
			if got := token.Extra(name); !got.Equal(row.Extra[name]) {
				w.Errorf("extra %q of the token is not the row's: %d bytes", name, len(got.Reveal()))
			}
		}
	})
}

// Entries that belong to one token go with it; the others stay until the provider sends new ones,
// so that a scope which was narrowed stays narrowed.
func TestExtrasOfOneToken(t *testing.T) {
	inWorld(t, func(w *world) {
		answers := []map[string]string{
			{"scope": "read"},
			{},
			{"id_token": "second"},
		}
		want := []map[string]string{
			{"scope": "read", "instance_url": "https://eu1.example"},
			{"scope": "read", "instance_url": "https://eu1.example"},
			{"scope": "read", "instance_url": "https://eu1.example", "id_token": "second"},
		}
		w.put(alice, credentials.Grant{RefreshToken: secret("seed"), Extra: extrasOf(map[string]string{
			"scope": "read write", "id_token": "first", "created_at": "1", "instance_url": "https://eu1.example",
		})})
		w.provider.script = func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
			return credentials.Grant{
				AccessToken: secret(fmt.Sprint(n)), Lifetime: time.Hour, Extra: extrasOf(answers[n-1]),
			}, nil
		}
		p := w.start("P")
		for n := range answers {
			p.mustGet(alice)
			got := make(map[string]string)
			for name, value := range w.row(alice).Extra {
				got[name] = value.Reveal()
			}
			if !maps.Equal(got, want[n]) {
				w.Errorf("after answer %d the row has %v, want %v", n+1, got, want[n])
			}
			time.Sleep(time.Hour)
		}
	})
}

// extrasOf returns the texts as entries beside a token.
func extrasOf(texts map[string]string) map[string]credentials.Secret {
	extra := make(map[string]credentials.Secret, len(texts))
	for name, text := range texts {
		extra[name] = credentials.NewSecret(text)
	}
	return extra
}
