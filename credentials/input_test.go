package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// checked is a refresher that finds fault with its own configuration.
type checked struct{ credentials.RefresherFunc }

func (checked) Check() error { return errors.New("the client id is empty") }

func refreshNothing(context.Context, credentials.Credential) (credentials.Grant, error) {
	return credentials.Grant{}, errors.New("not to be called")
}

// Nonsense is reported when the manager is built, in a message that names it.
func TestNewManagerErrors(t *testing.T) {
	good := credentials.Service{Refresher: credentials.RefresherFunc(refreshNothing)}
	of := func(s credentials.Service) credentials.Services { return credentials.Services{"github": s} }
	lasting := func(lease, exchange, store time.Duration) *credentials.Options {
		return &credentials.Options{Lease: lease, ExchangeTimeout: exchange, StoreTimeout: store}
	}
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
		m, err := credentials.NewManager(w.db, services, nil)
		if err != nil {
			w.Fatal(err)
		}
		clear(services)
		if _, err := m.Token(w.Context(), alice); err != nil {
			w.Error(err)
		}
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
		before := p.store.total()
		p.ask(alice).is("access-alice-1")
		p.report(sloppy, credentials.Token{}).is("access-alice-1")
		if n := p.store.total() - before; n != 0 {
			w.Errorf("it cost %d calls of the store", n)
		}
		w.calls(1)
	})
}

// A bad key, a service that nobody registered, a row that is not there: one clear error each, and the store is asked no
// more than it has to be.
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
			{"unknown service", credentials.Key{Service: " GitLab "}, credentials.ErrUnknownService, `"gitlab"; registered are: github, xero`, 0},
			{"no row", alice, credentials.ErrNotFound, "github/alice", 1},
		} {
			before := p.store.total()
			for _, a := range []*answer{p.ask(test.key), p.report(test.key, token)} {
				if err := a.fails(test.want); !strings.Contains(err.Error(), test.text) {
					w.Errorf("%s: the message has no %q: %v", test.name, test.text, err)
				}
			}
			if n := p.store.total() - before; n > 2*test.calls {
				w.Errorf("%s: the store was called %d times", test.name, n)
			}
		}
		w.calls(0)
	})
}

// Services that are learned at run time: they are looked up under their normalized names, and checked when they are.
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
		m, err := credentials.NewManager(w.db, credentials.ServicesFunc(find), &credentials.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			w.Fatal(err)
		}
		get := func(service string) error {
			_, err := m.Token(w.Context(), credentials.Key{Service: service})
			return err
		}
		for range 3 {
			if err := get(" Xero:Tenant-42"); err != nil {
				w.Error(err)
			}
		}
		if len(asked) != 1 || asked[0] != key.Service {
			w.Errorf("it was asked for %q", asked)
		}
		if err := get("xero:tenant-43"); !errors.Is(err, credentials.ErrUnknownService) {
			w.Errorf("got error %v", err)
		}
		if err := get("down"); !errors.Is(err, io.ErrUnexpectedEOF) {
			w.Errorf("got error %v", err)
		}
		if err := get("incomplete"); err == nil || !strings.Contains(err.Error(), `service "incomplete": Refresher is not set`) {
			w.Errorf("got error %v", err)
		}
	})
}

// strange is a store that answers with the row of another credential.
type strange struct{ *memstore.Store }

func (s strange) Get(ctx context.Context, key credentials.Key) (credentials.Credential, error) {
	key.Account = "mallory"
	return s.Store.Get(ctx, key)
}

// A mismatch is reported with both sides, and nobody gets the other's token.
func TestStoreThatAnswersForAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		mallory := credentials.Key{Service: "github", Account: "mallory"}
		w.put(mallory, credentials.Grant{Token: secret("mallory's")})
		m, err := credentials.NewManager(strange{w.db}, credentials.Services{"github": {Refresher: w.provider}}, nil)
		if err != nil {
			w.Fatal(err)
		}
		token, err := m.Token(w.Context(), alice)
		if err == nil || !strings.Contains(err.Error(), alice.String()) || !strings.Contains(err.Error(), mallory.String()) {
			w.Errorf("got token %v and error %v, want both keys in an error", token.Value, err)
		}
		w.silent(err)
	})
}
