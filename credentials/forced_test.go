package credentials_test

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// An API turns every token down. The callers of all processes together cause few exchanges, whether
// the provider issues new tokens or the same one again.
func TestForcedExchangesAreFew(t *testing.T) {
	for name, same := range map[string]bool{"new tokens": false, "the same token": true} {
		inWorldOf(t, name, func(w *world) {
			w.anHour(alice)
			if same {
				w.sameText()
			}
			const lasts, callers = 2 * time.Minute, 2
			processes := w.starts(4)
			requests := make(chan int)
			for _, p := range processes {
				for range callers {
					go func() { requests <- p.asksInVain(alice, lasts) }()
				}
			}
			total, reads, claims := 0, 0, 0
			for range len(processes) * callers {
				total += <-requests
			}
			for _, p := range processes {
				reads += p.store.Count(testkit.Get)
				claims += p.store.Count(testkit.Claim)
			}
			calls, seconds := w.provider.record(), int(lasts/aConfirmation)+1
			most := mostInAMinute(calls)
			w.Logf("%d requests in %v: %d exchanges, at most %d in a minute, %d claims, %d reads",
				total, lasts, len(calls), most, claims, reads)
			if most > 3 || len(calls) < 4 || claims > (len(calls)+seconds)*len(processes) || reads > 2*total {
				w.Errorf("%d requests: %d exchanges, %d in a minute, %d claims, %d reads",
					total, len(calls), most, claims, reads)
			}
			if logs := w.logs.String(); strings.Contains(logs, "level=WARN") {
				w.Errorf("what every reporter is told was logged:\n%.1000s", logs)
			}
		})
	}
}

// asksInVain has a caller use tokens, which the API turns down within 50 ms, for that long. It
// returns the number of requests.
func (p *process) asksInVain(key credentials.Key, lasts time.Duration) (requests int) {
	for began := time.Now(); time.Since(began) < lasts; {
		token, err := p.Token(p.w.Context(), key)
		for err == nil && time.Since(began) < lasts {
			requests++
			time.Sleep(50 * time.Millisecond)
			token, err = p.Invalidate(p.w.Context(), key, token)
		}
	}
	return requests
}

// mostInAMinute returns how many of the calls began within one minute at most.
func mostInAMinute(calls []presentation) (most int) {
	for i, first := range calls {
		n := 0
		for _, call := range calls[i:] {
			if call.Began.Sub(first.Began) < time.Minute {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A token that an exchange brought lately is not exchanged, in no process: the reporter is told
// why, and when to come back, and everybody else still gets the token.
func TestInvalidateTooYoung(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		processes := append(w.starts(2), w.start("C"))
		processes[0].ask(alice).is("access-alice-1")
		brought := time.Now()
		for range 3 {
			time.Sleep(9 * time.Second)
			for _, p := range processes {
				turnedDown := p.mustGet(alice)
				costs := p.costs()
				e := p.report(alice, turnedDown).failed(credentials.ClassTransient)
				costs(2) // a read, and a claim that finds it so
				if e.Code != "too_young" || e.By != "A" || e.Ago != time.Since(brought) {
					w.Errorf("process %s: got %+v", p.name, e)
				}
				if want := brought.Add(credentials.DefaultMinTokenAge); !e.RetryAt.Equal(want) {
					w.Errorf("process %s: RetryAt is %v, want %v", p.name, e.RetryAt, want)
				}
				if text := e.Error(); !strings.Contains(text, "within 30s") || !strings.Contains(text, "by A, ") {
					w.Errorf("process %s: the error is %s", p.name, text)
				}
				costs = p.costs()
				p.ask(alice).is("access-alice-1")
				costs(0)
				p.report(alice, credentials.Token{Value: turnedDown.Value}).failed(credentials.ClassTransient)
			}
		}
		w.presented(1)
		old := processes[0].mustGet(alice)
		w.reaches(brought.Add(credentials.DefaultMinTokenAge).Sub(w.began))
		processes[2].report(alice, old).is("access-alice-2")
		processes[1].report(alice, old).is("access-alice-2")
		processes[0].report(alice, old).is("access-alice-2")
		processes[0].report(alice, processes[0].mustGet(alice)).failed(credentials.ClassTransient)
		w.presented(2)
		w.clean(alice)
	})
}

// A token that a person put may be turned down at once, also if an exchange came shortly before.
func TestInvalidateOfAPutToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p, q := w.start("P"), w.start("Q")
		p.ask(alice).is("access-alice-1")
		w.put(alice, credentials.Grant{AccessToken: secret("put"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		q.report(alice, q.mustGet(alice)).is("access-alice-2")
		p.report(alice, p.mustGet(alice)).is("access-alice-2")
		w.presented(2)
		for _, each := range []*process{p, q} {
			each.report(alice, each.mustGet(alice)).failed(credentials.ClassTransient)
		}
		w.presented(2)
	})
}

// The age keeps no token that is due or has expired from being exchanged, and RetryAt names the
// moment from which on it is due.
func TestYoungTokenThatExpires(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = 2 * time.Second
		p := w.start("P")
		for n := range 20 {
			token := p.mustGet(alice)
			e := p.report(alice, token).failed(credentials.ClassTransient)
			due := e.RetryAt.Sub(token.Expiry)
			if due > 0 || due < -time.Second {
				w.Fatalf("RetryAt is %v after the token's end", due)
			}
			w.reaches(e.RetryAt.Sub(w.began))
			if n%2 == 0 { // by its due time, or by its end
				w.reaches(token.Expiry.Sub(w.began))
			}
			p.report(alice, token).mustGet()
			w.presented(n + 2)
		}
	})
}

