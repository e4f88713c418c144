package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// checked is a refresher that finds fault with its own configuration.
type checked struct{ credentials.RefresherFunc }

func (checked) Check() error { return errors.New("the client id is empty") }

func refreshNothing(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
	return credentials.Grant{}, errors.New("not to be called")
}

// lasting returns the options with these durations.
func lasting(lease, exchange, store time.Duration) *credentials.Options {
	return &credentials.Options{Lease: lease, ExchangeTimeout: exchange, StoreTimeout: store}
}

// Nonsense is reported when the manager is built, in a message that names it.
func TestNewManagerErrors(t *testing.T) {
	good := credentials.Service{Refresher: credentials.RefresherFunc(refreshNothing)}
	of := func(s credentials.Service) credentials.Services { return credentials.Services{"github": s} }
	for _, test := range []struct {
		name     string
		noStore  bool
		services credentials.ServiceFinder
		options  *credentials.Options
		want     string // "" for none
	}{
		{name: "nil options", services: of(good)},
		{name: "zero options", services: of(good), options: &credentials.Options{}},
		{name: "function", services: credentials.ServicesFunc(of(good).Service)},
		{name: "no store", noStore: true, services: of(good), want: "store is nil"},
		{name: "no services", want: "services is nil"},
		{name: "nil map", services: credentials.Services(nil), want: "no service"},
		{name: "empty map", services: credentials.Services{}, want: "no service"},
		{name: "nil function", services: credentials.ServicesFunc(nil), want: "nil ServicesFunc"},
		{name: "no refresher", services: of(credentials.Service{}), want: `service "github": Refresher is not set`},
		{name: "nil refresher function", services: of(credentials.Service{Refresher: credentials.RefresherFunc(nil)}), want: "Refresher is not set"},
		{name: "refresher's own check", services: of(credentials.Service{Refresher: checked{}}), want: "client id is empty"},
		{name: "replay", services: of(credentials.Service{Refresher: good.Refresher, Replay: 7}), want: "Replay is 7"},
		{name: "default lifetime", services: of(credentials.Service{Refresher: good.Refresher, DefaultLifetime: -1}), want: "DefaultLifetime is -1ns"},
		{name: "token age", services: of(credentials.Service{Refresher: good.Refresher, MinTokenAge: -time.Second}), want: "MinTokenAge is -1s"},
		{name: "max lifetime", services: of(credentials.Service{Refresher: good.Refresher, MaxLifetime: -time.Minute}), want: "MaxLifetime is -1m"},
		{name: "refresh ahead of max lifetime", services: of(credentials.Service{Refresher: good.Refresher, MaxLifetime: time.Hour, RefreshAhead: time.Hour}), want: "MaxLifetime 1h"},
		{name: "refresh ahead", services: of(credentials.Service{Refresher: good.Refresher, RefreshAhead: -time.Minute}), want: "RefreshAhead is -1m"},
		{name: "service name", services: credentials.Services{"git hub": good}, want: `"git hub"`},
		{name: "empty service name", services: credentials.Services{" ": good}, want: "is empty"},
		{name: "same service twice", services: credentials.Services{"github": good, " GitHub ": good}, want: `" GitHub " and "github" are both "github"`},
		{name: "negative lease", services: of(good), options: lasting(-1, 0, 0), want: "Lease is -1ns"},
		{name: "negative exchange time-out", services: of(good), options: lasting(0, -1, 0), want: "ExchangeTimeout is -1ns"},
		{name: "negative store time-out", services: of(good), options: lasting(0, 0, -1), want: "StoreTimeout is -1ns"},
		{name: "negative recheck", services: of(good), options: &credentials.Options{Recheck: -1}, want: "Recheck is -1ns"},
		{name: "lease just enough", services: of(good), options: lasting(21*time.Second, 0, 0)},
		{name: "lease too short", services: of(good), options: lasting(21*time.Second-1, 0, 0), want: "must end before its lease"},
		{name: "exchange too long", services: of(good), options: lasting(0, 24*time.Second+1, 0), want: "must end before its lease"},
		{name: "store too slow", services: of(good), options: lasting(0, 0, 14*time.Second+1), want: "must end before its lease"},
		{name: "endless exchange", services: of(good), options: lasting(0, credentials.Never, 0), want: "must end before its lease"},
		{name: "endless store calls", services: of(good), options: lasting(0, 0, credentials.Never), want: "must end before its lease"},
		{name: "all endless", services: of(good), options: lasting(credentials.Never, credentials.Never, credentials.Never), want: "at most 24h"},
		{name: "endless lease", services: of(good), options: lasting(credentials.Never, 0, 0), want: "at most 24h"},
		{name: "no recheck", services: of(good), options: &credentials.Options{Recheck: credentials.Never}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var store credentials.Store = memstore.New()
			if test.noStore {
				store = nil
			}
			m, err := credentials.NewManager(store, test.services, test.options)
			switch {
			case test.want == "" && (err != nil || m == nil):
				t.Errorf("got error %v, want a manager", err)
			case test.want != "" && (err == nil || m != nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got error %v, want one with %q", err, test.want)
			case test.want != "" && !strings.HasPrefix(err.Error(), "credentials.NewManager: "):
				t.Errorf("the message does not say whose it is: %v", err)
			}
		})
	}
}

