package credentials_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// puzzled is a refusal for a reason that nobody knows.
func puzzled(code string) credentials.RefreshError {
	return credentials.RefreshError{
		Class: credentials.ClassTransient, Code: code, Reason: "the provider answered 400", Unclassified: true,
	}
}

// turns answers one after the other of these, and then from the beginning.
func turns(all ...credentials.RefreshError) script {
	return func(_ context.Context, _ credentials.RefreshInput, n int) (credentials.Grant, error) {
		e := all[(n-1)%len(all)]
		return credentials.Grant{}, &e
	}
}

var refusalsOfADay = []struct {
	name      string
	life      time.Duration // of the token that was put; zero: there is none
	script    script
	class     credentials.Class
	code      string
	presented [2]int // at least and at most, in a day
}{
	{"a reason that nobody knows", 0, turns(puzzled("computer_says_no")), credentials.ClassDead, "unconfirmed", [2]int{8, 50}},
	{"without a code", 0, turns(puzzled("")), credentials.ClassDead, "unconfirmed", [2]int{8, 50}},
	{"the token has half a day to live", 12 * time.Hour, turns(puzzled("computer_says_no")),
		credentials.ClassDead, "unconfirmed", [2]int{8, 50}},
	{"the token lives on", 48 * time.Hour, turns(puzzled("computer_says_no")), "", "", [2]int{0, 0}},
	{"the provider is not reached every other time", 0, turns(puzzled("computer_says_no"), credentials.RefreshError{
		Class: credentials.ClassTransient, Reason: "nothing was sent"}), credentials.ClassDead, "unconfirmed", [2]int{8, 200}},
	{"a reason that changes", 0, turns(puzzled("one_thing"), puzzled("another")), credentials.ClassTransient, "", [2]int{100, 800}},
	{"a reason that is known", 0, refusing(credentials.RefreshError{Class: credentials.ClassTransient, Code: "invalid_client"}),
		credentials.ClassTransient, "invalid_client", [2]int{100, 800}},
	{"no answer", 0, refusing(credentials.RefreshError{Class: credentials.ClassUnknown, Unclassified: true}),
		credentials.ClassUnknown, "", [2]int{100, 800}},
	{"the provider's word for dead", 0, refusing(credentials.RefreshError{Class: credentials.ClassDead, Code: "invalid_grant"}),
		credentials.ClassDead, "invalid_grant", [2]int{1, 1}},
}

// A keeper that meets the same refusal for a day: the grant comes to an end where nobody knows the
// reason and the token has expired, after a bounded number of presentations.
func TestRefusalsOfADay(t *testing.T) {
	for _, tt := range refusalsOfADay {
		inWorldOf(t, tt.name, func(w *world) {
			grant := credentials.Grant{RefreshToken: secret("seed"), Lifetime: tt.life}
			if tt.life > 0 {
				grant.AccessToken = secret("put-alice")
			}
			w.put(alice, grant)
			w.provider.script = tt.script
			defer w.start("P").keeps()()
			w.reaches(24 * time.Hour)
			f, n := w.row(alice).Failure, len(w.provider.record())
			w.Logf("%d presentations; the row says %s (%s) %s", n, f.Class, f.Code, f.Reason)
			if f.Class != tt.class || tt.code != "" && f.Code != tt.code {
				w.Errorf("the row says %s (%s); want %s (%s)", f.Class, f.Code, tt.class, tt.code)
			}
			if n < tt.presented[0] || n > tt.presented[1] {
				w.Errorf("%d presentations; want %d to %d", n, tt.presented[0], tt.presented[1])
			}
		})
	}
}

// While the token lives no refusal that nobody knows ends the grant, however long it lasts, and the
// tries grow few.
func TestRefusalsWhileTheTokenLives(t *testing.T) {
	inWorld(t, func(w *world) {
		w.provider.Lifetime = 72 * time.Hour
		w.seed(alice)
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			if n == 1 {
				return w.provider.exchange(in)
			}
			return turns(puzzled("computer_says_no"))(ctx, in, n)
		}
		p := w.start("P", func(s *setup) { s.service.KeepAlive = time.Hour })
		defer p.keeps()()
		w.reaches(48 * time.Hour)
		p.ask(alice).is("access-alice-1")
		f, n := w.row(alice).Failure, len(w.provider.record())
		if f.Class != credentials.ClassTransient || f.Refusals != n-1 || n < 20 || n > 120 {
			w.Errorf("after %d presentations the row says %s, %d refusals", n, f.Class, f.Refusals)
		}
	})
}

