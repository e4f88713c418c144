package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// reporterWork is the work of a process of the role "reporter": when the next order comes, its
// callers use alice's token for that long, which an API turns down each time.
type reporterWork struct {
	DSN, TokenURL      string
	Callers            int
	MinTokenAge, Lasts time.Duration
}

// reporterSays are its figures, which it says when it is ready and at the end.
type reporterSays struct {
	Requests, Refused int64
	Untold            string // an error of another kind than that the token is too young
}

// reportOn is the role of the reporter.
func reportOn(orders *json.Decoder, says *json.Encoder) error {
	var w reporterWork
	if err := orders.Decode(&w); err != nil {
		return err
	}
	db, err := openDSN(w.DSN, 4)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	store, err := latchkey.NewStore(db, nil)
	if err != nil {
		return err
	}
	service := credentials.Service{Refresher: refresherAt(w.TokenURL), MinTokenAge: w.MinTokenAge}
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: service}, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(says.Encode(reporterSays{}), orders.Decode(new(bool))); err != nil {
		return err
	}
	var callers sync.WaitGroup
	var requests, refused atomic.Int64
	var untold atomic.Pointer[string]
	for range w.Callers {
		callers.Go(func() {
			ctx := context.Background()
			for began := time.Now(); time.Since(began) < w.Lasts; {
				token, err := m.Token(ctx, alice)
				for err == nil && time.Since(began) < w.Lasts {
					requests.Add(1)
					time.Sleep(5 * time.Millisecond) // the API takes it, and answers 401
					token, err = m.Invalidate(ctx, alice, token)
				}
				var failed *credentials.RefreshError
				switch {
				case errors.As(err, &failed) && failed.Code == "too_young" && time.Until(failed.RetryAt) < w.MinTokenAge:
					refused.Add(1)
				case err != nil:
					text := err.Error()
					untold.Store(&text)
				}
			}
		})
	}
	callers.Wait()
	figures := reporterSays{Requests: requests.Load(), Refused: refused.Load()}
	if text := untold.Load(); text != nil {
		figures.Untold = *text
	}
	closing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(m.Close(closing), says.Encode(figures))
}

// TestForcedExchangesAreFew: an API turns down every token, in four processes. The row decides for
// all of them that a token which an exchange has just brought is not exchanged again.
func TestForcedExchangesAreFew(t *testing.T) {
	const processes, callers = 4, 4
	const minTokenAge, lasts = 2 * time.Second, 7 * time.Second
	onOneServer(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		reporters := make([]*process.Process[reporterSays], processes)
		for i := range reporters {
			reporters[i] = process.Start[reporterSays](t, "reporter", fmt.Sprint("reporter ", i), reporterWork{
				DSN: s.dsn(st.database, ""), TokenURL: st.url,
				Callers: callers, MinTokenAge: minTokenAge, Lasts: lasts,
			})
		}
		for _, r := range reporters {
			r.Next("that it is ready", nil)
		}
		for _, r := range reporters {
			r.Tell(true)
		}
		var total reporterSays
		for _, r := range reporters {
			said, ok := r.NextBefore(time.Now().Add(lasts+patience), nil)
			equal(t, "a reporter's figures are there", ok, true)
			equal(t, "an error of another kind", said.Untold, "")
			total.Requests += said.Requests
			total.Refused += said.Refused
		}
		exchanges := st.p.Stats().Calls
		t.Logf("%d requests in %v: %d exchanges, %d reports refused", total.Requests, lasts, exchanges, total.Refused)
		if most := 1 + int(lasts/minTokenAge); exchanges > most || exchanges < 2 || total.Refused < 100 {
			t.Errorf("%d exchanges, want at most %d; %d reports were refused", exchanges, most, total.Refused)
		}
	})
}
