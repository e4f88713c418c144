package integration_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// killing is the step at which a holder is killed, and its consequence.
type killing struct {
	name    string
	at      step
	options provider.Options
	fault   provider.Fault // that the first presentation meets
	replay  credentials.Replay
	code    string // of the waiters' error; empty: they get a token
	calls   int
}

var killings = []killing{
	{name: "after the claim", at: claimed, calls: 1},
	{name: "after the claim, never replay", at: claimed, replay: credentials.NeverReplay,
		code: "interrupted"},
	{name: "during the exchange, before it took effect", at: presenting,
		fault: provider.Fault{Kind: provider.Hang}, calls: 2},
	{name: "during the exchange, after it took effect", at: presenting,
		fault: provider.Fault{Kind: provider.Hang, Rotated: true}, code: "invalid_grant", calls: 2},
	{name: "before the save", at: saving, code: "invalid_grant", calls: 2},
	{name: "before the save, grace window", at: saving, options: provider.Options{Grace: time.Hour},
		calls: 2},
	{name: "before the save, provider that does not rotate", at: saving,
		options: provider.Options{KeepRefreshToken: true}, calls: 2},
	{name: "before the save, never replay", at: saving, replay: credentials.NeverReplay,
		code: "interrupted", calls: 1},
}

// TestHolderKilled sends SIGKILL to the process that holds the claim, while callers of another
// process wait for it. When its lease ends, and no earlier, the other process claims, and its
// callers get a token, or the error that names the interrupted holder.
func TestHolderKilled(t *testing.T) {
	t.Parallel()
	for _, test := range killings {
		t.Run(test.name, func(t *testing.T) {
			onOneServer(t, func(t *testing.T, s *server) {
				test.run(t, newStage(t, s, test.options))
			})
		})
	}
}

func (k killing) run(t *testing.T, st *stage) {
	if k.fault != (provider.Fault{}) {
		st.p.Enqueue(alice.Account, k.fault)
	}
	holder := st.startService(setup{Name: "holder", Replay: k.replay,
		Hold: []step{claimed, saving}}.brief())
	waiter := st.startService(setup{Name: "waiter", Replay: k.replay})
	const n = 3
	holder.asksUntil(claimed)
	waiter.ask(n)
	waiter.reaches(polled)
	if k.at != claimed {
		holder.goOn(claimed)
		receive(t, "the presentation", st.arrived)
		if k.at == saving {
			holder.reaches(saving)
		}
	}
	holder.Kill()
	before := time.Now()
	lease := st.row().Lease
	after := time.Now()
	if !lease.Live() || lease.Holder != "holder" {
		t.Fatalf("after the kill the lease is %+v; the test was too slow, or it is given up too soon", lease)
	}

	for range n {
		a := waiter.reaches(answered)
		if now := time.Now(); now.Before(before.Add(lease.EndsIn)) {
			t.Errorf("a waiter had an answer %v before the lease ended",
				before.Add(lease.EndsIn).Sub(now))
		} else if late := now.Sub(after.Add(lease.EndsIn)); late > 10*time.Second {
			t.Errorf("a waiter had its answer %v after the lease ended", late)
		}
		k.check(t, st, a, lease)
	}
	st.called(k.calls)
	if k.code != "" { // nobody presents it again, until a person has come
		waiter.ask(1)
		equal(t, "the next caller is told to authorize again", waiter.reaches(answered).Reauth,
			true)
		st.called(k.calls)
		st.authorize()
		waiter.ask(1)
		st.kept(waiter.answers())
	}
}

// check holds a waiter's answer against the expected one.
func (k killing) check(t *testing.T, st *stage, a event, lease credentials.Lease) {
	t.Helper()
	switch {
	case k.code == "":
		st.kept(a.Token)
	case !a.Reauth || a.Failed == nil || a.Failed.Code != k.code || a.Interrupted.By != "holder":
		t.Errorf("a waiter got %+v, want a dead grant with code %s, and the holder's name",
			a, k.code)
	case a.Interrupted.Ago < lease.Age || !strings.Contains(a.Error, "holder began"):
		t.Errorf("the interrupted claim was %v old at the kill, but the message is: %s",
			lease.Age, a.Error)
	}
}

// TestHolderKilledLongAgo: when the dead holder's lease has ended, the first caller waits as long
// as a living holder may need to save, and no longer.
func TestHolderKilledLongAgo(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		holder := st.startService(setup{Name: "holder", Hold: []step{claimed}}.brief())
		holder.asksUntil(claimed)
		holder.Kill()
		st.leaseEnds()
		w := &wire{}
		m := st.managerBehind(w, credentials.Options{StoreTimeout: time.Second})
		st.kept(granted(t, "the next caller", token(t, m)))
		equal(t, "it has watched the row", w.count(beginsVersions) > 1, true)
		st.called(1)
	})
}

// TestTerminated: a process that gets SIGTERM during its exchange, and calls Close, exits with
// status 0 when the provider's answer is stored.
func TestTerminated(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		presented := st.hold(0)
		p := st.startService(setup{Name: "terminated"})
		p.ask(2)
		receive(t, "the presentation", st.arrived)
		p.Signal(syscall.SIGTERM)
		p.reaches(closing)
		time.Sleep(200 * time.Millisecond) // one that does not wait ends within that
		equal(t, "the process ended during its exchange", p.HasEnded(), false)
		close(presented.open)
		p.Ends()
		c := st.row()
		equal(t, "Refreshed.By of the row", c.Refreshed.By, "terminated")
		equal(t, "Lease.ID of the row", c.Lease.ID, "")
		st.kept(c.AccessToken.Reveal())
		st.called(1)
	})
}

