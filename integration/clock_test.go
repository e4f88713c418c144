package integration_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// dates finds what could be a time by a host's wall clock in a statement's text: a date, or
// seconds, milliseconds, microseconds or nanoseconds since 1970, until 2033.
var dates = regexp.MustCompile(`\d{4}-\d\d-\d\d|\b1[789]\d{8}(\d{3}|\d{6}|\d{9})?\b`)

// TestNoHostSendsItsClock (invariant 12): whatever the wall clocks of hosts say cannot matter,
// since no statement has such a time in it, and what comes back are durations. Connections with
// other time zones agree with each other. The server's clock is ten years ahead of ours, so that
// what it showed itself is told from a time of ours.
func TestNoHostSendsItsClock(t *testing.T) {
	ahead := fmt.Sprint("timestamp=", time.Now().AddDate(10, 0, 0).Unix())
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		st.store = newStore(t, s.open(t, st.database, interpolated+"&"+ahead))
		var waiters []<-chan got
		presented := st.hold(0)
		wires := make([]*wire, 3)
		for i, zone := range []string{"%27%2B13:00%27&loc=Local&parseTime=true", "%27-12:00%27", "%27%2B00:00%27"} {
			wires[i] = &wire{}
			m := st.manager(newStore(t, s.openWire(t, st.database, ahead+"&time_zone="+zone,
				wires[i])), credentials.Options{})
			waiters = append(waiters, ask(bounded(t), m, 2))
			if i == 0 {
				receive(t, "the presentation", st.arrived)
			} else {
				pollsOf(t, wires[i], 1)
			}
		}
		equal(t, "the lease ends in 30 s", st.row().Lease.EndsIn > 0 &&
			st.row().Lease.EndsIn <= credentials.DefaultLease, true)
		close(presented.open)
		for _, answers := range waiters {
			for range 2 {
				a := receive(t, "an answer", answers)
				st.kept(granted(t, "a caller", a))
				if left := time.Until(a.token.Expiry); left > time.Hour ||
					left < time.Hour-time.Minute {
					t.Errorf("Expiry: got %v from now, want an hour", left)
				}
			}
		}
		st.called(1)

		w := &wire{}
		everything(t, newStore(t, s.openWire(t, st.database, ahead, w)))
		for _, w := range append(wires, w) {
			for _, statement := range w.statements() {
				for _, found := range dates.FindAllString(statement, -1) {
					if found != "1970-01-01" { // the sentinel of no lease
						t.Errorf("a statement has the time %s in it: %s", found, statement)
					}
				}
			}
		}
	})
}

// TestDatabaseClockJumps: to one process the database's clock is an hour ahead, as it is to all
// after a jump. The lease of the exchange that is under way seems to have ended, and there are two
// claims. The harm ends there; nothing that was granted is lost.
func TestDatabaseClockJumps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault provider.Kind // that the second claim meets
	}{
		{"the later claim succeeds", ""},
		{"the later claim fails", provider.InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				st := newStage(t, s, provider.Options{Grace: time.Hour, Lifetime: 24 * time.Hour})
				st.p.Enqueue(alice.Account, provider.Fault{}, provider.Fault{Kind: test.fault})
				earlier, later := st.hold(0), st.hold(1)
				first := ask(bounded(t),
					st.manager(st.store, credentials.Options{Holder: "earlier"}), 2)
				receive(t, "the presentation", st.arrived)

				ahead := fmt.Sprint("timestamp=", time.Now().Add(time.Hour).Unix())
				jumped := newStore(t, s.open(t, st.database, interpolated+"&"+ahead))
				second := ask(bounded(t), st.manager(jumped, credentials.Options{Holder: "later"}),
					2)
				receive(t, "the other presentation", st.arrived)
				close(earlier.open)
				var token string
				for range 2 {
					token = granted(t, "a caller of the earlier claim",
						receive(t, "an answer", first))
				}
				equal(t, "the token in the row", st.row().AccessToken.Reveal(), token)
				equal(t, "Lease.Holder of the row", st.row().Lease.Holder, "later")
				close(later.open)
				for range 2 {
					got := granted(t, "a caller of the later claim",
						receive(t, "an answer", second))
					if test.fault == "" {
						token = got
					}
					equal(t, "the token of the later claim's callers", got, token)
				}
				st.kept(token)
				st.called(2)
				equal(t, "presentations at once", st.p.Stats().MaxParallelPerAccount, 2)
			})
		})
	}
}
