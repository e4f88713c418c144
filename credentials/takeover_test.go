package credentials_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// A dead holder's lease is taken over when it has ended, and a process that comes later than that
// watches the row for the grace first. Under its claim, each waits for the grace once more.
func TestDeadHolderIsTakenOver(t *testing.T) {
	for name, test := range map[string]struct{ comes, most time.Duration }{
		"seen before its end": {time.Second, credentials.DefaultLease + grace},
		"seen after its end":  {credentials.DefaultLease + 10*time.Second, credentials.DefaultLease + 10*time.Second + 2*grace},
	} {
		inWorldOf(t, name, func(w *world) {
			w.seed(alice)
			w.dies("dead", alice, false)
			w.reaches(test.comes)
			var callers []*answer
			for _, p := range w.starts(3) {
				callers = append(callers, p.ask(alice))
			}
			all(callers).are("access-alice-1")
			w.within(test.most + w.provider.latency + 400*time.Millisecond)
			w.presentedOnce("dead")
		})
	}
}

// A process that was stopped, so that its looks at the row were silent for longer than the grace,
// does not take a lease over on what it saw before: it claims when it has watched the row anew, for
// the grace.
func TestNoTakeoverOnOldEvidence(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.dies("dead", alice, false)
		p := w.start("P")
		const silent, resumes = 20 * time.Second, 40 * time.Second
		for _, look := range []testkit.Method{testkit.Versions, testkit.ClaimAll} {
			p.store.Before(look, func(context.Context, *testkit.Call) error {
				if past := time.Since(w.began); past >= silent && past < resumes {
					time.Sleep(resumes - past)
				}
				return nil
			})
		}
		p.store.Before(testkit.Claim, func(context.Context, *testkit.Call) error {
			if past := time.Since(w.began); past < resumes+grace {
				w.Errorf("it claimed after %v; it was silent until %v", past, resumes)
			}
			return nil
		})
		p.ask(alice).is("access-alice-1")
		w.within(45*time.Second + 2*grace)
		w.presented(1)
	})
}

// A holder that is alone cut off from the store is taken over like a dead one: the others cannot
// tell. Where the provider accepts the refresh token again, the later result is what everybody
// gets, the late holder included.
func TestProcessAloneCutOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.Keep, w.provider.Lifetime = true, time.Hour
		holder, other := w.start("holder"), w.start("other")
		holder.store.Before(testkit.Save, holder.store.Dies)
		first := holder.ask(alice)
		w.reaches(time.Second)
		first.waits()
		other.ask(alice).is("access-alice-2")
		if calls := w.presented(2); calls[1].Interrupted != "holder" {
			w.Errorf("the second exchange knows of the interrupted holder %q", calls[1].Interrupted)
		}
		holder.store.Heal()
		time.Sleep(time.Second) // until the store is known to be back
		each(w.all).ask(alice).are("access-alice-2")
		w.stored(alice, "access-alice-2")
		w.presented(2)
	})
}

// abandons has a holder that is no more make a claim on each credential now.
func (w *world) abandons(keys ...credentials.Key) {
	w.Helper()
	for _, key := range keys {
		claim := credentials.Claim{ID: "dead" + key.Account, Holder: "died", Lease: credentials.DefaultLease}
		if c, err := w.db.Claim(w.Context(), key, claim); err != nil || c.Lease.ID != claim.ID {
			w.Fatalf("%s: lease %+v, error %v", key, c.Lease, err)
		}
	}
}

// grace is for how long its store has to answer a process before the process takes over what others
// left.
const grace = credentials.DefaultStoreTimeout + time.Second

// first returns when the first exchange of the key began, since the test did.
func (w *world) first(key credentials.Key) (at time.Duration, ok bool) {
	for _, c := range w.provider.record() {
		if c.Key == key {
			return c.Began.Sub(w.began), true
		}
	}
	return 0, false
}

