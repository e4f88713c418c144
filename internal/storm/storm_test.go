package storm_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
)

func TestStormNeedsOneExchangeForEachAccountAndRound(t *testing.T) {
	for name, change := range map[string]func(*storm.Config){
		"defaults":           func(*storm.Config) {},
		"one connection":     func(c *storm.Config) { c.Pool = 1 },
		"rounds and threads": func(c *storm.Config) { c.Rounds, c.Threads, c.Accounts = 3, 8, 5 },
		"one of everything": func(c *storm.Config) {
			c.Processes, c.Threads, c.Accounts, c.Pool = 1, 1, 1, 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(database(t), "")
			cfg.Latency = 500 * time.Millisecond // Exchanges overlap on a slow machine too.
			change(&cfg)
			r := run(t, cfg)
			if !r.OK || len(r.Violations) > 0 {
				t.Fatalf("violations: %q", r.Violations)
			}
			want := r.Accounts * r.Rounds
			if r.Refreshes.Needed != want || r.Refreshes.Calls != want || r.Refreshes.Duplicates != 0 {
				t.Errorf("refreshes = %+v, want %d needed and called", r.Refreshes, want)
			}
			if want *= r.Processes * r.Threads; r.Callers != want || r.CallersOK != want {
				t.Errorf("%d callers, %d ok; want %d", r.Callers, r.CallersOK, want)
			}
			if r.Refreshes.MaxParallelAccounts < min(2, r.Accounts) {
				t.Errorf("the exchanges of %d accounts did not overlap", r.Accounts)
			}
			l := r.LatencyMS
			if l.P50 < 500 || l.P99 < l.P50 || l.Max < l.P99 {
				t.Errorf("latencies = %+v, with an endpoint that takes 500 ms", l)
			}
			if len(r.PerAccount) != r.Accounts || r.PerAccount[0].Calls != r.Rounds {
				t.Errorf("per account: %+v", r.PerAccount)
			}
		})
	}
}

func TestStormReportsViolations(t *testing.T) {
	overLifetimes := func(c *storm.Config) {
		c.Processes, c.Lifetimes, c.Lifetime, c.Latency = 2, 1, 2*time.Second, 20*time.Millisecond
	}
	for _, test := range []struct {
		fault  string
		change func(*storm.Config) // Nil for the defaults.
		want   []string
	}{
		{"dies", nil, []string{
			"worker 1 ended unexpectedly: exit status 3: out of luck", "24 of 24 callers got no token",
		}},
		{"talks nonsense", nil, []string{
			"worker 1 ended unexpectedly", "does its main call worker.Run?",
		}},
		{"calls twice", nil, []string{"the endpoint got 4 calls where 3 were needed"}},
		{"foreign token", nil, []string{
			"callers got a token of account-1 that is not the one in its row",
		}},
		{"holds a connection", nil, []string{"a call held 1 connections during its exchange"}},
		{"cannot tell", nil, []string{"could not be told whether an exchange held a connection"}},
		{"dies", overLifetimes, []string{
			"worker 1 ended unexpectedly: exit status 3: out of luck",
		}},
		{"calls twice", overLifetimes, []string{
			"exchanges too many", "1 calls of the endpoint brought no token",
		}},
		{"holds a connection", overLifetimes, []string{
			"a call held 1 connections during its exchange",
		}},
	} {
		t.Run(test.fault, func(t *testing.T) {
			cfg := config(database(t), test.fault)
			if test.change != nil {
				test.change(&cfg)
			}
			r := run(t, cfg)
			if r.OK {
				t.Error("OK = true")
			}
			got := strings.Join(r.Violations, "\n")
			for _, text := range test.want {
				if !strings.Contains(got, text) {
					t.Errorf("violations:\n%s\nwant %q among them", got, text)
				}
			}
		})
	}
}

func TestNoWorkerOutlivesTheStorm(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	cfg := config(database(t), "lingers")
	cfg.Processes = 1
	cfg.Command = append(cfg.Command, listener.Addr().String())
	run(t, cfg)
	conn, err := listener.Accept()
	must(t, err)
	// The worker's end of the connection closes with its process, and only then.
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the worker lives on")
	}
}

func TestStormEndsWithItsContext(t *testing.T) {
	cfg := config(database(t), "")
	cfg.Latency = time.Hour // Nothing but the end of the context ends the storm.
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg.Progress = func(doing string) {
		if strings.HasPrefix(doing, "round 1") {
			cancel(stop)
		}
	}
	if _, err := storm.Run(ctx, cfg); !errors.Is(err, stop) {
		t.Errorf("Run = %v, want the context's cause", err)
	}
	wantNoRows(t, cfg.DSN)
}

func TestStormIsBoundedInTime(t *testing.T) {
	cfg := config(database(t), "")
	cfg.Latency, cfg.Timeout = time.Hour, time.Second
	if _, err := storm.Run(t.Context(), cfg); !errors.Is(err, storm.ErrTimeout) {
		t.Errorf("Run = %v, want ErrTimeout", err)
	}
}
