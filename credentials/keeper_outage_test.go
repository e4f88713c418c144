package credentials_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// A provider that is down costs few calls, does not slow another's renewals, and meets no herd when
// it is back.
func TestKeepWhileAProviderIsDown(t *testing.T) {
	inWorld(t, func(w *world) {
		const perMinute = 60
		w.provider.Lifetime = time.Hour
		broken, sound := accounts("github", 25*perMinute), accounts("xero", 25)
		w.spread(broken, 25*time.Minute)
		w.spread(sound, 25*time.Minute)
		w.refuses(between{22 * time.Minute, 28 * time.Minute})
		down := w.provider.script
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			if in.Key.Service == "xero" {
				return credentials.Grant{}, errOrdinary
			}
			return down(ctx, in, n)
		}
		processes := w.starts(2)
		for _, p := range processes {
			defer p.keeps()()
		}
		w.reaches(22 * time.Minute)
		before := len(w.provider.record())
		w.reaches(28 * time.Minute)
		made := w.provider.record()[before:]
		calls, others := len(callsOf("github", made)), len(callsOf("xero", made))
		w.Logf("%d calls at the provider that is down, in 6 minutes in which %d credentials became due", calls, 6*perMinute)
		if calls > 2*(16+5+36) { // what was under way, and less than a probe every 10 s
			w.Errorf("the provider that is down got %d calls in 6 minutes", calls)
		}
		if others < 5 || others > 7 {
			w.Errorf("the other provider got %d calls, want about 6", others)
		}
		for _, p := range processes {
			if k := p.keeper.Stats()["github"]; !k.ProviderDown {
				w.Errorf("process %s takes the provider for up: %+v", p.name, k)
			}
		}
		began, before := time.Now(), len(w.provider.record())
		// Less than twice the pace, counted over any 30 seconds, and all of it is taken up in 12
		// minutes.
		w.reaches(42 * time.Minute)
		most := maxWithin(30*time.Second, began, callsOf("github", w.provider.record()[before:]))
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

// callsOf returns those of the calls that were made for a credential of the service.
func callsOf(service string, calls []presentation) (of []presentation) {
	for _, c := range calls {
		if c.Key.Service == service {
			of = append(of, c)
		}
	}
	return of
}

// maxWithin returns the maximum of the calls in one stretch of that length, of those that follow
// each other from the beginning on.
func maxWithin(stretch time.Duration, beginning time.Time, calls []presentation) (most int) {
	starts := make(map[time.Duration]int)
	for _, c := range calls {
		i := c.Began.Sub(beginning) / stretch
		starts[i]++
		most = max(most, starts[i])
	}
	return most
}

// A policy that never presents again what may have been used up must not end one grant after the
// other while the provider does not answer.
func TestKeepStopsBeforeItEndsAllGrants(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 500)...)
		w.provider.script = func(ctx context.Context, _ credentials.RefreshInput, _ int) (credentials.Grant, error) {
			<-ctx.Done()
			return credentials.Grant{}, ctx.Err()
		}
		p := w.start("P", neverReplay, func(s *setup) { s.service.KeepParallel = 4 })
		kept, err := p.keeper.RunOnce(w.Context())
		if k := kept["github"]; err != nil || !k.ProviderDown || k.Dead > 4+5 {
			w.Errorf("got %+v, error %v", kept, err)
		}
	})
}

// between is a stretch of time, counted from the beginning of the test.
type between struct{ from, until time.Duration }

// refuses has the provider refuse everybody in these stretches.
func (w *world) refuses(stretches ...between) {
	w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
		for _, s := range stretches {
			if past := time.Since(w.began); past >= s.from && past < s.until {
				return busy(0)(ctx, in, n)
			}
		}
		return credentials.Grant{}, errOrdinary
	}
}

// noneExpires looks at credentials that were spread over that time, each minute until some time
// after the last is due: of those that become due after the provider is back, none may expire.
func (w *world) noneExpires(keys []credentials.Key, over, back time.Duration) {
	w.Helper()
	for at := back.Truncate(time.Minute) + time.Minute; at <= 20*time.Minute+over+5*time.Minute; at += time.Minute {
		w.reaches(at)
		for i, key := range keys {
			due := 20*time.Minute + time.Duration(i+1)*over/time.Duration(len(keys))
			if due > back && w.row(key).ExpiresIn <= 0 {
				w.Fatalf("at %v: %s was due at %v, and has expired", at, key, due)
			}
		}
	}
}

