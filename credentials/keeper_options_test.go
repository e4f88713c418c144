package credentials_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

func TestKeepBadInput(t *testing.T) {
	refresher := credentials.RefresherFunc(func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{}, nil
	})
	for _, test := range []struct {
		service credentials.Service
		want    string
	}{
		{credentials.Service{RefreshAhead: -1}, "RefreshAhead is -1ns"},
		{credentials.Service{RefreshAhead: time.Hour, DefaultLifetime: time.Hour}, "due before it is issued"},
		{credentials.Service{KeepAlive: -time.Hour}, "KeepAlive is -1h0m0s"},
		{credentials.Service{KeepAlive: time.Second}, "KeepAlive is 1s"},
		{credentials.Service{KeepParallel: -1}, "KeepParallel is -1"},
		{credentials.Service{KeepRate: -1}, "KeepRate is -1"},
		{credentials.Service{KeepRate: math.NaN()}, "KeepRate is NaN"},
		{credentials.Service{KeepRate: math.Inf(1)}, "KeepRate is +Inf"},
	} {
		test.service.Refresher = refresher
		_, err := credentials.NewManager(memstore.New(), credentials.Services{"github": test.service}, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), `"github"`) {
			t.Errorf("got error %v; want one of %q about %q", err, "github", test.want)
		}
	}
}

// A keeper's options bound the services that say nothing themselves.
func TestKeeperOptions(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("P")
		for want, opts := range map[string]credentials.KeeperOptions{
			"Parallel is -1": {Parallel: -1}, "Rate is -1": {Rate: -1}, "Rate is NaN": {Rate: math.NaN()},
		} {
			if _, err := credentials.NewKeeper(p.Manager, &opts); err == nil || !strings.Contains(err.Error(), want) {
				w.Errorf("got error %v, want one that says %q", err, want)
			}
		}
		renews := func(service string, opts credentials.KeeperOptions) (took time.Duration) {
			began := time.Now()
			w.seed(accounts(service, 10)...)
			keeper, err := credentials.NewKeeper(p.Manager, &opts)
			if err != nil {
				w.Fatal(err)
			}
			if stats, err := keeper.RunOnce(w.Context()); err != nil || stats[service].Renewed != 10 {
				w.Errorf("%+v: %+v, error %v", opts, stats, err)
			}
			return time.Since(began)
		}
		if renews(alice.Service, credentials.KeeperOptions{Parallel: 2}); w.provider.most != 2 {
			w.Errorf("%d exchanges at a time, want 2", w.provider.most)
		}
		if took := renews(carol.Service, credentials.KeeperOptions{Rate: 4}); took < 2*time.Second {
			w.Errorf("10 exchanges, 4 a second, took %v", took)
		}
	})
}
