package credentials_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// process is a manager with its own way to the world's store, as another process has.
type process struct {
	*credentials.Manager
	keeper *credentials.Keeper
	w      *world
	name   string
	store  *testkit.Store
}

func keeperOf(t testing.TB, m *credentials.Manager) *credentials.Keeper {
	t.Helper()
	keeper, err := credentials.NewKeeper(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keeper
}

// setup is what a process may have differently from the defaults.
type setup struct {
	service  credentials.Service       // both of alice and of carol
	services credentials.ServiceFinder // nil: those
	options  credentials.Options
}

// finding has a process find its services with f.
func finding(f func(ctx context.Context, name string) (credentials.Service, error)) func(*setup) {
	return func(s *setup) { s.services = credentials.ServicesFunc(f) }
}

// anyAge has a process exchange a token that is turned down, however young it is.
func anyAge(s *setup) { s.service.MinTokenAge = time.Nanosecond }

// everywhere has a process know every service there is.
func (w *world) everywhere(s *setup) {
	finding(func(context.Context, string) (credentials.Service, error) {
		return credentials.Service{Refresher: w.provider}, nil
	})(s)
}

func (w *world) start(name string, edits ...func(*setup)) *process {
	w.Helper()
	s := setup{service: credentials.Service{Refresher: client{w.provider, name}}}
	s.options = credentials.Options{Holder: name, Logger: slog.New(slog.NewTextHandler(w.logs, nil))}
	for _, edit := range edits {
		edit(&s)
	}
	if s.services == nil {
		s.services = credentials.Services{alice.Service: s.service, carol.Service: s.service}
	}
	store := testkit.NewStore(w.db)
	m, err := credentials.NewManager(store, s.services, &s.options)
	if err != nil {
		w.Fatal(err)
	}
	p := &process{Manager: m, keeper: keeperOf(w, m), w: w, name: name, store: store}
	w.all = append(w.all, p)
	return p
}

// starts returns n processes, named A, B, C and so on.
func (w *world) starts(n int, edits ...func(*setup)) []*process {
	w.Helper()
	processes := make([]*process, n)
	for i := range processes {
		processes[i] = w.start(string(rune('A'+i)), edits...)
	}
	return processes
}

// costs returns a function that fails the test unless the process has made that many calls of its
// store since.
func (p *process) costs() func(want int) {
	before := p.store.Count()
	return func(want int) {
		p.w.Helper()
		if n := p.store.Count() - before; n != want {
			p.w.Errorf("process %s made %d calls of its store, want %d", p.name, n, want)
		}
	}
}

// mustClose closes the process, and fails the test unless Close succeeds.
func (p *process) mustClose() {
	p.w.Helper()
	if err := p.Close(p.w.Context()); err != nil {
		p.w.Errorf("process %s: Close: %v", p.name, err)
	}
}

// answer is what a caller got, or has not got yet.
type answer struct {
	p     *process
	key   credentials.Key
	ctx   context.Context // the caller's
	done  chan struct{}
	token credentials.Token
	err   error
	took  time.Duration
}

// ask has a caller of its own ask for a token.
func (p *process) ask(key credentials.Key) *answer { return p.askWith(p.w.Context(), key) }

// begins has a caller ask, and returns when all goroutines wait for something.
func (p *process) begins(key credentials.Key) *answer {
	a := p.ask(key)
	synctest.Wait()
	return a
}

func (p *process) askWith(ctx context.Context, key credentials.Key) *answer {
	return p.caller(ctx, key, func() (credentials.Token, error) { return p.Token(ctx, key) })
}

// report has a caller of its own report a token that was turned down.
func (p *process) report(key credentials.Key, turnedDown credentials.Token) *answer {
	return p.reportWith(p.w.Context(), key, turnedDown)
}

func (p *process) reportWith(ctx context.Context, key credentials.Key, turnedDown credentials.Token) *answer {
	return p.caller(ctx, key, func() (credentials.Token, error) { return p.Invalidate(ctx, key, turnedDown) })
}

func (p *process) caller(
	ctx context.Context, key credentials.Key, call func() (credentials.Token, error),
) *answer {
	a := &answer{p: p, key: key, ctx: ctx, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		began := time.Now()
		a.token, a.err = call()
		a.took = time.Since(began)
	}()
	return a
}

// mustGet is a caller that must get a token, which it returns.
func (p *process) mustGet(key credentials.Key) credentials.Token {
	p.w.Helper()
	return p.ask(key).mustGet()
}

func (a *answer) mustGet() credentials.Token {
	a.p.w.Helper()
	<-a.done
	if a.err != nil {
		a.p.w.Fatalf("process %s, %s: got error %v, want a token", a.p.name, a.key, a.err)
	}
	if a.token.Value.IsZero() {
		a.p.w.Fatalf("process %s, %s: got neither token nor error", a.p.name, a.key)
	}
	return a.token
}

// is fails the test unless the caller got that token.
func (a *answer) is(want string) {
	a.p.w.Helper()
	if got := a.mustGet().Value.Reveal(); got != mark+"-"+want {
		a.p.w.Errorf("process %s, %s: got token %s, want %s-%s", a.p.name, a.key, got, mark, want)
	}
}

// answers are those of several callers.
type answers []*answer

// all returns the answers to check them together.
func all(callers []*answer) answers { return callers }

// are fails the test unless each caller got that token.
func (all answers) are(want string) {
	for _, a := range all {
		a.is(want)
	}
}

// each are processes that do the same, one after the other.
type each []*process

// ask has a caller of each process ask for a token, and waits for the answer.
func (processes each) ask(key credentials.Key) (all answers) {
	for _, p := range processes {
		a := p.ask(key)
		<-a.done
		all = append(all, a)
	}
	return all
}

// within fails the test if the caller waited for longer.
func (a *answer) within(most time.Duration) {
	a.p.w.Helper()
	if <-a.done; a.took > most {
		a.p.w.Errorf("process %s, %s: waited for %v, want at most %v", a.p.name, a.key, a.took, most)
	}
}

// fails fails the test unless the caller got an error that is want and holds no secret.
func (a *answer) fails(want error) error {
	a.p.w.Helper()
	<-a.done
	if !errors.Is(a.err, want) {
		a.p.w.Fatalf("process %s, %s: got token %v and error %v, want error %v", a.p.name, a.key, a.token.Value, a.err, want)
	}
	if !a.token.Value.IsZero() {
		a.p.w.Errorf("process %s, %s: got a token beside the error %v", a.p.name, a.key, a.err)
	}
	a.p.w.ended(a.ctx, a.err)
	a.p.w.silent(a.err)
	return a.err
}

// failed fails the test unless the caller got a *RefreshError of that class, which it returns.
func (a *answer) failed(want credentials.Class) *credentials.RefreshError {
	a.p.w.Helper()
	<-a.done
	var e *credentials.RefreshError
	if !errors.As(a.err, &e) {
		a.p.w.Fatalf("process %s, %s: got token %v and error %v, want a RefreshError", a.p.name, a.key, a.token.Value, a.err)
	}
	if e.Class != want || e.Key != a.key {
		a.p.w.Errorf("process %s: got class %s of %s, want %s of %s", a.p.name, e.Class, e.Key, want, a.key)
	}
	if dead := errors.Is(a.err, credentials.ErrGrantDead); dead != (want == credentials.ClassDead) {
		a.p.w.Errorf("process %s: the error is ErrGrantDead: %t; its class: %s", a.p.name, dead, e.Class)
	}
	a.p.w.ended(a.ctx, a.err)
	a.p.w.silent(a.err)
	if inner := new(credentials.RefreshError); errors.As(e.Err, &inner) {
		a.p.w.silent(inner) // somebody may print the cause
	}
	return e
}

// waits fails the test if the caller has got something by now.
func (a *answer) waits() {
	a.p.w.Helper()
	synctest.Wait()
	select {
	case <-a.done:
		a.p.w.Errorf("process %s, %s: got token %v and error %v, want it to wait", a.p.name, a.key, a.token.Value, a.err)
	default:
	}
}
