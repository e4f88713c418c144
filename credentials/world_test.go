package credentials_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// mark stands in every secret of these tests and nowhere else, so that a leak is found by looking for it.
const mark = "SECRET"

func secret(s string) credentials.Secret { return credentials.NewSecret(mark + "-" + s) }

var (
	alice = credentials.Key{Service: "github", Account: "alice"}
	bob   = credentials.Key{Service: "github", Account: "bob"}
	carol = credentials.Key{Service: "xero", Account: "carol"}
)

// world is one store, one provider and any number of processes, in a bubble where time is fake.
type world struct {
	*testing.T
	db       *memstore.Store
	provider *provider
	logs     *buffer
	began    time.Time
	all      []*process
}

// inWorld runs a test in a bubble. Whatever it does, its log must hold no secret, and once the processes are closed no
// goroutine may be left.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, db: memstore.New(), logs: new(buffer), began: time.Now()}
		w.provider = &provider{latency: 200 * time.Millisecond, grants: make(map[credentials.Key]*grant)}
		defer w.end()
		test(w)
	})
}

// end closes all processes, with nothing in their way any more.
func (w *world) end() {
	for _, p := range w.all {
		p.store.heal()
		if err := p.Close(w.Context()); err != nil {
			w.Errorf("process %s: %v", p.name, err)
		}
	}
	if logs := w.logs.String(); strings.Contains(logs, mark) {
		w.Errorf("a secret was logged:\n%s", logs)
	}
}

// seed puts a refresh token without access token, which the first caller exchanges.
func (w *world) seed(keys ...credentials.Key) {
	w.Helper()
	for _, key := range keys {
		w.put(key, credentials.Grant{RefreshToken: secret("seed-" + key.Account)})
	}
}

func (w *world) put(key credentials.Key, g credentials.Grant) {
	w.Helper()
	if err := w.db.Put(w.Context(), key, g); err != nil {
		w.Fatal(err)
	}
	w.provider.authorized(key, g.RefreshToken.Reveal())
}

func (w *world) delete(key credentials.Key) {
	w.Helper()
	if err := w.db.Delete(w.Context(), key); err != nil {
		w.Fatal(err)
	}
}

func (w *world) row(key credentials.Key) credentials.Credential {
	w.Helper()
	c, err := w.db.Get(w.Context(), key)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// calls fails the test unless the provider got that many calls.
func (w *world) calls(want int) []call {
	w.Helper()
	calls := w.provider.record()
	if len(calls) != want {
		w.Errorf("the provider got %d calls, want %d: %+v", len(calls), want, calls)
	}
	return calls
}

// reaches advances time to that long after the test began.
func (w *world) reaches(at time.Duration) {
	w.Helper()
	if past := time.Since(w.began); past > at {
		w.Fatalf("it is %v already, past %v", past, at)
	}
	time.Sleep(at - time.Since(w.began))
	synctest.Wait()
}

// process is a manager with its own way to the world's store, as another process has.
type process struct {
	*credentials.Manager
	w     *world
	name  string
	store *steppedStore
}

// setup is what a process may have differently from the defaults.
type setup struct {
	service credentials.Service // of every service
	options credentials.Options
}

func (w *world) start(name string, edits ...func(*setup)) *process {
	w.Helper()
	s := setup{service: credentials.Service{Refresher: w.provider}}
	s.options = credentials.Options{Holder: name, Logger: slog.New(slog.NewTextHandler(w.logs, nil))}
	for _, edit := range edits {
		edit(&s)
	}
	store := &steppedStore{Store: w.db}
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: s.service, carol.Service: s.service}, &s.options)
	if err != nil {
		w.Fatal(err)
	}
	p := &process{Manager: m, w: w, name: name, store: store}
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

// answer is what a caller got, or has not got yet.
type answer struct {
	p     *process
	key   credentials.Key
	done  chan struct{}
	token credentials.Token
	err   error
	took  time.Duration
}

// ask has a caller of its own ask for a token.
func (p *process) ask(key credentials.Key) *answer { return p.askWith(p.w.Context(), key) }

func (p *process) askWith(ctx context.Context, key credentials.Key) *answer {
	return p.caller(key, func() (credentials.Token, error) { return p.Token(ctx, key) })
}

// report has a caller of its own report a token that was turned down.
func (p *process) report(key credentials.Key, turnedDown credentials.Token) *answer {
	return p.caller(key, func() (credentials.Token, error) { return p.Reject(p.w.Context(), key, turnedDown) })
}

func (p *process) caller(key credentials.Key, call func() (credentials.Token, error)) *answer {
	a := &answer{p: p, key: key, done: make(chan struct{})}
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
	if dead := errors.Is(a.err, credentials.ErrReauthRequired); dead != (want == credentials.Rejected) {
		a.p.w.Errorf("process %s: the error is ErrReauthRequired: %t; its class: %s", a.p.name, dead, e.Class)
	}
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

// silent fails the test if the value shows a secret, however it is printed.
func (w *world) silent(v any) {
	w.Helper()
	if shown := leaks(v); shown != "" {
		w.Errorf("%T shows a secret: %s", v, shown)
	}
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
