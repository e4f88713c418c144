package credentials_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// wrongClient has the provider call every grant dead until it is mended.
func (w *world) wrongClient() (mend func()) {
	var mended atomic.Bool
	w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
		if mended.Load() {
			return credentials.Grant{}, errOrdinary
		}
		select {
		case <-time.After(w.provider.latency):
		case <-ctx.Done():
		}
		return credentials.Grant{}, invalidGrant()
	}
	return func() { mended.Store(true) }
}

// said counts the lines of the log that have the text.
func (w *world) said(text string) int { return strings.Count(w.logs.String(), text) }

// A wrong client for ten minutes, over 500 rows that are due: each process marks three grants,
// however many it exchanges at a time. When the client is right, all others are renewed, and the
// marked ones are when they are revived.
func TestMassDeathIsAnIncident(t *testing.T) {
	for name, atOnce := range map[string]bool{"due one after the other": false, "due at once": true} {
		inWorldOf(t, name, func(w *world) {
			const processes = 4
			w.provider.Lifetime = time.Hour
			keys, begins := accounts("github", 500), 20*time.Minute
			if atOnce {
				w.seed(keys...)
				begins = 0
			} else {
				w.spread(keys, 10*time.Minute)
			}
			sound := accounts("xero", 10)
			mend := w.wrongClient()
			all := w.starts(processes)
			for _, p := range all {
				defer p.keeps()()
			}
			w.reaches(begins + 10*time.Minute)
			dead := w.dead(keys)
			w.Logf("%d grants were marked by %d processes, with %d exchanges", dead, processes, len(w.provider.record()))
			if dead != 3*processes {
				w.Errorf("%d grants were marked, want 3 by each process", dead)
			}
			for _, p := range all {
				if k := p.keeper.Stats()["github"]; !k.MassDeath || k.ProviderDown || k.Dead != 3 {
					w.Errorf("process %s: %+v", p.name, k)
				}
			}
			if n := w.said("level=ERROR"); n != processes {
				w.Errorf("%d lines at error level, want one of each process", n)
			}
			w.seed(sound...)
			mend()
			w.reaches(begins + 50*time.Minute)
			if left := w.dead(keys); left != dead {
				w.Errorf("%d grants are dead when the client is right, %d were", left, dead)
			}
			w.renewed(keys, dead)
			w.revives(credentials.Revival{Service: "github", Since: time.Hour}, dead)
			w.reaches(begins + 52*time.Minute)
			w.renewed(keys, 0)
			for _, p := range all {
				if k := p.keeper.Stats()["github"]; k.MassDeath || k.ProviderDown {
					w.Errorf("process %s: %+v", p.name, k)
				}
			}
		})
	}
}

// renewed fails the test unless all but so many have a token that the provider issued.
func (w *world) renewed(keys []credentials.Key, but int) {
	w.Helper()
	left := 0
	for _, key := range keys {
		if c := w.row(key); c.Refreshed.By == "" || c.ExpiresIn <= 0 {
			left++
		}
	}
	if left != but {
		w.Errorf("%d of %d are not renewed, want %d", left, len(keys), but)
	}
}

// revives fails the test unless so many are revived.
func (w *world) revives(r credentials.Revival, want int) {
	w.Helper()
	if n, err := w.db.Revive(w.Context(), r); err != nil || n != want {
		w.Errorf("%d were revived, error %v; want %d", n, err, want)
	}
}

// RunOnce stops in the same way, and does not wait.
func TestRunOnceWithAWrongClient(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 500)
		w.seed(keys...)
		w.wrongClient()
		kept, err := w.start("P").keeper.RunOnce(w.Context())
		if k := kept["github"]; err != nil || k.Dead != 3 || k.Failed > 16 || !k.MassDeath || w.dead(keys) != 3 {
			w.Errorf("got %+v, error %v", kept, err)
		}
		w.within(15 * time.Second)
	})
}

// A hundred accounts in a row whose grants really are dead, as those of a customer who left: none
// of a thousand healthy ones expires, and each of the hundred is found dead in the end.
func TestManyDeadAccountsAreNoIncidentForLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.Lifetime = time.Hour
		keys, dead := accounts("github", 1100), make(map[credentials.Key]bool)
		w.spread(keys, 55*time.Minute)
		for _, key := range keys[300:400] {
			dead[key] = true
			w.provider.authorized(key, "another")
		}
		p := w.start("P")
		defer p.keeps()()
		w.reaches(20 * time.Minute)
		h := w.watch(keys, dead, 100*time.Minute)
		w.Logf("late by at most %v, %d by more than 5 s, %d expired; %d dead, %d lines at error level",
			h.longest, h.late, h.expired, w.dead(keys), w.said("level=ERROR"))
		if h.longest > 95*time.Second || h.expired > 0 {
			w.Errorf("dead accounts spoil others: %+v", h)
		}
		if n := w.dead(keys); n != 100 {
			w.Errorf("%d are dead", n)
		}
		if k := p.keeper.Stats()["github"]; k.MassDeath || k.ProviderDown {
			w.Errorf("when it is over: %+v", k)
		}
	})
}

// Deaths one by one, as people cause them, are no incident: each is marked.
func TestDeathsBetweenSuccessesAreNoIncident(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 300)
		w.seed(keys...)
		for i := 0; i < len(keys); i += 4 {
			w.provider.authorized(keys[i], "another")
		}
		kept, err := w.start("P", func(s *setup) { s.service.KeepParallel = 1 }).keeper.RunOnce(w.Context())
		if k := kept["github"]; err != nil || k.Dead != 75 || k.Renewed != 225 || k.MassDeath {
			w.Errorf("got %+v, error %v", kept, err)
		}
	})
}

// A grant that is given up by policy is no word of the provider: it is no incident, and is not
// revived.
func TestPolicyDeathsAreNoMassDeath(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 40)
		w.seed(keys...)
		w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
			<-ctx.Done()
			return credentials.Grant{}, ctx.Err()
		}
		p := w.start("P", neverReplay, func(s *setup) { s.service.KeepParallel = 4 })
		kept, err := p.keeper.RunOnce(w.Context())
		if k := kept["github"]; err != nil || !k.ProviderDown || k.MassDeath || k.Dead == 0 {
			w.Errorf("got %+v, error %v", kept, err)
		}
		w.revives(credentials.Revival{Service: "github", Since: time.Hour}, 0)
	})
}
