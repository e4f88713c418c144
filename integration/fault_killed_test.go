//go:build unix

package integration_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// TestHolderKilled sends SIGKILL to the process that holds the claim, while callers of another process wait for it. When
// its lease ends, and no earlier, the other process claims, and its callers get a token, or the error that says whose
// exchange was interrupted.
func TestHolderKilled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		at      step // where it is killed
		options provider.Options
		fault   provider.Fault // that the first presentation meets
		replay  credentials.Replay
		code    string // of the waiters' error; empty: they get a token
		calls   int
	}{
		{name: "after the claim", at: claimed, calls: 1},
		{name: "after the claim, never replay", at: claimed, replay: credentials.NeverReplay, code: "interrupted"},
		{name: "during the exchange, before it took effect", at: presenting, fault: provider.Fault{Kind: provider.Hang}, calls: 2},
		{name: "during the exchange, after it took effect", at: presenting, fault: provider.Fault{Kind: provider.Hang, Rotated: true},
			code: "invalid_grant", calls: 2},
		{name: "before the save", at: saving, code: "invalid_grant", calls: 2},
		{name: "before the save, grace window", at: saving, options: provider.Options{Grace: time.Hour}, calls: 2},
		{name: "before the save, provider that does not rotate", at: saving, options: provider.Options{KeepRefreshToken: true}, calls: 2},
		{name: "before the save, never replay", at: saving, replay: credentials.NeverReplay, code: "interrupted", calls: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			onOneServer(t, func(t *testing.T, s *server) {
				st := newStage(t, s, test.options)
				if test.fault != (provider.Fault{}) {
					st.p.Enqueue(alice.Account, test.fault)
				}
				holder := st.startProcess(setup{Name: "holder", Replay: test.replay, Hold: []step{claimed, saving}}.brief())
				waiter := st.startProcess(setup{Name: "waiter", Replay: test.replay})
				const n = 3
				holder.asksUntil(claimed)
				waiter.ask(n)
				waiter.reaches(polled)
				if test.at != claimed {
					holder.goOn(claimed)
					receive(t, "the presentation", st.arrived)
					if test.at == saving {
						holder.reaches(saving)
					}
				}
				holder.kill()
				before := time.Now()
				lease := st.row().Lease
				after := time.Now()
				if !lease.Live() || lease.Holder != "holder" {
					t.Fatalf("after the kill the lease is %+v; the test was too slow, or it is given up too soon", lease)
				}

				for range n {
					a := waiter.reaches(answered)
					if now := time.Now(); now.Before(before.Add(lease.EndsIn)) {
						t.Errorf("a waiter had an answer %v before the lease ended", before.Add(lease.EndsIn).Sub(now))
					} else if late := now.Sub(after.Add(lease.EndsIn)); late > 10*time.Second {
						t.Errorf("a waiter had its answer %v after the lease ended", late)
					}
					if test.code == "" {
						st.kept(a.Token)
						continue
					}
					if !a.Reauth || a.Failed == nil || a.Failed.Code != test.code || a.Interrupted.By != "holder" {
						t.Errorf("a waiter got %+v, want a rejection with code %s that names the holder", a, test.code)
					} else if a.Interrupted.Ago < lease.Age || !strings.Contains(a.Error, "holder began") {
						t.Errorf("the interrupted claim was %v old at the kill, but the message is: %s", lease.Age, a.Error)
					}
				}
				st.called(test.calls)
				if test.code != "" { // nobody presents it again, until a person has come
					waiter.ask(1)
					equal(t, "the next caller is told to authorize again", waiter.reaches(answered).Reauth, true)
					st.called(test.calls)
					st.authorize()
					waiter.ask(1)
					st.kept(waiter.reaches(answered).Token)
				}
			})
		})
	}
}

// TestHolderKilledLongAgo: when the dead holder's lease has ended, the first caller claims at once and waits for nothing.
func TestHolderKilledLongAgo(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		holder := st.startProcess(setup{Name: "holder", Hold: []step{claimed}}.brief())
		holder.asksUntil(claimed)
		holder.kill()
		st.leaseEnds()
		w := &wire{}
		m := st.manager(newStore(t, s.openWire(t, st.database, "", w)), credentials.Options{})
		st.kept(granted(t, "the next caller", token(t, m)))
		equal(t, "looks at the row while waiting", w.count(beginsVersions), 0)
		st.called(1)
	})
}

// TestTerminated: a process that gets SIGTERM during its exchange, and calls Close, exits with status 0 when the
// provider's answer is stored.
func TestTerminated(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		presented := st.hold(0)
		p := st.startProcess(setup{Name: "terminated"})
		p.ask(2)
		receive(t, "the presentation", st.arrived)
		p.signal(syscall.SIGTERM)
		p.reaches(closing)
		select {
		case err := <-p.exited:
			t.Fatalf("the process ended during its exchange: %v", err)
		case <-time.After(200 * time.Millisecond): // one that does not wait ends within that
		}
		close(presented.open)
		if err := receive(t, "the process to end", p.exited); err != nil {
			t.Errorf("the process: %v", err)
		}
		c := st.row()
		equal(t, "Refreshed.By of the row", c.Refreshed.By, "terminated")
		equal(t, "Lease.ID of the row", c.Lease.ID, "")
		st.kept(c.Token.Reveal())
		st.called(1)
	})
}