// pausedAt has a process claim, stops it (SIGSTOP) at that step, and returns when its lease has
// ended.
func (st *stage) pausedAt(at step) serviceProcess {
	st.t.Helper()
	p := st.startService(setup{Name: "paused", Hold: []step{at}}.brief())
	p.asksUntil(at)
	p.Signal(syscall.SIGSTOP)
	equal(st.t, "Lease.Holder of the row", st.row().Lease.Holder, "paused")
	st.leaseEnds()
	return p
}

// resume has it go on from there.
func (p serviceProcess) resume(at step) {
	p.t.Helper()
	p.Signal(syscall.SIGCONT)
	p.goOn(at)
}

// TestHolderPausedBeforeTheExchange: a process that was stopped between its claim and the exchange
// until its lease was over presents nothing under that claim. (The stage watches that each
// presentation is made under a live lease.)
func TestHolderPausedBeforeTheExchange(t *testing.T) {
	testPauses(t, []pause{
		{name: "at claimed, another has claimed", at: claimed, calls: 1, other: true,
			superseded: true},
		{name: "at presenting, another has claimed", at: presenting, calls: 1, other: true,
			superseded: true},
		// It gives up that lease, and makes a claim that lasts.
		{name: "nobody has claimed", at: claimed, calls: 1, again: true},
	})
}

// TestHolderPausedBeforeTheSave: a process is stopped between the provider's answer and the save
// until its lease is over. Its success is late, and kept unless the success of a later claim is
// stored.
func TestHolderPausedBeforeTheSave(t *testing.T) {
	testPauses(t, []pause{
		{name: "nobody has claimed", at: saving, calls: 1},
		// The later claim's exchange fails, and that covers nothing.
		{name: "a later claim is under way", at: saving, calls: 2, other: true, underWay: true,
			faults: []provider.Fault{{}, {Kind: provider.ServerError}}},
		{name: "a later claim's success is stored", at: saving, calls: 2, other: true,
			superseded: true,
			options:    provider.Options{Grace: time.Hour}},
	})
}

// TestHolderPausedBeforeTheFailure: a late failure covers nothing.
func TestHolderPausedBeforeTheFailure(t *testing.T) {
	faults := []provider.Fault{{Kind: provider.ServerError}}
	testPauses(t, []pause{
		{name: "a later claim is under way", at: failing, calls: 2, other: true, underWay: true,
			faults: faults},
		{name: "a later claim's success is stored", at: failing, calls: 2, other: true,
			superseded: true, faults: faults},
	})
}

// pause is the step at which a holder is paused until its lease has ended, and the consequence.
type pause struct {
	name    string
	at      step
	options provider.Options
	faults  []provider.Fault
	calls   int

	other      bool // another process claims meanwhile
	underWay   bool // and its exchange is still under way when the first goes on
	superseded bool // the paused one's callers get the other's token
	again      bool // the paused one makes another claim
}

func testPauses(t *testing.T, pauses []pause) {
	t.Parallel()
	for _, test := range pauses {
		t.Run(test.name, func(t *testing.T) {
			onOneServer(t, func(t *testing.T, s *server) {
				test.run(t, newStage(t, s, test.options))
			})
		})
	}
}

func (p pause) run(t *testing.T, st *stage) {
	st.p.Enqueue(alice.Account, p.faults...)
	presented := st.hold(1)
	if !p.underWay {
		close(presented.open)
	}
	paused := st.pausedAt(p.at)
	var want string
	var others <-chan got
	if p.other {
		other := st.manager(st.store, credentials.Options{Holder: "other"})
		if p.underWay {
			others = ask(bounded(t), other, 2)
			receive(t, "the paused one's presentation", st.arrived)
			receive(t, "the other's presentation", st.arrived)
		} else {
			want = granted(t, "the other process's caller", token(t, other))
		}
	}
	paused.resume(p.at)
	if p.again {
		paused.reaches(claimed)
	}
	switch {
	case p.underWay && p.at == saving: // stored, under the later claim's lease
		want = paused.answers()
		equal(t, "the token in the row", st.row().AccessToken.Reveal(), want)
		equal(t, "Lease.Holder of the row", st.row().Lease.Holder, "other")
		close(presented.open)
	case p.underWay: // the paused one waits for the other, as everybody does
		paused.reaches(polled)
		equal(t, "Lease.Holder of the row", st.row().Lease.Holder, "other")
		equal(t, "Failure.Count of the row", st.row().Failure.Count, 0)
		close(presented.open)
		want = paused.answers()
	case p.superseded:
		equal(t, "the paused process's caller's token", paused.answers(), want)
		equal(t, "Refreshed.By of the row", st.row().Refreshed.By, "other")
	default:
		want = paused.answers()
	}
	if p.underWay {
		for range 2 {
			equal(t, "the token of the other's callers",
				granted(t, "one", receive(t, "an answer", others)), want)
		}
	}
	st.kept(want)
	equal(t, "Lease.ID of the row", st.row().Lease.ID, "")
	st.called(p.calls)
}

// TestHolderPausedWhileTheGrantDiesAndIsRevived: a process is stopped before its save; the next
// claim is told that the grant is dead, and a person authorizes again. The late success belongs to
// the old grant and is dropped.
func TestHolderPausedWhileTheGrantDiesAndIsRevived(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		paused := st.pausedAt(saving)
		a := token(t, st.manager(st.store, credentials.Options{Holder: "other"}))
		failsAs(t, "the other process's caller", a.err, credentials.ErrGrantDead)
		st.authorize()
		paused.resume(saving)
		st.kept(paused.answers())
		st.called(3)
	})
}
