package oauth2refresh_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// dialing is a client whose connections are made by a function.
func dialing(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

func TestNothingWasSent(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	strange := httptest.NewUnstartedServer(http.NotFoundHandler())
	strange.Config.ErrorLog = log.New(io.Discard, "", 0)
	strange.StartTLS()
	t.Cleanup(strange.Close)
	plain := answering(t, http.NotFound)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	tests := []struct {
		name   string
		ctx    context.Context
		url    string
		client *http.Client
		says   string
		cause  error // nil: none is asked for
	}{
		{"connection refused", t.Context(), closed.URL, nil, "refused the connection", syscall.ECONNREFUSED},
		{"unknown host", t.Context(), "https://login.invalid/token?key=s3cret", dialing(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "login.invalid", IsNotFound: true}}
		}), "address of login.invalid could not be looked up", nil},
		{"unknown certificate", t.Context(), strange.URL, nil, "certificate", nil},
		{"no TLS", t.Context(), strings.Replace(plain, "http:", "https:", 1), nil, "was not reached", nil},
		{"no route", t.Context(), "https://login.example/token", dialing(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
		}), "was not reached", syscall.EHOSTUNREACH},
		{"dial takes too long", t.Context(), "https://login.example/token", dialing(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
		}), "time was over before anything was sent", context.DeadlineExceeded},
		{"cancelled", over, plain, nil, "time was over before anything was sent", context.Canceled},
		{"too late", late, plain, nil, "time was over before anything was sent", context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := oauth2refresh.New(config(tt.url)).With(oauth2refresh.Options{HTTPClient: tt.client})
			_, err := r.Refresh(tt.ctx, credential("refresh-1"))
			e := fails(t, err, "refresh-1")
			if e.Class != transient || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s %q; want transient, %q in it", e.Class, e.Reason, tt.says)
			}
			if tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("got cause %v; want %v", e.Err, tt.cause)
			}
		})
	}
	var dns *net.DNSError
	_, err := oauth2refresh.New(config("https://login.invalid/token")).With(oauth2refresh.Options{HTTPClient: tests[1].client}).
		Refresh(t.Context(), credential("refresh-1"))
	if !errors.As(err, &dns) {
		t.Errorf("got %v; want a *net.DNSError among its causes", err)
	}
}

// frozen is a context whose deadline passes without its timer firing, as in a process that was stopped.
type frozen struct {
	context.Context
	deadline atomic.Pointer[time.Time]
}

func (f *frozen) Deadline() (time.Time, bool) { return *f.deadline.Load(), true }

func TestDeadlinePassesBeforeTheRequestIsWritten(t *testing.T) {
	s := serve(t, provider.Options{})
	ctx := &frozen{Context: t.Context()}
	deadline := time.Now().Add(time.Hour)
	ctx.deadline.Store(&deadline)
	client := dialing(func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		past := time.Now().Add(-time.Nanosecond)
		ctx.deadline.Store(&past)
		return conn, err
	})
	token := s.Provider.Register("alice")
	_, err := oauth2refresh.New(config(s.TokenURL())).With(oauth2refresh.Options{HTTPClient: client}).Refresh(ctx, credential(token))
	if e := fails(t, err, token); e.Class != transient || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %s %q, cause %v; want transient, deadline exceeded", e.Class, e.Reason, e.Err)
	}
	if !s.Provider.Current("alice", token) || s.Provider.Stats().Calls != 0 && s.Provider.Presentations()[0].Serial != 0 {
		t.Error("the refresh token was presented after the deadline")
	}
}

// ending is a context that ends by its deadline when a channel is closed.
type ending struct {
	context.Context
	over chan struct{}
}

func (e ending) Done() <-chan struct{} { return e.over }

func (e ending) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestTimeIsOverAfterTheRequestWasSent(t *testing.T) {
	over := make(chan struct{})
	s := serve(t, provider.Options{OnPresentation: func(provider.Presentation) { close(over) }})
	s.Provider.Enqueue("", provider.Fault{Kind: provider.Hang})
	token := s.Provider.Register("alice")
	_, err := oauth2refresh.New(config(s.TokenURL())).Refresh(ending{t.Context(), over}, credential(token))
	e := fails(t, err, token)
	if e.Class != unknown || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(e.Reason, "did not answer") {
		t.Errorf("got %s %q, cause %v; want unknown, deadline exceeded", e.Class, e.Reason, e.Err)
	}
}

func TestConnectionLostForClientCredentials(t *testing.T) {
	s := serve(t, provider.Options{})
	s.Provider.Enqueue("", provider.Fault{Kind: provider.Drop, Rotated: true})
	_, err := oauth2refresh.NewClientCredentials(clientConfig(s.TokenURL())).Refresh(t.Context(), credential(""))
	if e := fails(t, err); e.Class != transient || !strings.Contains(e.Reason, "after the request had been sent") {
		t.Errorf("got %s %q; want transient: there is nothing that could be used up", e.Class, e.Reason)
	}
}

