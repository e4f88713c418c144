package bearer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// mark stands in every token, and nowhere else.
const mark = "s3cr3t"

// alice is the credential of tests that need but one.
var alice = credentials.Key{Service: "github", Account: "alice"}

// provider answers access-1, then access-2 and so on, with the mark.
type provider struct {
	exchanges atomic.Int64
	down      atomic.Bool
}

// Refresh implements [credentials.Refresher].
func (p *provider) Refresh(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
	if p.down.Load() {
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassTransient, Code: "down"}
	}
	text := fmt.Sprint(mark, "-access-", p.exchanges.Add(1))
	return credentials.Grant{AccessToken: credentials.NewSecret(text), Lifetime: time.Hour}, nil
}

// newManager returns a manager on that store.
func newManager(tb testing.TB, store credentials.Store, service credentials.Service) *credentials.Manager {
	tb.Helper()
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: service},
		&credentials.Options{Recheck: 24 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
	must(tb, err)
	tb.Cleanup(func() { must(tb, m.Close(context.Background())) })
	return m
}

// sourceOf returns that credential's source.
func sourceOf(tb testing.TB, m *credentials.Manager, key credentials.Key) *credentials.Source {
	tb.Helper()
	source, err := m.Source(key)
	must(tb, err)
	return source
}

// start returns the source of alice, whose token was put and works for an hour, and her provider.
func start(tb testing.TB) (*credentials.Source, *provider) {
	tb.Helper()
	store, p := memstore.New(), new(provider)
	must(tb, store.Put(tb.Context(), alice, credentials.Grant{
		AccessToken: credentials.NewSecret(mark + "-access-0"), Lifetime: time.Hour,
	}))
	return sourceOf(tb, newManager(tb, store, credentials.Service{Refresher: p}), alice), p
}

// number is the number of the token in a request, "none" without one.
func number(r *http.Request) string {
	header := r.Header.Get("Authorization")
	if n, ok := strings.CutPrefix(header, "Bearer "+mark+"-access-"); ok {
		return n
	}
	return "none" + header
}

// journal has the tokens that an API was sent, and the bodies.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (l *journal) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// is fails the test unless the journal has these lines.
func (l *journal) is(tb testing.TB, want ...string) {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := strings.Join(l.lines, "; "); got != strings.Join(want, "; ") {
		tb.Errorf("the API got %q, want %q", got, want)
	}
}

// serve starts an API that takes the token of that number alone, and answers others with 401 and
// the challenge; it answers with the body of the request, or with "turned down".
func serve(tb testing.TB, takes, challenge string) (url string, got *journal) {
	tb.Helper()
	got = new(journal)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.add(strings.TrimSpace(number(r) + " " + string(body)))
		if number(r) != takes {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "turned down")
			return
		}
		_, _ = w.Write(body)
	}))
	tb.Cleanup(server.Close)
	return server.URL, got
}

// roundTrip is a base of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a response with that status and that body.
func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}
}

// tracked is a body that knows how often it was closed.
type tracked struct {
	io.Reader
	closed atomic.Int64
}

func body(text string) *tracked { return &tracked{Reader: strings.NewReader(text)} }

func (b *tracked) Close() error {
	b.closed.Add(1)
	return nil
}

// request makes a request.
func request(tb testing.TB, method, url string, body io.Reader) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, url, body)
	must(tb, err)
	return r
}

// read returns the body of a response, which it closes.
func read(tb testing.TB, resp *http.Response) string {
	tb.Helper()
	text, err := io.ReadAll(resp.Body)
	must(tb, err)
	must(tb, resp.Body.Close())
	return string(text)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func equal[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// silent fails the test if the text has a token in it.
func silent(tb testing.TB, what, text string) {
	tb.Helper()
	if strings.Contains(text, mark) {
		tb.Errorf("%s has a secret in it: %s", what, text)
	}
}
