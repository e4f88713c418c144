package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// paced fails the test if in any stretch of time more exchanges begin than the rate and a tenth of
// a second's burst allow.
func (w *world) paced(calls []presentation, rate float64) {
	w.Helper()
	burst := max(1, rate/10)
	for i, from := range calls {
		for j := i; j < min(i+200, len(calls)); j++ {
			within := calls[j].Began.Sub(from.Began)
			if n, most := float64(j-i+1), burst+rate*within.Seconds()+0.01; n > most {
				w.Fatalf("%v exchanges begin within %v, want at most %.2f", n, within, most)
			}
		}
	}
}

func TestKeepRate(t *testing.T) {
	for _, rate := range []float64{0.02, 0.5, 3, 40} {
		inWorldOf(t, fmt.Sprint(rate), func(w *world) {
			w.seed(accounts("github", 400)...)
			defer w.start("P", func(s *setup) { s.service.KeepRate = rate }).keeps()()
			w.reaches(2 * time.Minute)
			calls := w.provider.record()
			if want := min(120*rate, 400); float64(len(calls)) < want-rate-2 {
				w.Errorf("got %d exchanges in 2 minutes, want about %g", len(calls), want)
			}
			w.paced(calls, rate)
		})
	}
}

// A claim that takes long saves up no slots: when it returns, KeepRate still holds.
func TestKeepRateAfterASlowClaim(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 400)...)
		p := w.start("P", func(s *setup) { s.service.KeepRate = 20 })
		p.store.After(testkit.ClaimDue, testkit.Once(testkit.Delay(4*time.Second)))
		defer p.keeps()()
		w.reaches(30 * time.Second)
		w.paced(w.provider.record(), 20)
	})
}

// No claim waits for its slot: of a keeper that is killed, nobody takes for interrupted what it has
// not presented.
func TestKeepRateHoldsNoClaimBack(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := accounts("github", 40)
		w.seed(keys...)
		p := w.start("P", neverReplay, func(s *setup) { s.service.KeepRate = 8 })
		stop := p.keeps()
		w.reaches(1550 * time.Millisecond)
		p.store.Down(true)
		stop()
		presented := make(map[credentials.Key]bool)
		for _, c := range w.provider.record() {
			presented[c.Key] = true
		}
		defer w.start("Q", neverReplay).keeps()()
		w.reaches(5 * time.Minute)
		ended, spared := 0, 0
		for _, key := range keys {
			switch c := w.row(key); {
			case c.State(credentials.Claim{}) != credentials.StateDead:
				spared++
			case !presented[key]:
				ended++
			}
		}
		if ended != 0 || spared < 20 {
			w.Errorf("%d grants were given up though nothing was presented, %d of %d live", ended, spared, len(keys))
		}
	})
}

// Failures of many credentials are a line a second, which counts them; none is left out.
func TestKeeperLogsALineASecond(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 1500)...)
		w.provider.latency = 0
		w.provider.script = busy(0)
		p := w.start("P", func(s *setup) { s.service.KeepParallel = 1000 })
		p.keeps()
		w.reaches(30 * time.Second)
		p.mustClose()
		lines, sum := 0, 0
		for line := range strings.Lines(w.logs.String()) {
			if !strings.Contains(line, "keeper: renewal failed") {
				continue
			}
			n := 1
			if _, count, ok := strings.Cut(line, "count="); ok {
				_, _ = fmt.Sscan(count, &n)
			}
			lines, sum = lines+1, sum+n
		}
		if k := p.keeper.Stats()["github"]; lines > 31 || sum != k.Failed || sum < 1000 {
			w.Errorf("%d lines about %d failures, of %d", lines, sum, k.Failed)
		}
	})
}

// startServing starts a process that knows every service, and seeds accounts of that many.
func (w *world) startServing(services, each int) *process {
	w.Helper()
	for i := range services {
		w.seed(accounts(fmt.Sprintf("service-%03d", i), each)...)
	}
	return w.start("P", finding(func(context.Context, string) (credentials.Service, error) {
		return credentials.Service{Refresher: w.provider, Replay: credentials.NeverReplay}, nil
	}))
}

// However many services there are, the keeper makes four calls of the store at a time beside the
// look at what is due: for batches, and for the search for those in doubt.
func TestKeepBoundsItsCallsOfTheStore(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.startServing(100, 2)
		var calls, most atomic.Int32
		lost := testkit.RefuseUntil(w.began.Add(10 * time.Second))
		counted := func(ctx context.Context, call *testkit.Call) error {
			most.Store(max(most.Load(), calls.Add(1)))
			defer calls.Add(-1)
			time.Sleep(time.Second)
			return lost(ctx, call)
		}
		p.store.After(testkit.ClaimDue, counted)
		p.store.Before(testkit.FindClaims, counted)
		defer p.keeps()()
		w.reaches(5 * time.Minute)
		if n := most.Load(); n > 4 {
			w.Errorf("%d calls of the store at the same time", n)
		}
		w.presented(200)
	})
}

// Close waits for no batch that has not begun, and not for long for those in doubt, though the
// store hangs.
func TestCloseWhileTheKeepersStoreHangs(t *testing.T) {
	for _, test := range []struct {
		name     string
		services int
		hangs    testkit.Method // from this one on
	}{
		{"100 services, before a batch", 100, testkit.ClaimDue},
		{"100 services, batches in doubt", 100, testkit.FindClaims},
		{"1 service, before a batch", 1, testkit.ClaimDue},
		{"1 service, a batch in doubt", 1, testkit.FindClaims},
	} {
		inWorldOf(t, test.name, func(w *world) {
			p := w.startServing(test.services, 1)
			var hangs atomic.Bool
			hung := func(ctx context.Context, call *testkit.Call) error {
				if hangs.Load() {
					return testkit.Hang(ctx, call)
				}
				return nil
			}
			for _, method := range everyMethod {
				p.store.Before(method, hung)
			}
			begin := testkit.Chain(testkit.Func(func() { hangs.Store(true) }), testkit.Hang)
			if test.hangs == testkit.ClaimDue {
				p.store.Before(testkit.ClaimDue, begin)
			} else {
				p.store.After(testkit.ClaimDue, begin)
			}
			ended := make(chan error, 1)
			go func() { ended <- p.keeper.Run(context.Background()) }()
			w.reaches(6 * time.Second)
			began := time.Now()
			p.mustClose()
			took := time.Since(began)
			w.Logf("Close took %v", took)
			if took > 15*time.Second {
				w.Errorf("Close took %v", took)
			}
			if err := <-ended; !errors.Is(err, credentials.ErrClosed) {
				w.Errorf("Run returned %v", err)
			}
		})
	}
}