// An end that the provider has not confirmed says so, is no earlier than 6 hours after the first
// refusal and the token's end, and is taken back by Revive, without a new grant.
func TestUnconfirmedDeath(t *testing.T) {
	for name, life := range map[string]time.Duration{"no token": 0, "a token of 8 hours": 8 * time.Hour} {
		inWorldOf(t, name, func(w *world) {
			grant := credentials.Grant{RefreshToken: secret("seed"), Lifetime: life}
			if life > 0 {
				grant.AccessToken = secret("put-alice")
			}
			w.put(alice, grant)
			w.provider.script = turns(puzzled("computer_says_no"))
			p := w.start("P", func(s *setup) { s.service.Replay = credentials.NeverReplay })
			stop := p.keeps()
			begins := max(life-5*time.Minute, 0)
			w.reaches(begins + 6*time.Hour - time.Minute)
			if f := w.row(alice).Failure; f.Class != credentials.ClassTransient || f.Refusals < 8 {
				w.Errorf("before 6 hours are over, the row says %+v", f)
			}
			w.reaches(begins + 8*time.Hour)
			stop()
			e := p.ask(alice).failed(credentials.ClassDead)
			for _, want := range []string{"not confirmed", "answered 400", "revive it"} {
				if !strings.Contains(e.Error(), want) {
					w.Errorf("got %v; want %q in it", e, want)
				}
			}
			w.provider.script = nil
			w.revives(credentials.Revival{Service: alice.Service, Since: 24 * time.Hour}, 1)
			p.ask(alice).is("access-alice-1")
			w.clean(alice)
		})
	}
}

// A provider that refuses everybody for a reason that nobody knows is an incident: each process
// marks three grants at most.
func TestUnconfirmedDeathsAreAnIncident(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 40)
		w.seed(keys...)
		var mended atomic.Bool
		refuses := turns(puzzled("computer_says_no"))
		w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
			if mended.Load() {
				return w.provider.exchange(in)
			}
			return refuses(ctx, in, n)
		}
		defer w.start("P").keeps()()
		w.reaches(48 * time.Hour)
		if n := w.dead(keys); n > 3 {
			w.Errorf("%d grants were marked, want 3 at most", n)
		}
		mended.Store(true)
		w.reaches(49 * time.Hour)
		w.renewed(keys, w.dead(keys))
	})
}

// A provider refuses renewals that it takes for early: before 570 of 600 seconds, as Exact Online
// does. No caller sees an error, none waits for longer than an exchange, and a token costs few
// presentations.
func TestRenewalThatIsTooEarly(t *testing.T) {
	for name, keeps := range map[string]bool{"callers alone": false, "a keeper": true, "known to a hook": false} {
		inWorldOf(t, name, func(w *world) {
			w.provider.Lifetime = 10 * time.Minute
			w.seed(alice)
			issued := time.Time{}
			w.provider.script = func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
				if !issued.IsZero() && time.Since(issued) < 570*time.Second {
					e := puzzled("access_denied")
					e.Unclassified = name != "known to a hook"
					return credentials.Grant{}, &e
				}
				issued = time.Now()
				return w.provider.exchange(in)
			}
			processes := w.starts(2)
			if keeps {
				defer processes[0].keeps()()
			}
			const hours = 6
			for time.Since(w.began) < hours*time.Hour {
				for _, p := range processes {
					a := p.ask(alice)
					a.mustGet()
					a.within(2*w.provider.latency + aLook)
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			n := len(w.provider.record())
			w.Logf("%d presentations in %d hours", n, hours)
			if n < hours*6 || n > hours*6*4 {
				w.Errorf("%d presentations in %d hours; want at most 4 for each token", n, hours)
			}
		})
	}
}

// A provider that fails while the token is good is asked again at the token's end at the latest:
// nobody waits for a back-off that was made when nobody waited. A time that the provider asked for
// is heeded.
func TestBackOffEndsWithTheToken(t *testing.T) {
	for name, asked := range map[string]time.Duration{"its own back-off": 0, "the provider's": 20 * time.Minute} {
		inWorldOf(t, name, func(w *world) {
			w.anHour(alice)
			w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
				if time.Since(w.began) >= time.Hour {
					return credentials.Grant{}, errOrdinary
				}
				e := &credentials.RefreshError{Class: credentials.ClassTransient, Reason: "busy"}
				if asked > 0 {
					e.RetryAt = time.Now().Add(asked)
				}
				return credentials.Grant{}, e
			}
			p := w.start("P")
			stop := p.keeps()
			w.reaches(time.Hour)
			stop()
			time.Sleep(time.Second)
			if a := p.ask(alice); asked == 0 {
				a.is("access-alice-1")
			} else if e := a.failed(credentials.ClassTransient); time.Until(e.RetryAt) < 10*time.Minute {
				w.Errorf("the next try is in %v, and the provider asked for %v", time.Until(e.RetryAt), asked)
			}
		})
	}
}