// A token that has ended by the process's own count is exchanged whatever its age, though it is
// young and good by the store's clock, which was set back.
func TestYoungTokenThatHasEndedByOwnCount(t *testing.T) {
	inWorld(t, func(w *world) {
		w.reaches(time.Minute)
		w.seed(alice)
		w.provider.Lifetime = 20 * time.Second
		p := w.start("P")
		token := p.mustGet(alice)
		time.Sleep(12 * time.Second)
		w.setClock(-12 * time.Second)
		p.ask(alice).is("access-alice-1")
		p.report(alice, token).failed(credentials.ClassTransient)
		w.presented(1)
		w.reaches(token.Expiry.Sub(w.began))
		if c := w.all[0].storedRow(); c.ExpiresIn < 10*time.Second || c.Refreshed.Ago > 10*time.Second {
			w.Fatalf("by the store's clock the token is %v old, and ends in %v", c.Refreshed.Ago, c.ExpiresIn)
		}
		p.ask(alice).is("access-alice-2")
		w.presented(2)
	})
}

// storedRow is alice's as the process reads it.
func (p *process) storedRow() credentials.Credential {
	p.w.Helper()
	c, err := p.store.Get(p.w.Context(), alice)
	if err != nil {
		p.w.Fatal(err)
	}
	return c
}

// A clock that was set back by long makes no token too young for long.
func TestYoungTokenWhenTheClockIsSetBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.reaches(time.Minute)
		w.seed(alice)
		p := w.start("P")
		token := p.mustGet(alice)
		w.setClock(-time.Hour)
		p.report(alice, token).is("access-alice-2")
		w.presented(2)
	})
}

// The store decides under the row's lock, by its own clock: a claim that is refused since the token
// is too young is not tried again and again.
func TestTooYoungToTheClaimAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		p := w.start("P")
		token := p.mustGet(alice)
		time.Sleep(credentials.DefaultMinTokenAge)
		behind := testkit.Func(func() { p.store.Through(w.db.Node(-5 * time.Second)) })
		p.store.Before(testkit.Claim, testkit.Times(10, behind))
		p.store.After(testkit.Claim, testkit.Func(func() { p.store.Through(w.db) }))
		costs := p.costs()
		p.report(alice, token).failed(credentials.ClassTransient)
		costs(2)
		w.presented(1)
	})
}

// A service says how old a token must be.
func TestMinTokenAge(t *testing.T) {
	aged := func(age time.Duration) func(*setup) {
		return func(s *setup) { s.service.MinTokenAge = age }
	}
	inWorld(t, func(w *world) {
		w.seed(alice)
		brief, none := w.start("brief", aged(5*time.Second)), w.start("none", anyAge)
		token := brief.mustGet(alice)
		time.Sleep(4 * time.Second)
		brief.report(alice, token).failed(credentials.ClassTransient)
		time.Sleep(time.Second)
		brief.report(alice, token).is("access-alice-2")
		none.report(alice, none.mustGet(alice)).is("access-alice-3")
		none.report(alice, none.mustGet(alice)).is("access-alice-4")
		w.presented(4)
	})
}
