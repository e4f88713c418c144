package credentials_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// crowd are that many credentials, each with a token of a day.
func (w *world) crowd(n int) []credentials.Key {
	w.Helper()
	keys := make([]credentials.Key, n)
	for i := range keys {
		keys[i] = credentials.Key{Service: "github", Account: fmt.Sprint("account ", i)}
		w.put(keys[i], credentials.Grant{AccessToken: secret(keys[i].Account), Lifetime: 24 * time.Hour})
	}
	return keys
}

// askAll has that many callers ask for all of the keys, and returns the longest wait.
func (p *process) askAll(keys []credentials.Key, callers int) (longest time.Duration) {
	p.w.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	for first := range callers {
		group.Go(func() {
			for i := first; i < len(keys); i += callers {
				began := time.Now()
				token, err := p.Token(p.w.Context(), keys[i])
				if err != nil || !token.Value.Equal(secret(keys[i].Account)) {
					p.w.Errorf("%s: got token %v, error %v", keys[i], token.Value, err)
					return
				}
				mu.Lock()
				longest = max(longest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return longest
}

// statements is how often the process has asked its store.
func (p *process) statements() int { return p.store.Count() }

// eachSecond returns the most statements of any second of that time, in which all tokens are used
// again and again and nobody waits.
func (p *process) eachSecond(keys []credentials.Key, long time.Duration) (most int) {
	p.w.Helper()
	for end := time.Now().Add(long); time.Now().Before(end); {
		before := p.statements()
		time.Sleep(time.Second)
		synctest.Wait()
		most = max(most, p.statements()-before)
		if time.Until(end)%(20*time.Second) == 0 {
			if waited := p.askAll(keys, 1); waited > 0 {
				p.w.Errorf("a caller waited for %v", waited)
			}
		}
	}
	return most
}

// Cold callers share statements. Then the load of a process does not depend on the number of its
// tokens, and after an outage of the store the process is no herd.
func TestManyTokensCostFewStatements(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := w.crowd(5000)
		p := w.start("P")
		for _, m := range []testkit.Method{testkit.Get, testkit.GetAll, testkit.Versions} {
			p.store.Before(m, testkit.Delay(5*time.Millisecond))
		}
		p.askAll(keys, 200)
		if n := p.statements(); n > len(keys)/20 {
			w.Errorf("%d cold reads took %d statements, want one for 20 of them", len(keys), n)
		}
		steady := p.eachSecond(keys, 5*time.Minute)
		if steady < 1 || steady > 4 {
			w.Errorf("%d statements in a second, want between 1 and 4", steady)
		}
		p.store.Down(true)
		p.eachSecond(keys, time.Minute)
		p.store.Heal()
		if n := p.eachSecond(keys, 2*time.Minute); n > 2*steady {
			w.Errorf("%d statements in a second after an outage, %d before", n, steady)
		}
	})
}

// A token that nobody uses any more is not looked at. Its next caller waits for the look, and gets
// what stands in the row.
func TestUnusedTokenIsLookedAtWhenItIsUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.mustGet(alice)
		w.reaches(unused)
		costs := p.costs()
		w.reaches(2 * unused)
		costs(0)
		w.put(alice, credentials.Grant{AccessToken: secret("another's"), Lifetime: time.Hour})
		p.ask(alice).is("another's")
		w.reaches(4 * unused)
		w.delete(alice)
		p.ask(alice).fails(credentials.ErrNotFound)
	})
}

// A look that was under way when a token was turned down does not bring that token back.
func TestLookBringsNoInvalidatedTokenBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		q := w.start("Q") // whose failed exchange moves the row
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassTransient, Reason: "busy"})
		q.report(alice, q.mustGet(alice)).failed(credentials.ClassTransient)
		w.provider.script = nil
		pause := testkit.NewGate()
		p.store.After(testkit.Get, testkit.Once(pause.Wait)) // of the lookout, which found the row moved
		<-pause.Reached
		time.Sleep(5 * time.Second) // the back-off is over
		a := p.report(alice, turnedDown)
		synctest.Wait()
		pause.Open()
		b := p.ask(alice)
		a.is("access-alice-1")
		b.is("access-alice-1")
	})
}

// A put that seeds a new grant ends the old one's token, also while the new grant's exchange fails.
func TestReplacedGrantEndsItsToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		p.mustGet(alice)
		w.seed(alice)
		w.provider.authorized(alice, "another") // the new grant is dead
		time.Sleep(credentials.DefaultRecheck)
		p.ask(alice).fails(credentials.ErrGrantDead)
		p.ask(alice).fails(credentials.ErrGrantDead)
		w.presented(1)
	})
}

// Quiet traffic, and a provider that ends the old token when it issues the next one: a process that
// was not asked for a while looks before it serves, so that hardly a caller gets a token that has
// ended.
func TestQuietTrafficServesNoReplacedToken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Lifetime = 20 * time.Second
		processes := w.starts(6)
		var calls, dead int
		var oldest time.Duration
		for time.Since(w.began) < time.Hour {
			time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
			token := processes[rand.IntN(len(processes))].mustGet(alice).Value.Reveal()
			calls++
			since := w.provider.endedFor(token)
			if since > 0 {
				dead++
			}
			oldest = max(oldest, since)
		}
		w.Logf("%d of %d calls got a token that had ended, for %v at most", dead, calls, oldest)
		if dead*1000 > calls || oldest > time.Second/2 {
			w.Errorf("%d of %d calls got a token that had ended, for %v at most", dead, calls, oldest)
		}
	})
}

// endedFor returns how long ago the next token was issued.
func (p *provider) endedFor(token string) time.Duration {
	n, err := strconv.Atoi(token[strings.LastIndex(token, "-")+1:])
	if err != nil {
		panic(err)
	}
	calls := p.record()
	if len(calls) <= n || calls[n].Ended.IsZero() {
		return 0
	}
	return time.Since(calls[n].Ended)
}