// The host's options and services are copied: what it does with them afterwards changes nothing.
func TestNewManagerCopies(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		services := credentials.Services{" GitHub ": {Refresher: w.provider}}
		p := w.start("P", func(s *setup) { s.services = services })
		clear(services)
		p.mustGet(alice)
	})
}

// The holder's name goes to the store, where it has to be printable and short.
func TestHolderIsMadePrintable(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice, bob)
		w.start("née\n" + strings.Repeat("x", 300)).mustGet(alice)
		if got, want := w.row(alice).Refreshed.By, "n?e?"+strings.Repeat("x", 251); got != want {
			w.Errorf("got holder %q, want %q", got, want)
		}
		w.start("").mustGet(bob)
		if got := w.row(bob).Refreshed.By; !strings.Contains(got, ":") {
			w.Errorf("got holder %q, want host and process id", got)
		}
	})
}

func TestKeysAreNormalized(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		sloppy := credentials.Key{Service: " GitHub\t", Account: "alice\n"}
		source, err := p.Source(sloppy)
		if err != nil || source.Key() != alice {
			w.Errorf("Source: got key %v, error %v", source.Key(), err)
		}
		if again, err := p.Source(alice); err != nil || again != source {
			w.Errorf("Source: got another handle for the same credential, error %v", err)
		}
		p.ask(sloppy).is("access-alice-1")
		costs := p.costs()
		p.ask(alice).is("access-alice-1")
		p.report(sloppy, credentials.Token{}).is("access-alice-1")
		costs(0)
		w.presented(1)
	})
}

// A bad key, a service that nobody registered, a row that is not there: one clear error each, and
// the store is asked no more than it has to be.
func TestBadCalls(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		token := credentials.Token{Value: secret("turned down")}
		for _, test := range []struct {
			name  string
			key   credentials.Key
			want  error
			text  string
			calls int
		}{
			{"bad key", credentials.Key{Service: "git hub"}, credentials.ErrInvalidKey, `"git hub"`, 0},
			{"no key", credentials.Key{}, credentials.ErrInvalidKey, "empty", 0},
			{"unknown service", credentials.Key{Service: " GitLab "}, credentials.ErrUnknownService, `"gitlab"; registered are: github, xero`, 1},
			{"no row", alice, credentials.ErrNotFound, "github/alice", 2},
		} {
			before := p.store.Count()
			for _, a := range []*answer{p.ask(test.key), p.report(test.key, token)} {
				if err := a.fails(test.want); !strings.Contains(err.Error(), test.text) {
					w.Errorf("%s: the message has no %q: %v", test.name, test.text, err)
				}
			}
			if n := p.store.Count() - before; n > 2*test.calls {
				w.Errorf("%s: the store was called %d times", test.name, n)
			}
		}
		w.presented(0)
	})
}