// net/http quotes what it cannot parse.
func TestPeerThatDoesNotSpeakHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(request.Body)
		_, _ = conn.Write(append(body, "\r\n\r\n"...)) // the refresh token is in it
	}()
	_, err = oauth2refresh.New(config("http://"+listener.Addr().String())).Refresh(t.Context(), credential("refresh-1"))
	if e := fails(t, err, "refresh-1"); e.Class != unknown {
		t.Errorf("got %s %q; want unknown", e.Class, e.Reason)
	}
}

func TestClientsOwnTimeout(t *testing.T) {
	s := serve(t, provider.Options{})
	s.Provider.Enqueue("", provider.Fault{Kind: provider.Hang})
	r := oauth2refresh.New(config(s.TokenURL())).With(oauth2refresh.Options{HTTPClient: &http.Client{Timeout: time.Second}})
	_, err := r.Refresh(t.Context(), credential(s.Provider.Register("alice")))
	if e := fails(t, err); e.Class != unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %s %q, cause %v; want unknown, deadline exceeded", e.Class, e.Reason, e.Err)
	}
}

// A transport may still be about to write when RoundTrip returns; what was called transient must not go out then.
func TestNothingIsSentAfterwards(t *testing.T) {
	var kept *http.Request
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		kept = r
		return nil, errors.New("gave up")
	})}
	r := oauth2refresh.New(config("https://login.example/token")).With(oauth2refresh.Options{HTTPClient: client})
	_, err := r.Refresh(t.Context(), credential("refresh-1"))
	if e := fails(t, err); e.Class != transient {
		t.Errorf("got %s; want transient", e.Class)
	}
	if body, err := io.ReadAll(kept.Body); err == nil || len(body) > 0 {
		t.Errorf("the body could still be read: %q, %v", body, err)
	}
	if kept.GetBody != nil {
		t.Error("the request has GetBody, so a transport can send it again")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, provider.Options{})
		url := answering(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.TokenURL(), status) })
		asked := false
		r := oauth2refresh.New(config(url)).With(oauth2refresh.Options{
			HTTPClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }},
			Classify:   func(oauth2refresh.Response) (_ credentials.Class, ok bool) { asked = true; return rejected, true },
		})
		token := s.Provider.Register("alice")
		_, err := r.Refresh(t.Context(), credential(token))
		e := fails(t, err, token)
		if e.Class != transient || !strings.Contains(e.Reason, "redirects") || !strings.Contains(e.Reason, "set TokenURL") || asked {
			t.Errorf("%d: got %s %q, hook asked: %v; want transient, the remedy, not asked", status, e.Class, e.Reason, asked)
		}
		if got := s.Provider.Stats().Calls; got != 0 {
			t.Errorf("%d: the redirect was followed", status)
		}
	}
}

// A connection that is kept may be closed by the server just as the request goes out on it.
func TestEveryExchangeHasItsOwnConnection(t *testing.T) {
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_token":"a"}`)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	for name, client := range map[string]*http.Client{"default": nil, "own": s.Client()} {
		connections.Store(0)
		r := oauth2refresh.New(config(s.URL)).With(oauth2refresh.Options{HTTPClient: client})
		for range 3 {
			if _, err := r.Refresh(t.Context(), credential("refresh-1")); err != nil {
				t.Fatal(err)
			}
		}
		if got := connections.Load(); got != 3 {
			t.Errorf("%s client: got %d connections for 3 exchanges; want 3", name, got)
		}
	}
}

// http.Transport repeats a request over HTTP/2 when the server resets its stream in certain ways.
func TestHTTP2NeverPresentsTwice(t *testing.T) {
	codes := map[string]uint32{"PROTOCOL_ERROR": 1, "INTERNAL_ERROR": 2, "REFUSED_STREAM": 7}
	for name, code := range codes {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			var presented atomic.Int32
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go resetStreams(conn, code, &presented)
				}
			}()
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			r := oauth2refresh.New(config("http://" + listener.Addr().String())).
				With(oauth2refresh.Options{HTTPClient: &http.Client{Transport: transport}})
			_, err = r.Refresh(t.Context(), credential("refresh-1"))
			if e := fails(t, err, "refresh-1"); e.Class != unknown {
				t.Errorf("got %s %q; want unknown", e.Class, e.Reason)
			}
			if got := presented.Load(); got != 1 {
				t.Errorf("the refresh token was presented %d times; want once", got)
			}
		})
	}
}

// resetStreams speaks just enough HTTP/2 (RFC 9113) to count the requests and reset each with the code.
func resetStreams(conn net.Conn, code uint32, requests *atomic.Int32) {
	defer conn.Close()
	const headerSize, data, headers, rstStream, settings = 9, 0, 1, 3, 4
	frame := func(kind, flags byte, stream uint32, payload []byte) {
		b := make([]byte, headerSize, headerSize+len(payload))
		b[2], b[3], b[4] = byte(len(payload)), kind, flags
		binary.BigEndian.PutUint32(b[5:], stream)
		_, _ = conn.Write(append(b, payload...))
	}
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	frame(settings, 0, 0, nil)
	for {
		var head [headerSize]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		switch {
		case kind == settings && flags&1 == 0:
			frame(settings, 1, 0, nil)
		case (kind == data || kind == headers) && flags&1 != 0: // the request's end
			requests.Add(1)
			frame(rstStream, 0, stream, binary.BigEndian.AppendUint32(nil, code))
		}
	}
}