// A row that becomes due when the provider is back does not queue behind the backlog, however old
// the backlog is.
func TestNothingExpiresBehindABacklog(t *testing.T) {
	inWorld(t, func(w *world) {
		const outage = 15 * time.Minute
		w.provider.Lifetime = time.Hour
		keys := accounts("github", 900)
		w.spread(keys, 45*time.Minute)
		idle := credentials.Key{Service: "github", Account: "idle"}
		w.seed(idle) // due from the start, and never claimed
		w.refuses(between{25 * time.Minute, 25*time.Minute + outage})
		others := w.provider.script
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			if in.Key == idle {
				return busy(0)(ctx, in, n)
			}
			return others(ctx, in, n)
		}
		defer w.start("P").keeps()()
		w.noneExpires(keys, 45*time.Minute, 25*time.Minute+outage+31*time.Second)
		w.reaches(25*time.Minute + outage + 31*time.Second + 31*time.Minute)
		for _, key := range keys {
			if c := w.row(key); c.ExpiresIn <= 0 {
				w.Fatalf("%s was not renewed", key)
			}
		}
	})
}

// The same where the keeper may do little more than what becomes due.
func TestNothingExpiresBehindABacklogUnderARate(t *testing.T) {
	inWorld(t, func(w *world) {
		const outage, perMinute = 15 * time.Minute, 6
		w.provider.Lifetime = 3 * time.Hour
		keys := accounts("github", 90*perMinute)
		w.spread(keys, 90*time.Minute)
		w.refuses(between{25 * time.Minute, 25*time.Minute + outage})
		defer w.start("P", func(s *setup) { s.service.KeepRate = 1.1 * perMinute / 60 }).keeps()()
		w.noneExpires(keys, 90*time.Minute, 25*time.Minute+outage+31*time.Second)
	})
}

// A service of which something is due now and then has no backlog when an outage is over, and is
// renewed in time.
func TestKeepRenewsInTimeAfterAnOutageInWhichLittleWasDue(t *testing.T) {
	for _, n := range []int{1, 3, 10, 60} {
		inWorldOf(t, fmt.Sprint(n, " accounts"), func(w *world) {
			w.provider.Lifetime = time.Hour
			keys := accounts("github", n)
			w.spread(keys, 55*time.Minute)
			due := 20*time.Minute + 55*time.Minute/time.Duration(n) // the first
			w.refuses(between{due - time.Minute, due + 2*time.Minute})
			defer w.start("P").keeps()()
			for at := due + 30*time.Minute; at < 8*time.Hour; at += time.Minute {
				w.reaches(at)
				for _, key := range keys {
					if late := -w.row(key).DueIn; late > 5*time.Second {
						w.Fatalf("at %v: %s has been due for %v", at, key, late)
					}
				}
			}
		})
	}
}

// The provider is back for a minute, down again, and back: the backlog of the first outage is one
// of the second too.
func TestKeepWhileAProviderComesAndGoes(t *testing.T) {
	inWorld(t, func(w *world) {
		const perMinute = 60
		w.provider.Lifetime = time.Hour
		w.spread(accounts("github", 40*perMinute), 40*time.Minute)
		w.refuses(between{22 * time.Minute, 32 * time.Minute}, between{33 * time.Minute, 33*time.Minute + 30*time.Second})
		defer w.start("P").keeps()()
		w.reaches(33*time.Minute + 30*time.Second)
		began, before := time.Now(), len(w.provider.record())
		w.reaches(40 * time.Minute)
		starts := make(map[int]int)
		for _, c := range w.provider.record()[before:] {
			starts[int(c.Began.Sub(began)/(10*time.Second))]++
		}
		// In 10 seconds, a batch may fall on either side.
		most := maxWithin(30*time.Second, began, w.provider.record()[before:])
		if most > perMinute {
			w.Errorf("it got %d calls within 30 s, the steady pace is %d", most, perMinute/2)
		}
		if len(starts) < 30 {
			w.Errorf("it was called in %d stretches of 10 s of some 38", len(starts))
		}
	})
}

// A provider so slow that its exchanges take all slots: the backlog is taken up within the half
// hour all the same, where the slots allow it.
func TestBacklogOfASlowProvider(t *testing.T) {
	inWorld(t, func(w *world) {
		const outage, perMinute = 15 * time.Minute, 60
		w.provider.Lifetime, w.provider.latency = 3*time.Hour, 8*time.Second // 16 slots: 120 a minute
		keys := accounts("github", 90*perMinute)
		w.spread(keys, 90*time.Minute)
		w.refuses(between{25 * time.Minute, 25*time.Minute + outage})
		defer w.start("P").keeps()()
		back := 25*time.Minute + outage + 31*time.Second
		w.reaches(back + 33*time.Minute)
		for i, key := range keys {
			due := 20*time.Minute + time.Duration(i+1)*90*time.Minute/time.Duration(len(keys))
			if due < 25*time.Minute+outage && w.row(key).DueIn <= 0 {
				w.Fatalf("%v after the provider is back, %s has been due for %v", 33*time.Minute, key, -w.row(key).DueIn)
			}
		}
	})
}
