package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// setup is the work of a process of the role "service".
type setup struct {
	DSN, TokenURL string
	Name          string // of the holder
	Replay        credentials.Replay
	Hold          []step // at each of these it waits, once, for an order to go on

	Lease, Exchange, Store, Recheck time.Duration // zero: the defaults
}

// brief is a setup whose lease ends soon. A claim may take two seconds, else it is given back and
// made again.
func (u setup) brief() setup {
	u.Lease, u.Exchange, u.Store = 5*time.Second, 2*time.Second, time.Second
	return u
}

// step is a point in a process's work that it reports.
type step string

const (
	claimed    step = "claimed"    // its claim is committed, and it knows
	presenting step = "presenting" // its refresher is called
	saving     step = "saving"     // it has the provider's answer, a success
	failing    step = "failing"    // it has the provider's answer, a failure
	polled     step = "polled"     // it waits for another holder, and has looked at the row
	closing    step = "closing"    // it got SIGTERM
	answered   step = "answered"   // a caller got a token or an error
)

// order is a line on a service's stdin.
type order struct {
	Ask  int  // so many callers ask
	GoOn step // it need not wait there any more
}

// event is a line on a service's stdout. All but Step belong to an answer.
type event struct {
	Step  step
	Token string
	Error string

	Unavailable, Reauth, Disabled bool // the error's kind

	Failed      *credentials.RefreshError // if it is one
	Interrupted credentials.Interruption
}

// serve is the role of a service of one process, which asks for alice's token when it is told to.
// It is killed, paused and terminated at the steps that it reports.
func serve(orders *json.Decoder, says *json.Encoder) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	var u setup
	if err := orders.Decode(&u); err != nil {
		return err
	}
	r := &reporter{out: says, held: make(map[step]chan struct{})}
	for _, at := range u.Hold {
		r.held[at] = make(chan struct{})
	}
	m, err := u.manager(r)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() {
		<-terminated
		r.report(event{Step: closing})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- m.Close(ctx)
	}()
	go func() {
		for {
			var o order
			if err := orders.Decode(&o); err != nil { // the test has ended
				ended <- nil
				return
			}
			r.goOn(o.GoOn)
			for range o.Ask {
				go func() { r.report(outcome(m)) }()
			}
		}
	}()
	return <-ended
}

// manager returns the service's manager, which reports its steps to r.
func (u setup) manager(r *reporter) (*credentials.Manager, error) {
	db, err := openDSN(u.DSN, 0)
	if err != nil {
		return nil, err
	}
	rows, err := latchkey.NewStore(db, nil)
	if err != nil {
		return nil, err
	}
	store := testkit.NewStore(rows)
	own := &ownClaims{holder: u.Name, reporter: r}
	store.After(testkit.Claim, own.replied)
	store.After(testkit.Get, own.replied) // a lost claim is found by reading the row
	store.Before(testkit.Save, testkit.Func(func() { r.reach(saving) }))
	store.Before(testkit.Fail, testkit.Func(func() { r.reach(failing) }))
	store.After(testkit.Versions, testkit.Func(func() { r.reach(polled) }))
	refresher := refresherAt(u.TokenURL)
	return credentials.NewManager(store, credentials.Services{alice.Service: {
		Replay: u.Replay,
		Refresher: credentials.RefresherFunc(
			func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
				r.reach(presenting)
				return refresher.Refresh(ctx, in)
			}),
	}}, &credentials.Options{
		Lease: u.Lease, ExchangeTimeout: u.Exchange, StoreTimeout: u.Store, Recheck: u.Recheck,
		Holder: u.Name,
		Logger: slog.New(slog.DiscardHandler),
	})
}

// ownClaims reports the claims of a holder, each when its process learns of it.
type ownClaims struct {
	holder string
	*reporter
	mu    sync.Mutex // guards known
	known string     // the last claim whose reply came
}

// replied is the hook of the calls that may show a claim. Where the reply to a claim was lost, each
// read that shows the claim is held, as the refresh and the search for the claim both read.
func (o *ownClaims) replied(_ context.Context, call *testkit.Call) error {
	lease := call.Credential.Lease
	if call.Err != nil || !lease.Live() || lease.Holder != o.holder {
		return nil
	}
	o.mu.Lock()
	known := lease.ID == o.known
	if call.Method == testkit.Claim {
		o.known = lease.ID
	}
	o.mu.Unlock()
	if !known {
		o.reach(claimed)
	}
	return nil
}

// outcome is the answer to a caller.
func outcome(m *credentials.Manager) event {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	token, err := m.Token(ctx, alice)
	e := event{Step: answered, Token: token.Value.Reveal()}
	if err != nil {
		e.Error = err.Error()
		e.Unavailable = errors.Is(err, credentials.ErrUnavailable)
		e.Reauth = errors.Is(err, credentials.ErrGrantDead)
		e.Disabled = errors.Is(err, credentials.ErrDisabled)
		if errors.As(err, &e.Failed) {
			e.Interrupted = e.Failed.Interrupted
		}
	}
	return e
}

// reporter reports the steps and holds the process at some.
type reporter struct {
	mu   sync.Mutex // guards the fields below
	out  *json.Encoder
	held map[step]chan struct{} // until closed
}

func (r *reporter) report(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(e) // nobody reads it when the test has ended
}

func (r *reporter) reach(at step) {
	r.mu.Lock()
	held := r.held[at]
	r.mu.Unlock()
	r.report(event{Step: at})
	if held != nil {
		<-held
	}
}

func (r *reporter) goOn(from step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held := r.held[from]; held != nil {
		close(held)
		delete(r.held, from)
	}
}

// serviceProcess is the test's side of such a process.
type serviceProcess struct {
	*process.Process[event]

	t *testing.T
}

// startService starts a service on the stage.
func (st *stage) startService(u setup) serviceProcess {
	st.t.Helper()
	u.DSN, u.TokenURL = st.s.dsn(st.database, interpolated), st.url
	return serviceProcess{process.Start[event](st.t, "service", u.Name, u), st.t}
}

func (p serviceProcess) ask(n int)      { p.t.Helper(); p.Tell(order{Ask: n}) }
func (p serviceProcess) goOn(from step) { p.t.Helper(); p.Tell(order{GoOn: from}) }

// reaches waits until the process has reached one of these steps once more.
func (p serviceProcess) reaches(steps ...step) event {
	p.t.Helper()
	return p.Next(fmt.Sprint("one of ", steps), func(e event) bool {
		return slices.Contains(steps, e.Step)
	})
}

// answers waits for a caller's answer, which must be a token.
func (p serviceProcess) answers() (token string) {
	p.t.Helper()
	a := p.reaches(answered)
	if a.Token == "" {
		p.t.Errorf("a caller of the process %s got error %s", p.Name, a.Error)
	}
	return a.Token
}

// asksUntil has callers ask until one of them has the process reach that step. On a slow machine,
// the store may seem unavailable to one whose time-outs are short.
func (p serviceProcess) asksUntil(s step) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		p.ask(1)
		switch a := p.reaches(s, answered); {
		case a.Step == s:
			return
		case !a.Unavailable:
			p.t.Fatalf("a caller of a process that should be %s got %+v", s, a)
		}
	}
	p.t.Fatalf("waited %v for a process to be %s", patience, s)
}
