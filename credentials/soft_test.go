package credentials_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// anHour puts a token of an hour; it is due after 55 minutes, and at the latest half a minute later
// in every process.
func (w *world) anHour(key credentials.Key) {
	w.Helper()
	w.put(key, credentials.Grant{
		AccessToken: secret("put-" + key.Account), RefreshToken: secret("seed-" + key.String()), Lifetime: time.Hour,
	})
}

const dueOfAnHour = 55*time.Minute + 30*time.Second

// In the window before the expiration nobody waits: callers get the current token, and one call
// renews it.
func TestSoftExpiry(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		processes := append(w.starts(3), w.start("cold"))
		each(processes[:3]).ask(alice).are("put-alice")
		w.reaches(55*time.Minute - time.Second)
		each(processes[:3]).ask(alice).are("put-alice")
		w.reaches(dueOfAnHour)
		w.presented(0)
		for range 4 {
			for _, p := range processes {
				a := p.ask(alice)
				a.is("put-alice")
				if a.took != 0 {
					w.Errorf("process %s: waited for %v, though its token is good", p.name, a.took)
				}
			}
			time.Sleep(w.provider.latency / 5)
			synctest.Wait()
			processes = append(processes, w.start("colder")) // which has nothing cached, and finds the row leased
		}
		w.presented(1)
		w.reaches(dueOfAnHour + w.provider.latency)
		w.presented(1)
		// Processes that saw the lease look when it has been given up, as do those that come later.
		time.Sleep(soon)
		each(processes).ask(alice).are("access-alice-1")
		w.reaches(time.Hour + time.Minute)
		each(processes).ask(alice).are("access-alice-1")
		w.presented(1)
	})
}

// A failing provider shows in the log alone until the token has expired. The back-off is kept by
// all processes, and the callers do not notice the recovery either.
func TestInvariant11ServeWhileValidProviderFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassTransient, Reason: "busy"})
		processes := w.starts(3)
		for time.Since(w.began) < time.Hour {
			for _, p := range processes {
				a := p.ask(alice)
				a.is("put-alice")
				if a.took != 0 {
					w.Errorf("it waited for %v", a.took)
				}
			}
			time.Sleep(time.Second)
		}
		calls := w.provider.record()
		if len(calls) < 3 || len(calls) > 12 { // 5 minutes of exponential back-off
			w.Errorf("the provider got %d calls", len(calls))
		}
		if !strings.Contains(w.logs.String(), "renewal ahead of expiry failed") || !strings.Contains(w.logs.String(), "busy") {
			w.Errorf("nothing was logged of the failures:\n%s", w.logs)
		}
		e := processes[0].ask(alice).failed(credentials.ClassTransient)
		w.provider.script = nil
		time.Sleep(time.Until(e.RetryAt))
		processes[1].ask(alice).is("access-alice-1")
	})
}

// A process that starts while the provider fails, and a grant that is dead: the stored token is
// served.
func TestInvariant11ServeWhileValidToNewProcesses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		w.provider.authorized(alice, "another") // the grant is dead
		w.reaches(dueOfAnHour)
		for range 4 {
			p := w.start("new")
			p.ask(alice).is("put-alice")
			synctest.Wait()
			p.ask(alice).is("put-alice")
			time.Sleep(time.Minute)
		}
		w.presented(1)
		w.reaches(time.Hour)
		w.start("new").ask(alice).failed(credentials.ClassDead)
		w.presented(1)
	})
}

func TestInvariant11ServeWhileValidStoreDown(t *testing.T) {
	for _, test := range []struct {
		name string
		down func(s *testkit.Store)
	}{
		{"refuses", func(s *testkit.Store) { s.Down(true) }},
		{"hangs", func(s *testkit.Store) { s.Before(testkit.Get, testkit.Hang) }},
		{"hangs on claims", func(s *testkit.Store) { s.Before(testkit.Claim, testkit.Hang) }},
		{"refuses claims", func(s *testkit.Store) { s.Before(testkit.Claim, testkit.Refuse) }},
		{"refuses saves", func(s *testkit.Store) { s.Before(testkit.Save, testkit.Refuse) }},
	} {
		inWorldOf(t, test.name, func(w *world) {
			w.anHour(alice)
			p := w.start("P")
			p.ask(alice).is("put-alice")
			test.down(p.store)
			var waited time.Duration
			for time.Since(w.began) < time.Hour {
				a := p.ask(alice)
				a.is("put-alice")
				waited += a.took
				time.Sleep(100 * time.Millisecond)
			}
			if waited > 2*time.Second { // until the store is known to be away
				w.Errorf("callers waited for %v", waited)
			}
			// Two looks a second at most, however many callers there are.
			if n := p.store.Count(testkit.Get); n > 2*3600+10 {
				w.Errorf("the store was asked %d times in an hour", n)
			}
			a := p.ask(alice)
			if <-a.done; a.err == nil {
				w.Errorf("got token %v, which has expired, or is not stored", a.token.Value)
			}
			a.within(2 * credentials.DefaultStoreTimeout)
			w.silent(a.err)
			p.store.Heal()
			for a = p.ask(alice); ; a = p.ask(alice) {
				if <-a.done; a.err == nil {
					break
				}
				time.Sleep(time.Second)
			}
			a.is("access-alice-1")
			w.presented(1)
		})
	}
}

