package credentials_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// mark stands in every secret of these tests and nowhere else, so that a leak is found by looking
// for it.
const mark = "SECRET"

func secret(s string) credentials.Secret { return credentials.NewSecret(mark + "-" + s) }

const (
	// unused is when no process looks any more at a token that was used once, at the beginning.
	unused = 12 * time.Minute

	// aLook is how long callers wait for a look at most while their token is good.
	aLook = 250 * time.Millisecond

	// aConfirmation is how long a look at the row under its lock waits after the one before.
	aConfirmation = time.Second

	// aBatch is how long a read waits for another one that hangs.
	aBatch = 20 * time.Millisecond
)

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

// inWorld runs a test in a bubble. In every test, the log must hold no secret, and once the
// processes are closed no goroutine may be left.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, db: memstore.New(), logs: new(buffer), began: time.Now()}
		w.provider = newProvider()
		defer w.end()
		test(w)
	})
}

// inWorldOf runs a subtest in a bubble of its own.
func inWorldOf(t *testing.T, name string, test func(w *world)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Helper()
		inWorld(t, test)
	})
}

// end closes all processes, with nothing in their way any more.
func (w *world) end() {
	for _, p := range w.all {
		p.store.Heal()
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
		w.put(key, credentials.Grant{RefreshToken: secret("seed-" + key.String())})
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

// clean fails the test if the row has a failure, an interruption or a lease.
func (w *world) clean(key credentials.Key) {
	w.Helper()
	if c := w.row(key); c.Failure.Class != "" || c.Interrupted.By != "" || c.Lease.ID != "" {
		w.Errorf("%s has failure %+v, interruption %+v, lease %+v", key, c.Failure, c.Interrupted, c.Lease)
	}
}

// unleased fails the test if the row has a lease, live or ended.
func (w *world) unleased(key credentials.Key) {
	w.Helper()
	if lease := w.row(key).Lease; lease.ID != "" {
		w.Errorf("%s has a lease of %q", key, lease.Holder)
	}
}

// stored fails the test unless the row has that access token and no lease.
func (w *world) stored(key credentials.Key, want string) {
	w.Helper()
	if got := w.row(key).AccessToken.Reveal(); got != mark+"-"+want {
		w.Errorf("%s has the token %s, want %s-%s", key, got, mark, want)
	}
	w.unleased(key)
}

// storedRefresh fails the test unless the row has that refresh token.
func (w *world) storedRefresh(key credentials.Key, want string) {
	w.Helper()
	if got := w.row(key).RefreshToken.Reveal(); got != mark+"-"+want {
		w.Errorf("%s has the refresh token %s, want %s-%s", key, got, mark, want)
	}
}

// within fails the test if more time has passed since it began.
func (w *world) within(most time.Duration) {
	w.Helper()
	if took := time.Since(w.began); took > most {
		w.Errorf("it took %v, want at most %v", took, most)
	}
}

// presentedOnce fails the test unless the provider got one call, which knows of that interrupted
// holder.
func (w *world) presentedOnce(interrupted string) {
	w.Helper()
	if calls := w.presented(1); calls[0].Interrupted != interrupted {
		w.Errorf("the call knows of the interrupted holder %q, want %q", calls[0].Interrupted, interrupted)
	}
}

// presented fails the test unless the provider got that many calls.
func (w *world) presented(want int) []presentation {
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

// silent fails the test if the value shows a secret, however it is printed.
func (w *world) silent(v any) {
	w.Helper()
	if shown := leaks(v); shown != "" {
		w.Errorf("%T shows a secret: %s", v, shown)
	}
}

// ended fails the test if the error is a context's, and the caller's own context has not ended so.
func (w *world) ended(ctx context.Context, err error) {
	w.Helper()
	for _, end := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, end) && ctx.Err() != end {
			w.Errorf("got error %v, which is %q, and the caller's context says %v", err, end, ctx.Err())
		}
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
