package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// setup is the first line on a process's stdin; orders follow.
type setup struct {
	DSN, TokenURL string
	Name          string // of the holder
	Replay        credentials.Replay
	Hold          []step // at each of these it waits, once, for an order to go on

	Lease, Exchange, Store time.Duration // zero: the defaults
}

// brief is a setup whose lease ends soon. A claim may take two seconds, else it is given back and made again.
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

var steps = []step{claimed, presenting, saving, failing, polled, closing, answered}

// order is a line on a process's stdin.
type order struct {
	Ask  int  // so many callers ask
	GoOn step // it need not wait there any more
}

// event is a line on its stdout. All but Step belong to an answer.
type event struct {
	Step  step
	Token string
	Error string

	Unavailable, Reauth, Closed bool // what the error is

	Failed      *credentials.RefreshError // if it is one
	Interrupted credentials.Interruption
}

// serve is the role of the service: a process of one, which asks for alice's token when it is told to. It is killed,
// paused and terminated at the steps that it reports.
func serve(stdin io.Reader, stdout io.Writer) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	orders := json.NewDecoder(stdin)
	var u setup
	if err := orders.Decode(&u); err != nil {
		return err
	}
	config, err := mysql.ParseDSN(u.DSN)
	if err != nil {
		return err
	}
	config.Logger = &mysql.NopLogger{}
	store, err := latchkey.NewStore(open(config), nil)
	if err != nil {
		return err
	}
	r := &reporter{out: json.NewEncoder(stdout), held: make(map[step]chan struct{})}
	for _, at := range u.Hold {
		r.held[at] = make(chan struct{})
	}
	m, err := credentials.NewManager(&steppedStore{store, r.reach}, credentials.Services{alice.Service: {
		Replay: u.Replay,
		Refresher: credentials.RefresherFunc(func(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
			r.reach(presenting)
			return refresherAt(u.TokenURL).Refresh(ctx, c)
		}),
	}}, &credentials.Options{
		Lease: u.Lease, ExchangeTimeout: u.Exchange, StoreTimeout: u.Store, Holder: u.Name, Logger: slog.New(slog.DiscardHandler),
	})
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

// outcome is what a caller gets.
func outcome(m *credentials.Manager) event {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	token, err := m.Token(ctx, alice)
	e := event{Step: answered, Token: token.Value.Reveal()}
	if err != nil {
		e.Error = err.Error()
		e.Unavailable, e.Reauth = errors.Is(err, credentials.ErrUnavailable), errors.Is(err, credentials.ErrReauthRequired)
		e.Closed = errors.Is(err, credentials.ErrClosed)
		if errors.As(err, &e.Failed) {
			e.Interrupted = e.Failed.Interrupted
		}
	}
	return e
}

// reporter reports the steps and holds the process at some.
type reporter struct {
	mu   sync.Mutex // guards what follows
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

// steppedStore reports the steps that the store is part of.
type steppedStore struct {
	*latchkey.Store

	reach func(step)
}

func (s *steppedStore) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (credentials.Credential, error) {
	c, err := s.Store.Claim(ctx, key, claim)
	if err == nil && c.Lease.ID == claim.ID {
		s.reach(claimed)
	}
	return c, err
}

func (s *steppedStore) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	s.reach(saving)
	return s.Store.Save(ctx, fence, renewal)
}

func (s *steppedStore) Fail(ctx context.Context, fence credentials.Fence, failure credentials.Failure) error {
	s.reach(failing)
	return s.Store.Fail(ctx, fence, failure)
}

func (s *steppedStore) Versions(ctx context.Context, rows []uint64) (map[uint64]uint64, error) {
	versions, err := s.Store.Versions(ctx, rows)
	s.reach(polled)
	return versions, err
}

// process is the test's side.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	orders *json.Encoder
	events map[step]chan event
	exited chan error // receives once
}

// startProcess starts a process on the stage. It is gone when the test has ended.
func (st *stage) startProcess(u setup) *process {
	t := st.t
	t.Helper()
	u.DSN, u.TokenURL = st.s.dsn(st.database, interpolated), st.url
	cmd, err := roleCommand("service")
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, orders: json.NewEncoder(stdin), events: make(map[step]chan event), exited: make(chan error, 1)}
	for _, s := range steps {
		p.events[s] = make(chan event, 10000)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil || !slices.Contains(steps, e.Step) {
				continue // killed in the middle of a line
			}
			p.events[e.Step] <- e
		}
		p.exited <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // also one that is stopped
		<-gone
	})
	p.order(u)
	return p
}

func (p *process) order(line any) {
	p.t.Helper()
	if err := p.orders.Encode(line); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) ask(n int)      { p.t.Helper(); p.order(order{Ask: n}) }
func (p *process) goOn(from step) { p.t.Helper(); p.order(order{GoOn: from}) }

func (p *process) reaches(s step) event {
	p.t.Helper()
	return receive(p.t, "a process to be "+string(s), p.events[s])
}

// asksUntil has callers ask until one of them has the process reach that step. On a slow machine, the store may seem
// unavailable to one whose time-outs are short.
func (p *process) asksUntil(s step) {
	p.t.Helper()
	for deadline := time.After(patience); ; {
		p.ask(1)
		select {
		case <-p.events[s]:
			return
		case a := <-p.events[answered]:
			if !a.Unavailable {
				p.t.Fatalf("a caller of a process that should be %s got %+v", s, a)
			}
		case <-deadline:
			p.t.Fatalf("waited %v for a process to be %s", patience, s)
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%v: %v", s, err)
	}
}

// kill returns when the process is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	_ = receive(p.t, "a process to be gone", p.exited)
}