// A batch takes a lease over when that ended a whole lease ago, and not before the process's own
// store has answered for the grace. Under the new lease it presents nothing for another grace, in
// which a living holder may still save.
func TestBatchTakesOverWhatEndedALeaseAgo(t *testing.T) {
	const ended = 2 * credentials.DefaultLease
	for _, test := range []struct {
		name     string
		away     [2]time.Duration // the store of the process that keeps is away from and until then
		min, max time.Duration
	}{
		{"the store answers", [2]time.Duration{}, ended + grace, ended + grace + 2*time.Second},
		{"the store was away", [2]time.Duration{40 * time.Second, 70 * time.Second}, 70*time.Second + 2*grace, 70*time.Second + 2*grace + 12*time.Second},
	} {
		inWorldOf(t, test.name, func(w *world) {
			w.seed(alice)
			w.abandons(alice)
			p := w.start("P")
			defer p.keeps()()
			if test.away[1] > 0 {
				w.reaches(test.away[0])
				p.store.Down(true)
				w.reaches(test.away[1])
				p.store.Down(false)
			}
			w.reaches(3 * time.Minute)
			if at, ok := w.first(alice); !ok || at < test.min || at > test.max {
				w.Errorf("taken over after %v (%t), want %v to %v", at, ok, test.min, test.max)
			}
			w.presented(1)
		})
	}
}

// A cron job is a process that has just started: it renews at once what bears no lease, and then
// takes over what a dead holder left. Where nothing is left it does not wait.
func TestRunOnceTakesOverWhatADeadHolderLeft(t *testing.T) {
	inWorld(t, func(w *world) {
		const start = 2*credentials.DefaultLease + time.Minute
		keys := accounts("github", 20)
		w.seed(keys...)
		w.abandons(keys[:3]...)
		w.seed(accounts("another", 2)...) // which it does not know
		w.reaches(start)
		p := w.start("P")
		kept, err := p.keeper.RunOnce(w.Context())
		if k := kept["github"]; err != nil || k.Renewed != len(keys) || !kept["another"].UnknownService {
			w.Errorf("got %+v, error %v", kept, err)
		}
		for i, key := range keys {
			at, ok := w.first(key)
			if early, late := start, start+time.Second; i >= 3 && (!ok || at < early || at > late) {
				w.Errorf("%s, free, was presented at %v, want at once", key, at-start)
			}
			if early, late := start+2*grace, start+2*grace+3*time.Second; i < 3 && (!ok || at < early || at > late) {
				w.Errorf("%s, left by a dead holder, was presented at %v, want %v", key, at-start, 2*grace)
			}
		}
		w.presented(len(keys))

		began := time.Now()
		w.seed(bob)
		if _, err := w.start("Q").keeper.RunOnce(w.Context()); err != nil || time.Since(began) > time.Second {
			w.Errorf("with a service left that it does not know it took %v, error %v", time.Since(began), err)
		}
	})
}

// A wait for the grace ends with the context, and with the manager.
func TestRunOnceLeavesItsWait(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.abandons(alice)
		w.reaches(2 * credentials.DefaultLease)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.start("P").keeper.RunOnce(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("got error %v", err)
		}
		q := w.start("Q")
		time.AfterFunc(time.Second, func() { _ = q.Close(w.Context()) })
		if _, err := q.keeper.RunOnce(w.Context()); !errors.Is(err, credentials.ErrClosed) {
			w.Errorf("closed: got error %v", err)
		}
		w.presented(0)
	})
}

// The leases of a batch whose reply was lost, in an outage longer than the lease, are the process's
// own: nothing was presented, so that nobody takes them for interrupted exchanges.
func TestKeepKnowsItsOwnUnusedClaims(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 12)
		w.seed(keys...)
		p := w.start("P", neverReplay)
		p.store.After(testkit.ClaimDue, testkit.Once(p.store.Dies))
		defer p.keeps()()
		w.reaches(3 * credentials.DefaultLease / 2)
		p.store.Down(false)
		w.reaches(3 * time.Minute)
		w.presented(len(keys))
		w.noneDead(keys)
	})
}
