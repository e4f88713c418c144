package credentials_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// A provider that is down costs few calls, does not slow another's renewals, and meets no herd when it is back.
func TestKeepWhileAProviderIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		const perMinute = 60
		w.provider.lifetime = time.Hour
		broken, sound := accounts("github", 25*perMinute), accounts("xero", 25)
		w.spread(broken, 25*time.Minute)
		w.spread(sound, 25*time.Minute)
		var down atomic.Bool
		w.provider.script = func(_ context.Context, c credentials.Credential, _ int) (credentials.Grant, error) {
			if c.Key.Service == "github" && down.Load() {
				return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Reason: "down"}
			}
			return credentials.Grant{}, errOrdinary
		}
		processes := w.starts(2)
		for _, p := range processes {
			defer p.keeps()()
		}
		w.reaches(22 * time.Minute)
		before := len(w.provider.record())
		down.Store(true)
		w.reaches(28 * time.Minute)
		var calls, others int
		for _, c := range w.provider.record()[before:] {
			if c.Key.Service == "xero" {
				others++
			} else {
				calls++
			}
		}
		w.Logf("%d calls at the provider that is down, in 6 minutes in which %d credentials became due", calls, 6*perMinute)
		if calls > 2*(16+5+36) { // what was under way, and less than a probe every 10 s
			w.Errorf("the provider that is down got %d calls in 6 minutes", calls)
		}
		if others < 5 || others > 7 {
			w.Errorf("the other provider got %d calls, want about 6", others)
		}
		for _, p := range processes {
			if k := p.Kept()["github"]; !k.Down {
				w.Errorf("process %s takes the provider for up: %+v", p.name, k)
			}
		}
		down.Store(false)
		began, before := time.Now(), len(w.provider.record())
		// Less than twice the pace, counted over any 30 seconds, and all of it is taken up in 12 minutes.
		w.reaches(42 * time.Minute)
		starts := make(map[int]int)
		for _, c := range w.provider.record()[before:] {
			if c.Key.Service == "github" {
				starts[int(c.Began.Sub(began)/(30*time.Second))]++
			}
		}
		most := 0
		for _, n := range starts {
			most = max(most, n)
		}
		w.Logf("at most %d calls within 30 s after it is back; the steady pace is %d", most, perMinute/2)
		if most > perMinute {
			w.Errorf("after the provider is back it got %d calls within 30 s, the steady pace is %d", most, perMinute/2)
		}
		for _, key := range broken {
			if c := w.row(key); c.DueIn < -5*time.Second || c.ExpiresIn <= 0 {
				w.Fatalf("%s is due for %v, and expires in %v", key, -c.DueIn, c.ExpiresIn)
			}
		}
	})
}

// A policy that never presents again what may have been used up must not end one grant after the other while the
// provider does not answer.
func TestKeepStopsBeforeItEndsAllGrants(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 500)...)
		w.provider.script = func(ctx context.Context, _ credentials.Credential, _ int) (credentials.Grant, error) {
			<-ctx.Done()
			return credentials.Grant{}, ctx.Err()
		}
		p := w.start("P", func(s *setup) { s.service.Replay, s.service.KeepParallel = credentials.NeverReplay, 4 })
		kept, err := p.RefreshDue(w.Context())
		if k := kept["github"]; err != nil || !k.Down || k.Rejected > 4+5 {
			w.Errorf("got %+v, error %v", kept, err)
		}
	})
}