// A token that an API turned down is as bad as one that has expired: a refusal while it lives makes
// no pause longer.
func TestRefusalOfATurnedDownToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		w.provider.script = first(turns(puzzled("computer_says_no")))
		p := w.start("P")
		e := p.report(alice, p.mustGet(alice)).failed(credentials.ClassTransient)
		if wait := time.Until(e.RetryAt); wait > 2*time.Second {
			w.Errorf("the next try is in %v", wait)
		}
	})
}

var afterAnInterruption = []struct {
	name      string
	replay    credentials.Replay
	answers   string // to the presentations after the interrupted one: dead, busy or good
	class     credentials.Class
	code      string
	presented int
}{
	{"ReplayOnce believes at once", credentials.ReplayOnce, "dead", credentials.ClassDead, "invalid_grant", 1},
	{"NeverReplay presents nothing", credentials.NeverReplay, "", credentials.ClassDead, "interrupted", 0},
	{"ReplayTwice believes the second time", credentials.ReplayTwice, "dead dead", credentials.ClassDead, "invalid_grant", 2},
	{"ReplayTwice rescues the grant", credentials.ReplayTwice, "dead good", "", "", 2},
	{"ReplayTwice after another refusal", credentials.ReplayTwice, "busy dead good", "", "", 3},
}

// The provider's word for dead after an interrupted exchange: where the service says so, the word
// is heard once more, a minute later, before it is believed.
func TestDeadAfterAnInterruption(t *testing.T) {
	for _, tt := range afterAnInterruption {
		inWorldOf(t, tt.name, func(w *world) {
			w.seed(alice)
			w.dies("died", alice, false)
			answers, answered := strings.Fields(tt.answers), 0
			var last time.Time
			w.provider.script = func(_ context.Context, in credentials.RefreshInput, _ int) (credentials.Grant, error) {
				answered++
				since := time.Since(last)
				last = time.Now()
				switch answers[min(answered, len(answers))-1] {
				case "good":
					if since < time.Minute {
						w.Errorf("presented again after %v", since)
					}
					return w.provider.exchange(in)
				case "busy":
					return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, Code: "slow_down"}
				}
				return credentials.Grant{}, invalidGrant()
			}
			stop := w.start("P", func(s *setup) { s.service.Replay = tt.replay }).keeps()
			w.reaches(50 * time.Minute)
			stop()
			f := w.row(alice).Failure
			if f.Class != tt.class || f.Code != tt.code {
				w.Errorf("the row says %s (%s) %s; want %s (%s)", f.Class, f.Code, f.Reason, tt.class, tt.code)
			}
			w.presented(tt.presented)
		})
	}
}

// While the word for dead is in doubt, callers are told so, and until when.
func TestDoubtIsTold(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("died", alice, false)
		w.provider.script = turns(credentials.RefreshError{Class: credentials.ClassDead, Code: "invalid_grant", Reason: "so it is"})
		p := w.start("P", func(s *setup) { s.service.Replay = credentials.ReplayTwice })
		e := p.ask(alice).failed(credentials.ClassTransient)
		if wait := time.Until(e.RetryAt); e.Code != "invalid_grant" || !strings.Contains(e.Reason, "interrupted") ||
			!strings.Contains(e.Reason, "so it is") || wait < time.Minute || wait > 2*time.Minute {
			w.Errorf("got %v, again in %v", e, wait)
		}
		time.Sleep(time.Until(e.RetryAt))
		if e := p.ask(alice).failed(credentials.ClassDead); e.Interrupted.By != "died" {
			w.Errorf("got %v; want it to name the holder that died", e)
		}
	})
}