// Services that are learned at run time: they are looked up under their normalized names, and
// checked when they are.
func TestServicesFunc(t *testing.T) {
	inWorld(t, func(w *world) {
		key := credentials.Key{Service: "xero:tenant-42"}
		w.seed(key)
		var asked []string
		find := func(_ context.Context, name string) (credentials.Service, error) {
			asked = append(asked, name)
			switch name {
			case key.Service:
				return credentials.Service{Refresher: w.provider}, nil
			case "incomplete":
				return credentials.Service{}, nil
			case "down":
				return credentials.Service{}, io.ErrUnexpectedEOF
			}
			return credentials.Service{}, fmt.Errorf("%w: tenant %s", credentials.ErrUnknownService, name)
		}
		p := w.start("P", finding(find))
		asks := func(service string) *answer { return p.ask(credentials.Key{Service: service}) }
		for range 3 {
			asks(" Xero:Tenant-42").mustGet()
		}
		if len(asked) != 1 || asked[0] != key.Service {
			w.Errorf("it was asked for %q", asked)
		}
		asks("xero:tenant-43").fails(credentials.ErrUnknownService)
		asks("down").fails(io.ErrUnexpectedEOF)
		a := asks("incomplete")
		if <-a.done; a.err == nil || !strings.Contains(a.err.Error(), `service "incomplete": Refresher is not set`) {
			w.Errorf("got error %v", a.err)
		}
	})
}

// A store answers with the row of another credential: that is reported with both keys, and nobody
// gets the other's token.
func TestStoreThatAnswersForAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		mallory := credentials.Key{Service: "github", Account: "mallory"}
		w.put(mallory, credentials.Grant{AccessToken: secret("mallory's")})
		p := w.start("P")
		p.store.Before(testkit.Get, func(_ context.Context, call *testkit.Call) error {
			call.Key = mallory
			return nil
		})
		token, err := p.Token(w.Context(), alice)
		if err == nil || !strings.Contains(err.Error(), alice.String()) || !strings.Contains(err.Error(), mallory.String()) {
			w.Errorf("got token %v and error %v, want both keys in an error", token.Value, err)
		}
		w.silent(err)
	})
}

// A finder of services that panics ends neither the caller's process nor the keeper's.
func TestFinderThatPanics(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P", finding(func(context.Context, string) (credentials.Service, error) { panic(mark + " is in the panic") }))
		_, err := p.Token(w.Context(), alice)
		if err == nil || !strings.Contains(err.Error(), "panicked") {
			w.Errorf("got error %v, want one that says that the finder panicked", err)
		}
		w.silent(err)
		w.unleased(alice)
		defer p.keeps()()
		time.Sleep(10 * time.Second)
		if _, err := p.keeper.RunOnce(w.Context()); err == nil {
			w.Error("RunOnce: no error")
		}
		w.presented(0)
	})
}

// A finder that fails hides no token that is stored and valid.
func TestFinderThatFailsHidesNoToken(t *testing.T) {
	errFinder := errors.New("the directory of tenants is away")
	for name, find := range map[string]func(context.Context, string) (credentials.Service, error){
		"fails": func(context.Context, string) (credentials.Service, error) { return credentials.Service{}, errFinder },
		"unknown": func(context.Context, string) (credentials.Service, error) {
			return credentials.Service{}, fmt.Errorf("%w here", credentials.ErrUnknownService)
		},
		"panics": func(context.Context, string) (credentials.Service, error) { panic("boom") },
	} {
		inWorldOf(t, name, func(w *world) {
			w.anHour(alice)
			p := w.start("P", finding(find))
			p.ask(alice).is("put-alice")
			w.reaches(dueOfAnHour)
			p.ask(alice).is("put-alice")                           // due, and not expired
			w.start("Q", finding(find)).ask(alice).is("put-alice") // which has not cached it
			w.reaches(time.Hour)
			if _, err := p.Token(w.Context(), alice); err == nil {
				w.Error("the token has expired: no error")
			}
		})
	}
}

// A service that nobody registered, and of which there is no credential, is called unknown.
func TestUnknownServiceWithoutRow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start("P").ask(credentials.Key{Service: "nobody", Account: "a"}).fails(credentials.ErrUnknownService)
	})
}