// The replies to claims are lost. A read may find the lease of one, which the process then uses.
func TestInvariant11ServeWhileValidClaimsLost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.ask(alice).is("put-alice")
		p.store.After(testkit.Claim, testkit.Refuse)
		var waited time.Duration
		for time.Since(w.began) < time.Hour {
			a := p.ask(alice)
			a.mustGet()
			waited += a.took
			time.Sleep(100 * time.Millisecond)
		}
		if waited > 2*time.Second {
			w.Errorf("callers waited for %v", waited)
		}
		if n := p.store.Count(testkit.Get); n > 2*3600+10 {
			w.Errorf("the store was asked %d times in an hour", n)
		}
		p.store.Heal()
		p.mustGet(alice)
		w.presented(1)
	})
}

// A put, a delete and a renewal elsewhere are noticed within a recheck, whether the token is asked
// for or not, at one statement each and a read of the row that has moved.
func TestRecheck(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P", func(s *setup) { s.options.Recheck = 10 * time.Second })
		p.ask(alice).is("put-alice")
		notices := func(want string) {
			w.Helper()
			looks, reads := p.store.Count(testkit.Versions), p.store.Count(testkit.Get)
			time.Sleep(10 * time.Second)
			looks, reads = p.store.Count(testkit.Versions)-looks, p.store.Count(testkit.Get)-reads
			if looks < 1 || looks > 2 || reads > looks {
				w.Errorf("%d looks and %d reads in 10 s, want one look, and a read if the row moved", looks, reads)
			}
			costs := p.costs()
			a := p.ask(alice)
			if want == "" {
				a.fails(credentials.ErrNotFound)
				return
			}
			a.is(want)
			costs(0)
			if a.took != 0 {
				w.Errorf("a caller waited for %v", a.took)
			}
		}
		notices("put-alice")
		w.put(alice, credentials.Grant{AccessToken: secret("replaced"), RefreshToken: secret("seed"), Lifetime: time.Hour})
		notices("replaced")
		q := w.start("Q")
		q.report(alice, q.mustGet(alice)).is("access-alice-1")
		notices("access-alice-1")
		w.delete(alice)
		notices("")
	})
}

// However many callers come in the window, in however many processes, the row is looked at, claimed
// and saved once.
func TestSoftExpiryCostsOneClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.mustGet(alice)
		w.reaches(dueOfAnHour)
		// A look of the lookout may come beside them.
		calls := func() int { return p.store.Count() - p.store.Count(testkit.Versions) }
		before := calls()
		for range 100 {
			p.ask(alice).is("put-alice")
		}
		time.Sleep(time.Second)
		p.ask(alice).is("access-alice-1")
		if n := calls() - before; n != 3 {
			w.Errorf("it took %d calls of the store, want a read, a claim and a save", n)
		}
	})
}

// There are providers that end the old token when they issue the next one. From the due time on
// every process watches the row, so that none serves the old one for long; whose turn it is decides
// only who claims.
func TestReplacedTokenIsNotServedForLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		processes := w.starts(6)
		each(processes).ask(alice).are("put-alice")
		w.reaches(55*time.Minute - time.Millisecond)
		var longest time.Duration
		for time.Since(w.began) < 56*time.Minute {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			for _, p := range processes {
				a := p.ask(alice)
				if token := a.mustGet().Value; token.Equal(secret("put-alice")) {
					if calls := w.provider.record(); len(calls) > 0 && !calls[0].Ended.IsZero() {
						longest = max(longest, time.Since(calls[0].Ended))
					}
				}
				if a.took != 0 {
					w.Fatalf("process %s: a caller waited for %v", p.name, a.took)
				}
			}
		}
		w.presented(1)
		w.Logf("a replaced token was served for %v", longest)
		if longest > 350*time.Millisecond { // a look at the row, and one more at the exchange under way
			w.Errorf("a replaced token was served for %v", longest)
		}
		for _, p := range processes {
			p.ask(alice).is("access-alice-1")
			// Half a minute's looks at 10 a second and less, and some more while the exchange is
			// under way.
			if n := p.store.Count(testkit.Versions); n > 300 {
				w.Errorf("process %s looked at the row %d times", p.name, n)
			}
		}
	})
}

// A caller that has to wait does not wait for the claim delay of its process, too.
func TestClaimDelayIsNotWaitedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		token := p.mustGet(alice)
		w.reaches(55*time.Minute + time.Millisecond)
		p.mustGet(alice)
		synctest.Wait()
		a := p.report(alice, token)
		a.is("access-alice-1")
		if a.took > w.provider.latency+50*time.Millisecond {
			w.Errorf("who reports a token waited for %v", a.took)
		}
		w.presented(1)
	})
}

// An answer that takes long says less of when the token ends than an earlier one did: what was
// known stays known.
func TestSlowReadShortensNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{AccessToken: secret("put-alice"), RefreshToken: secret("seed"), Lifetime: 10 * time.Second})
		w.provider.latency = 900 * time.Millisecond
		p := w.start("P")
		expiry := p.mustGet(alice).Expiry
		slow := testkit.Delay(900 * time.Millisecond)
		p.store.Before(testkit.Get, slow)
		w.reaches(8 * time.Second)
		for time.Since(w.began) < 10*time.Second {
			a := p.ask(alice)
			if token := a.mustGet(); token.Value.Equal(secret("put-alice")) && !token.Expiry.Equal(expiry) {
				w.Fatalf("%v: the token's end has become %v, %v before", time.Since(w.began), token.Expiry, expiry)
			}
			a.within(aLook)
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// The same token put again with a shorter life is another matter.
func TestSameTokenPutAgainWithAShorterLife(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.ask(alice).is("put-alice")
		w.put(alice, credentials.Grant{AccessToken: secret("put-alice"), RefreshToken: secret("seed"), Lifetime: 10 * time.Minute})
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassTransient, Reason: "busy"})
		w.reaches(time.Minute)
		p.ask(alice)
		w.reaches(11 * time.Minute)
		p.ask(alice).failed(credentials.ClassTransient)
	})
}
