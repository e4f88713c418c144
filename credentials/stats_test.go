package credentials_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Stats has the figures of the callers' exchanges and of the keeper's, and how things stand.
func TestStats(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 5)
		w.seed(append(keys, alice, bob)...)
		p := w.start("P")
		a := p.begins(alice)
		p.begins(alice)
		if got, want := p.Stats(), (credentials.Stats{Calls: 1, Exchanging: 1, Cached: 1}); got != want {
			w.Errorf("during the exchange got %+v, want %+v", got, want)
		}
		a.is("access-alice-1")
		synctest.Wait()
		want := credentials.Stats{Renewed: 1, Waits: 2, WaitTime: 2 * w.provider.latency, Cached: 1}
		if got := p.Stats(); got != want {
			w.Errorf("after the exchange got %+v, want %+v", got, want)
		}
		if _, err := p.keeper.RunOnce(w.Context()); err != nil {
			w.Error(err)
		}
		want.Renewed = 7
		if got, kept := p.Stats(), p.keeper.Stats()["github"]; got != want || kept.Renewed != 6 {
			w.Errorf("after the keeper's pass got %+v, want %+v; the keeper has %+v", got, want, kept)
		}
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassTransient, Code: "busy"})
		time.Sleep(2 * time.Hour)
		p.ask(bob).failed(credentials.ClassTransient)
		if got := p.Stats(); got.Failed != 1 || got.Waits != 3 || got.Cached != 2 {
			w.Errorf("after a failure got %+v", got)
		}
	})
}

// Each exchange is a line of the log: its name, its outcome, why and how long. Many of a service
// with the same outcome are one line a second.
func TestExchangesAreLogged(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		keys := accounts("github", 100)
		w.seed(keys...)
		p := w.start("P")
		p.ask(alice).is("access-alice-1")
		want := `level=INFO msg="exchange saved" service=github credential=github/alice holder=P trigger=expired took=200ms`
		if !strings.Contains(w.logs.String(), want) {
			w.Errorf("the log has no line %s:\n%s", want, w.logs)
		}
		w.provider.script = refusing(credentials.RefreshError{Class: credentials.ClassTransient, Code: "busy"})
		for _, key := range keys {
			p.ask(key)
		}
		time.Sleep(10 * time.Second)
		failed := 0
		for line := range strings.Lines(w.logs.String()) {
			if strings.Contains(line, `"exchange failed"`) {
				failed++
				if !strings.Contains(line, "class=transient") {
					w.Errorf("the class is missing: %s", line)
				}
			}
		}
		if failed != 2 || !strings.Contains(w.logs.String(), "count=99") {
			w.Errorf("%d lines of failures, want 2:\n%s", failed, w.logs)
		}
	})
}
