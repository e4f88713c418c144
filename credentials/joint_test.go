package credentials_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// seeds are that many credentials without access token.
func (w *world) seeds(n int) []credentials.Key {
	w.Helper()
	keys := w.crowd(n)
	w.seed(keys...)
	return keys
}

// askEach has a caller ask for each of the keys at the same moment.
func (p *process) askEach(keys []credentials.Key) (all answers) {
	for _, key := range keys {
		all = append(all, p.ask(key))
	}
	return all
}

// Claims that are made at the same moment share a call: the first is made alone, and the rest
// together. Each credential is exchanged once, in one of the processes.
func TestClaimsJoin(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := w.seeds(20)
		processes := w.starts(3)
		var all answers
		for _, p := range processes {
			for _, m := range []testkit.Method{testkit.Get, testkit.GetAll, testkit.Claim, testkit.ClaimAll} {
				p.store.Before(m, testkit.Delay(time.Millisecond))
			}
			all = append(all, p.askEach(keys)...)
		}
		for _, a := range all {
			a.mustGet()
			a.within(2*w.provider.latency + aLook)
		}
		w.presented(len(keys))
		for _, p := range processes {
			claims := p.store.Count(testkit.Claim) + p.store.Count(testkit.ClaimAll)
			if claims > 4 {
				w.Errorf("process %s made %d claims, want 2 or a few more", p.name, claims)
			}
		}
	})
}

// A row that somebody has locked is passed over by a claim of many, and is claimed alone in the
// end. The others do not wait for it.
func TestLockedRowIsPassedOver(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := w.seeds(5)
		locked := keys[3]
		p := w.start("P")
		p.store.Before(testkit.Claim, testkit.Delay(time.Millisecond))
		p.store.Through(testkit.StoreFunc(func(ctx context.Context, call *testkit.Call) error {
			if call.Method != testkit.ClaimAll {
				return call.Do(ctx, w.db)
			}
			for _, key := range call.Keys {
				found := credentials.Found{Err: credentials.ErrRowLocked}
				if key != locked {
					found.Credential, found.Err = w.db.Claim(ctx, key, call.Claim)
				}
				call.Found = append(call.Found, found)
			}
			return nil
		}))
		p.store.Before(testkit.Claim, func(ctx context.Context, call *testkit.Call) error {
			if call.Key != locked {
				return nil
			}
			time.Sleep(2 * time.Second)
			return nil
		})
		all := p.askEach(keys)
		for i, a := range all {
			if keys[i] != locked {
				a.mustGet()
				a.within(w.provider.latency + 100*time.Millisecond)
			}
		}
		all[3].mustGet()
		all[3].within(3 * time.Second)
		w.presented(len(keys))
	})
}

// The reply to a claim of many is lost: the process finds all of its leases again, and gives up
// those that nobody wants.
func TestLostReplyOfClaimOfMany(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := w.seeds(5)
		p := w.start("P", neverReplay)
		p.store.Before(testkit.Claim, testkit.Delay(time.Millisecond))
		p.store.After(testkit.ClaimAll, testkit.Once(testkit.Refuse))
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		for _, key := range keys {
			go func() { _, _ = p.Token(ctx, key) }()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, key := range keys {
			w.clean(key)
		}
		for _, a := range p.askEach(keys) {
			a.mustGet()
		}
		w.presented(len(keys))
	})
}
