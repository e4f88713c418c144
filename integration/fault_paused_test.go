//go:build unix

package integration_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// pausedAt has a process claim, stops it (SIGSTOP) at that step, and returns when its lease has ended.
func (st *stage) pausedAt(at step) *process {
	st.t.Helper()
	p := st.startProcess(setup{Name: "paused", Hold: []step{at}}.brief())
	p.asksUntil(at)
	p.signal(syscall.SIGSTOP)
	equal(st.t, "Lease.Holder of the row", st.row().Lease.Holder, "paused")
	st.leaseEnds()
	return p
}

// resume has it go on from there.
func (p *process) resume(at step) {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
	p.goOn(at)
}

// TestHolderPausedBeforeTheExchange: a process that was stopped between its claim and the exchange until its lease was
// over presents nothing under that claim. (That each presentation is made under a live lease is watched by the stage.)
func TestHolderPausedBeforeTheExchange(t *testing.T) {
	t.Parallel()
	for _, at := range []step{claimed, presenting} {
		t.Run("at "+string(at)+", another has claimed", func(t *testing.T) {
			onOneServer(t, func(t *testing.T, s *server) {
				st := newStage(t, s, provider.Options{})
				paused := st.pausedAt(at)
				want := granted(t, "the other process's caller", token(t, st.manager(st.store, credentials.Options{Holder: "other"})))
				paused.resume(at)
				a := paused.reaches(answered)
				equal(t, "the paused process's caller got the token of the row: error "+a.Error, a.Token, want)
				st.kept(want)
				equal(t, "Refreshed.By of the row", st.row().Refreshed.By, "other")
				st.called(1)
			})
		})
	}
	t.Run("nobody has claimed", func(t *testing.T) {
		onOneServer(t, func(t *testing.T, s *server) {
			st := newStage(t, s, provider.Options{})
			paused := st.pausedAt(claimed)
			paused.resume(claimed)
			paused.reaches(claimed) // it gave up that lease, and made a claim that lasts
			a := paused.reaches(answered)
			if a.Token == "" {
				t.Errorf("the paused process's caller got error %s", a.Error)
			}
			st.kept(a.Token)
			st.called(1)
		})
	})
}

// TestHolderPausedBeforeTheSave: a process is stopped between the provider's answer and the save until its lease is over.
// Its success is late, and kept unless the success of a later claim is stored.
func TestHolderPausedBeforeTheSave(t *testing.T) {
	t.Parallel()
	t.Run("nobody has claimed", func(t *testing.T) {
		onOneServer(t, func(t *testing.T, s *server) {
			st := newStage(t, s, provider.Options{})
			paused := st.pausedAt(saving)
			paused.resume(saving)
			a := paused.reaches(answered)
			if a.Token == "" {
				t.Errorf("the paused process's caller got error %s", a.Error)
			}
			st.kept(a.Token)
			equal(t, "Lease.ID of the row", st.row().Lease.ID, "")
			st.called(1)
		})
	})
	t.Run("a later claim is under way", func(t *testing.T) {
		onOneServer(t, func(t *testing.T, s *server) {
			st := newStage(t, s, provider.Options{})
			presented := st.hold(1)
			st.p.Enqueue(alice.Account, provider.Fault{}, provider.Fault{Kind: provider.ServerError})
			paused := st.pausedAt(saving)
			others := ask(bounded(t), st.manager(st.store, credentials.Options{Holder: "other"}), 2)
			for range 2 {
				receive(t, "the presentations", st.arrived)
			}
			paused.resume(saving)
			a := paused.reaches(answered)
			if a.Token == "" {
				t.Errorf("the paused process's caller got error %s", a.Error)
			}
			c := st.row()
			equal(t, "the token in the row", c.Token.Reveal(), a.Token)
			equal(t, "Lease.Holder of the row", c.Lease.Holder, "other")
			close(presented.open) // the later claim's exchange fails, and that covers nothing
			for range 2 {
				equal(t, "the later claim's callers got the token of the row", granted(t, "one", receive(t, "an answer", others)), a.Token)
			}
			st.kept(a.Token)
			equal(t, "Lease.ID of the row", st.row().Lease.ID, "")
			st.called(2)
		})
	})
	t.Run("a later claim's success is stored", func(t *testing.T) {
		onOneServer(t, func(t *testing.T, s *server) {
			st := newStage(t, s, provider.Options{Grace: time.Hour})
			paused := st.pausedAt(saving)
			want := granted(t, "the other process's caller", token(t, st.manager(st.store, credentials.Options{Holder: "other"})))
			paused.resume(saving)
			a := paused.reaches(answered)
			equal(t, "the paused process's caller got the token of the row: error "+a.Error, a.Token, want)
			st.kept(want)
			st.called(2)
		})
	})
}

// TestHolderPausedBeforeTheFailure: a late failure covers nothing.
func TestHolderPausedBeforeTheFailure(t *testing.T) {
	t.Parallel()
	t.Run("a later claim is under way", func(t *testing.T) {
		onOneServer(t, func(t *testing.T, s *server) {
			st := newStage(t, s, provider.Options{})
			presented := st.hold(1)
			st.p.Enqueue(alice.Account, provider.Fault{Kind: provider.ServerError})
			paused := st.pausedAt(failing)
			others := ask(bounded(t), st.manager(st.store, credentials.Options{Holder: "other"}), 2)
			for range 2 {
				receive(t, "the presentations", st.arrived)
			}
			paused.resume(failing)
			paused.reaches(polled) // it waits for the other one, as everybody does
			c := st.row()
			equal(t, "Lease.Holder of the row", c.Lease.Holder, "other")
			equal(t, "Failure.Count of the row", c.Failure.Count, 0)
			close(presented.open)
			a := paused.reaches(answered)
			for range 2 {
				equal(t, "the callers of the two processes got the same: error "+a.Error,
					granted(t, "one", receive(t, "an answer", others)), a.Token)
			}
			st.kept(a.Token)
			st.called(2)
		})
	})
	t.Run("a later claim's success is stored", func(t *testing.T) {
		onOneServer(t, func(t *testing.T, s *server) {
			st := newStage(t, s, provider.Options{})
			st.p.Enqueue(alice.Account, provider.Fault{Kind: provider.ServerError})
			paused := st.pausedAt(failing)
			want := granted(t, "the other process's caller", token(t, st.manager(st.store, credentials.Options{Holder: "other"})))
			paused.resume(failing)
			a := paused.reaches(answered)
			equal(t, "the paused process's caller got the token of the row: error "+a.Error, a.Token, want)
			st.kept(want)
			st.called(2)
		})
	})
}

// TestHolderPausedWhileTheGrantDiesAndIsRevived: a process is stopped before its save; the next claim is told that the
// grant is dead, and a person authorizes again. The late success belongs to the old grant and is dropped.
func TestHolderPausedWhileTheGrantDiesAndIsRevived(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		paused := st.pausedAt(saving)
		if a := token(t, st.manager(st.store, credentials.Options{Holder: "other"})); !errors.Is(a.err, credentials.ErrReauthRequired) {
			t.Fatalf("the other process's caller got error %v, want ErrReauthRequired", a.err)
		}
		st.authorize()
		paused.resume(saving)
		a := paused.reaches(answered)
		if a.Token == "" {
			t.Errorf("the paused process's caller got error %s", a.Error)
		}
		st.kept(a.Token)
		st.called(3)
	})
}
