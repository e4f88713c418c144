package credentials_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// refusesWhile has the provider refuse everybody while down is set.
func (w *world) refusesWhile(down *atomic.Bool) {
	w.provider.script = func(ctx context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
		if down.Load() {
			return busy(0)(ctx, c, n)
		}
		return credentials.Grant{}, errOrdinary
	}
}

// noneExpires looks at credentials that were spread over that time, each minute until some time after the last is due: of
// those that become due after the provider is back, none may expire.
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

// What becomes due when the provider is back does not queue behind the backlog, however old that is.
func TestNothingExpiresBehindABacklog(t *testing.T) {
	inWorld(t, func(w *world) {
		const outage = 15 * time.Minute
		w.provider.lifetime = time.Hour
		keys := accounts("github", 900)
		w.spread(keys, 45*time.Minute)
		idle := credentials.Key{Service: "github", Account: "idle"}
		w.seed(idle) // due from the start, and never claimed
		var down atomic.Bool
		w.provider.script = func(ctx context.Context, c credentials.Credential, n int) (credentials.Grant, error) {
			if down.Load() || c.Key == idle {
				return busy(0)(ctx, c, n)
			}
			return credentials.Grant{}, errOrdinary
		}
		defer w.start("P").keeps()()
		w.reaches(25 * time.Minute)
		down.Store(true)
		w.reaches(25*time.Minute + outage)
		down.Store(false)
		w.noneExpires(keys, 45*time.Minute, 25*time.Minute+outage+31*time.Second)
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
		w.provider.lifetime = 3 * time.Hour
		keys := accounts("github", 90*perMinute)
		w.spread(keys, 90*time.Minute)
		var down atomic.Bool
		w.refusesWhile(&down)
		defer w.start("P", func(s *setup) { s.service.KeepRate = 1.1 * perMinute / 60 }).keeps()()
		w.reaches(25 * time.Minute)
		down.Store(true)
		w.reaches(25*time.Minute + outage)
		down.Store(false)
		w.noneExpires(keys, 90*time.Minute, 25*time.Minute+outage+31*time.Second)
	})
}

// A service of which something is due now and then has no backlog when an outage is over, and is renewed in time.
func TestKeepRenewsInTimeAfterAnOutageInWhichLittleWasDue(t *testing.T) {
	for _, n := range []int{1, 3, 10, 60} {
		t.Run(fmt.Sprint(n, " accounts"), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.provider.lifetime = time.Hour
				keys := accounts("github", n)
				w.spread(keys, 55*time.Minute)
				var down atomic.Bool
				w.refusesWhile(&down)
				defer w.start("P").keeps()()
				due := 20*time.Minute + 55*time.Minute/time.Duration(n) // the first
				w.reaches(due - time.Minute)
				down.Store(true)
				w.reaches(due + 2*time.Minute)
				down.Store(false)
				for at := due + 30*time.Minute; at < 8*time.Hour; at += time.Minute {
					w.reaches(at)
					for _, key := range keys {
						if late := -w.row(key).DueIn; late > 5*time.Second {
							w.Fatalf("at %v: %s has been due for %v", at, key, late)
						}
					}
				}
			})
		})
	}
}

// The provider is back for a minute, down again, and back: the backlog of the first outage is one of the second too.
func TestKeepWhileAProviderComesAndGoes(t *testing.T) {
	inWorld(t, func(w *world) {
		const perMinute = 60
		w.provider.lifetime = time.Hour
		w.spread(accounts("github", 40*perMinute), 40*time.Minute)
		var down atomic.Bool
		w.refusesWhile(&down)
		defer w.start("P").keeps()()
		for minute, is := range map[time.Duration]bool{22: true, 32: false, 33: true} {
			time.AfterFunc(minute*time.Minute, func() { down.Store(is) })
		}
		w.reaches(33*time.Minute + 30*time.Second)
		down.Store(false)
		began, before := time.Now(), len(w.provider.record())
		w.reaches(40 * time.Minute)
		starts := make(map[int]int)
		for _, c := range w.provider.record()[before:] {
			starts[int(c.Began.Sub(began)/(10*time.Second))]++
		}
		for at, n := range starts {
			if n > 2*perMinute/6 {
				w.Errorf("%d calls within 10 s, %d s after it is back; the steady pace is %d", n, 10*at, perMinute/6)
			}
		}
		if len(starts) < 30 {
			w.Errorf("it was called in %d stretches of 10 s of some 38", len(starts))
		}
	})
}
