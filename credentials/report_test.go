package credentials_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// A report does not wait. From then on nobody gets the token that was turned down, and however
// often the token is reported, one exchange follows.
func TestReport(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p, q := w.start("P"), w.start("Q")
		turnedDown := p.mustGet(alice)
		began := time.Now()
		for range 100 {
			p.Report(w.Context(), alice, turnedDown)
			q.Report(w.Context(), alice, turnedDown)
		}
		if took := time.Since(began); took != 0 {
			w.Errorf("the reports took %v", took)
		}
		p.ask(alice).is("access-alice-1")
		q.ask(alice).is("access-alice-1")
		p.Report(w.Context(), alice, turnedDown) // by somebody who was slow
		p.Report(w.Context(), alice, credentials.Token{})
		p.Report(w.Context(), credentials.Key{}, turnedDown)
		synctest.Wait()
		p.ask(alice).within(0)
		w.presented(1)
	})
}

// A report whose exchange fails leaves callers what they had; the next report is a new one.
func TestReportThatFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p := w.start("P")
		turnedDown := p.mustGet(alice)
		p.store.Down(true)
		p.Report(w.Context(), alice, turnedDown)
		synctest.Wait()
		p.ask(alice).is("put-alice")
		p.store.Down(false)
		time.Sleep(time.Second) // until the store is known to be back
		p.Report(w.Context(), alice, turnedDown)
		p.ask(alice).is("access-alice-1")
		w.presented(1)
	})
}

// Close waits for the exchange of a report, and a report that comes later costs nobody the token.
func TestReportAndClose(t *testing.T) {
	inWorld(t, func(w *world) {
		w.anHour(alice)
		p, q := w.start("P"), w.start("Q")
		turnedDown := p.mustGet(alice)
		q.mustGet(alice)
		p.Report(w.Context(), alice, turnedDown)
		w.reaches(w.provider.latency / 2)
		if err := p.Close(w.Context()); err != nil {
			w.Error(err)
		}
		w.presented(1)
		if err := q.Close(w.Context()); err != nil {
			w.Error(err)
		}
		q.Report(w.Context(), alice, turnedDown)
		q.ask(alice).is("put-alice")
	})
}
