package credentials_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// reader is a log handler that reads the keeper's figures.
type reader struct {
	slog.Handler
	keeper   *credentials.Keeper
	deadlock chan struct{} // has room for one: the figures could not be read
}

func (h *reader) Enabled(context.Context, slog.Level) bool { return true }
func (h *reader) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *reader) WithGroup(string) slog.Handler            { return h }

func (h *reader) Handle(context.Context, slog.Record) error {
	done := make(chan struct{})
	go func() {
		h.keeper.Stats()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		select {
		case h.deadlock <- struct{}{}:
		default:
		}
	}
	return nil
}

// Nothing is logged under a lock: a handler may read the keeper's figures. Mutexes are not seen by
// testing/synctest, so this is in real time; in a bubble a deadlock would stop the clock.
func TestKeepLogsUnderNoLock(t *testing.T) {
	db := memstore.New()
	for _, key := range accounts("github", 20) {
		if err := db.Put(t.Context(), key, credentials.Grant{RefreshToken: secret("seed")}); err != nil {
			t.Fatal(err)
		}
	}
	down := true
	handler := &reader{deadlock: make(chan struct{}, 1)}
	m, err := credentials.NewManager(db, credentials.Services{"github": {
		KeepParallel: 1, // so that down needs no guard
		Refresher: credentials.RefresherFunc(func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
			if down {
				return busy(0)(ctx, in, 0)
			}
			return credentials.Grant{AccessToken: secret("access"), Lifetime: time.Hour}, nil
		}),
	}}, &credentials.Options{Logger: slog.New(handler)})
	if err != nil {
		t.Fatal(err)
	}
	keeper := keeperOf(t, m)
	handler.keeper = keeper
	if _, err := keeper.RunOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !keeper.Stats()["github"].ProviderDown {
		t.Error("the provider is not taken for down")
	}
	down = false
	time.Sleep(2100 * time.Millisecond) // the first probe
	if _, err := keeper.RunOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k := keeper.Stats()["github"]; k.ProviderDown || k.Renewed == 0 {
		t.Errorf("the provider is back: %+v", k)
	}
	select {
	case <-handler.deadlock:
		t.Error("a log handler that reads Keeper.Stats was called under its lock")
	default:
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// "Unknown" is said of a service while something of it is due.
func TestUnknownServiceOfWhichNothingIsDue(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("another", 1)...)
		p := w.start("P")
		defer p.keeps()()
		w.reaches(10 * time.Second)
		if !p.keeper.Stats()["another"].UnknownService {
			w.Error("not unknown, though something is due")
		}
		w.delete(accounts("another", 1)[0])
		w.reaches(30 * time.Second)
		if p.keeper.Stats()["another"].UnknownService {
			w.Error("still unknown, though nothing is due")
		}
		w.seed(accounts("another", 1)...)
		w.reaches(50 * time.Second)
		if !p.keeper.Stats()["another"].UnknownService {
			w.Error("not unknown, though something is due again")
		}
	})
}

// Tenants that come and go, each with a service of its own, leave nothing behind but their part of
// the sums.
func TestKeeperForgetsServicesThatAreGone(t *testing.T) {
	inWorld(t, func(w *world) {
		keeper := w.start("P", w.everywhere).keeper
		const rounds, each = 30, 100
		stays := credentials.Key{Service: "stays", Account: "a"}
		w.seed(stays)
		for round := range rounds {
			for i := range each {
				w.seed(credentials.Key{Service: fmt.Sprintf("tenant-%02d-%02d", round, i), Account: "a"})
			}
			if _, err := keeper.RunOnce(w.Context()); err != nil {
				w.Fatal(err)
			}
			for i := range each {
				w.delete(credentials.Key{Service: fmt.Sprintf("tenant-%02d-%02d", round, i), Account: "a"})
			}
		}
		kept, sum := keeper.Stats(), 0
		for _, k := range kept {
			sum += k.Renewed
		}
		if len(kept) > 1000+each+2 {
			w.Errorf("the figures of %d services are kept", len(kept))
		}
		if sum != rounds*each+1 || kept["stays"].Renewed != 1 || kept[fmt.Sprintf("tenant-%02d-00", rounds-1)].Renewed != 1 {
			w.Errorf("in all %d renewals, want %d; of the one that stays %+v", sum, rounds*each+1, kept["stays"])
		}
	})
}
