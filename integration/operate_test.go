package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// TestDisabled: two processes hold alice's token when an operator disables it. Both refuse their
// callers soon, and so does a process that starts afterwards; nothing is exchanged, until an
// operator enables the credential.
func TestDisabled(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		first := st.startService(setup{Name: "first", Recheck: time.Second})
		second := st.startService(setup{Name: "second", Recheck: time.Second})
		for _, p := range []serviceProcess{first, second} {
			p.ask(1)
			p.answers()
		}
		st.operates("Disable", st.store.Disable)
		third := st.startService(setup{Name: "third"})
		for _, p := range []serviceProcess{first, second, third} {
			p.isRefused()
		}
		st.called(1)
		st.operates("Enable", st.store.Enable)
		for _, p := range []serviceProcess{first, second, third} {
			p.ask(1)
			p.answers()
		}
	})
}

// TestDisabledDuringAnExchange: the exchange that is under way is saved, and a process that waits
// for it refuses its caller.
func TestDisabledDuringAnExchange(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		holder := st.startService(setup{Name: "holder", Hold: []step{saving}})
		waiter := st.startService(setup{Name: "waiter"})
		holder.asksUntil(saving)
		waiter.ask(1)
		waiter.reaches(polled)
		st.operates("Disable", st.store.Disable)
		equal(t, "the waiter is told that the credential is disabled", waiter.reaches(answered).Disabled, true)
		holder.goOn(saving)
		st.kept(holder.answers())
		waiter.isRefused()
		st.called(1)
	})
}

// TestEndLease: an operator ends the lease of a process that was killed, and whose lease has long
// to go. Others need not wait for its end, and give a living holder the grace.
func TestEndLease(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		holder := st.startService(setup{Name: "holder", Lease: credentials.MaxLease, Hold: []step{claimed}})
		waiter := st.startService(setup{Name: "waiter"}.brief())
		holder.asksUntil(claimed)
		waiter.ask(1)
		waiter.reaches(polled)
		holder.Kill()
		st.operates("EndLease", st.store.EndLease)
		equal(t, "Interrupted.By", st.row().Interrupted.By, "holder")
		st.kept(waiter.answers())
		st.called(1)
	})
}

// TestEndLeaseOfALivingHolder: the holder has the provider's answer when its lease is ended, and
// saves it all the same.
func TestEndLeaseOfALivingHolder(t *testing.T) {
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		holder := st.startService(setup{Name: "holder", Hold: []step{saving}})
		holder.asksUntil(saving)
		st.operates("EndLease", st.store.EndLease)
		holder.goOn(saving)
		st.kept(holder.answers())
		st.called(1)
	})
}

// operates has an operator change alice's credential.
func (st *stage) operates(name string, change func(context.Context, credentials.Change) error) {
	st.t.Helper()
	if err := change(bounded(st.t), credentials.Change{Key: alice, By: "ann@host"}); err != nil {
		st.t.Fatalf("%s: %v", name, err)
	}
}

// isRefused has callers ask until one is told that the credential is disabled.
func (p serviceProcess) isRefused() {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		p.ask(1)
		if a := p.reaches(answered); a.Disabled {
			return
		} else if a.Token == "" {
			p.t.Fatalf("a caller of the process %s got error %s", p.Name, a.Error)
		}
	}
	p.t.Fatalf("for %v, the process %s served a credential that is disabled", patience, p.Name)
}
