package oauth2refresh_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// dialing is a transport whose connections are made by a function.
func dialing(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{DialContext: dial}
}

// unreachable is a transport whose dials fail with that error.
func unreachable(err error) *http.Transport {
	return dialing(func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: err}
	})
}

func TestNothingWasSent(t *testing.T) {
	plain := answering(t, http.NotFound)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	const example, timeOver = "https://login.example/token", "time was over before anything was sent"
	noHost := &net.DNSError{Err: "no such host", Name: "login.invalid", IsNotFound: true}
	tests := []struct {
		name      string
		ctx       context.Context
		url       string
		transport http.RoundTripper
		says      string
		cause     error // nil: any
	}{
		{"connection refused", t.Context(), closed(), nil, "refused the connection", syscall.ECONNREFUSED},
		{"unknown host", t.Context(), "https://login.invalid/token?key=s3cret", unreachable(noHost),
			"address of login.invalid could not be looked up", noHost},
		{"unknown certificate", t.Context(), untrusted(t), nil, "certificate", nil},
		{"no TLS", t.Context(), strings.Replace(plain, "http:", "https:", 1), nil, "was not reached", nil},
		{"no route", t.Context(), example, unreachable(syscall.EHOSTUNREACH), "was not reached", syscall.EHOSTUNREACH},
		{"dial takes too long", t.Context(), example, unreachable(context.DeadlineExceeded),
			timeOver, os.ErrDeadlineExceeded},
		{"dial is cancelled inside", t.Context(), example, unreachable(context.Canceled), "was not reached", nil},
		{"cancelled", ended, plain, nil, timeOver, context.Canceled},
		{"too late", late, plain, nil, timeOver, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := over(tt.transport, tt.url).Refresh(tt.ctx, credential("refresh-1"))
			failsAs(t, err, transient, tt.says, tt.cause, "refresh-1")
		})
	}
}

// frozen is a context whose deadline passes without its timer firing, as in a process that was
// stopped.
type frozen struct {
	context.Context
	deadline atomic.Pointer[time.Time]
}

func freeze(t *testing.T, deadline time.Time) *frozen {
	ctx := &frozen{Context: t.Context()}
	ctx.move(deadline)
	return ctx
}

func (f *frozen) Deadline() (time.Time, bool) { return *f.deadline.Load(), true }

func (f *frozen) move(deadline time.Time) { f.deadline.Store(&deadline) }

func TestDeadlinePassesBeforeTheRequestIsWritten(t *testing.T) {
	s := serve(t, provider.Options{})
	ctx := freeze(t, time.Now().Add(time.Hour))
	transport := dialing(func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		ctx.move(time.Now().Add(-time.Nanosecond))
		return conn, err
	})
	token := s.Provider.Register("alice")
	_, err := over(transport, s.TokenURL()).Refresh(ctx, credential(token))
	failsAs(t, err, transient, "", context.DeadlineExceeded, token)
	presented := s.Provider.Stats().Calls != 0 && s.Provider.Presentations()[0].Serial != 0
	if !s.Provider.Current("alice", token) || presented {
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
	failsAs(t, err, unknown, "did not answer", context.DeadlineExceeded, token)
}

func TestConnectionLostForClientCredentials(t *testing.T) {
	s := serve(t, provider.Options{})
	s.Provider.Enqueue("", provider.Fault{Kind: provider.Drop, Rotated: true})
	robot := oauth2refresh.NewClientCredentials(clientConfig(s.TokenURL()))
	_, err := robot.Refresh(t.Context(), credential(""))
	failsAs(t, err, transient, "after the request had been sent", nil) // nothing could be used up
}

// TestPeerThatDoesNotSpeakHTTP: net/http quotes an answer that it cannot parse.
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
	_, err = refresh(t, "http://"+listener.Addr().String(), "refresh-1")
	failsAs(t, err, unknown, "", nil, "refresh-1")
}

func TestClientsOwnTimeout(t *testing.T) {
	s := serve(t, provider.Options{})
	s.Provider.Enqueue("", provider.Fault{Kind: provider.Hang})
	options := oauth2refresh.Options{HTTPClient: &http.Client{Timeout: time.Second}}
	r := oauth2refresh.New(config(s.TokenURL())).With(options)
	_, err := r.Refresh(t.Context(), credential(s.Provider.Register("alice")))
	failsAs(t, err, unknown, "did not answer", os.ErrDeadlineExceeded)
}

// TestBodyTakesTooLong: the status was there, and the client's own time is over before the body is.
func TestBodyTakesTooLong(t *testing.T) {
	ended := make(chan struct{})
	url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_`)
		_ = http.NewResponseController(w).Flush()
		<-ended
	})
	defer close(ended)
	options := oauth2refresh.Options{HTTPClient: &http.Client{Timeout: 200 * time.Millisecond}}
	_, err := oauth2refresh.New(config(url)).With(options).Refresh(t.Context(), credential("refresh-1"))
	failsAs(t, err, unknown, "broke off", nil, "refresh-1")
}

// TestDefaultTimeout: a context without a deadline is bounded, and has not ended for that.
func TestDefaultTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		hangs := roundTrip(func(r *http.Request) (*http.Response, error) {
			_, _ = io.ReadAll(r.Body)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		_, err := over(hangs, "https://login.example/token").Refresh(t.Context(), credential("refresh-1"))
		failsAs(t, err, unknown, "did not answer", os.ErrDeadlineExceeded, "refresh-1")
		if took := time.Since(began); took != oauth2refresh.DefaultTimeout {
			t.Errorf("it took %v; want %v", took, oauth2refresh.DefaultTimeout)
		}
	})
}

// TestNothingIsSentAfterwards: a transport may still be about to write when RoundTrip returns. A
// request that was called transient must not go out then.
func TestNothingIsSentAfterwards(t *testing.T) {
	var kept *http.Request
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		kept = r
		return nil, errors.New("gave up")
	})
	_, err := over(transport, "https://login.example/token").Refresh(t.Context(), credential("refresh-1"))
	failsAs(t, err, transient, "", nil)
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
			Classify:   func(oauth2refresh.Response) (_ credentials.Class, ok bool) { asked = true; return dead, true },
		})
		token := s.Provider.Register("alice")
		_, err := r.Refresh(t.Context(), credential(token))
		failsAs(t, err, transient, "redirects", nil, token)
		failsAs(t, err, transient, "set TokenURL", nil, token)
		if asked {
			t.Errorf("%d: the hook was asked", status)
		}
		if got := s.Provider.Stats().Calls; got != 0 {
			t.Errorf("%d: the redirect was followed", status)
		}
	}
}

// TestEveryExchangeHasItsOwnConnection: a connection that is kept may be closed by the server just
// as the request goes out on it.
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

// TestHTTP2NeverPresentsTwice: http.Transport repeats a request over HTTP/2 when the server resets
// its stream in certain ways.
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
			r := over(transport, "http://"+listener.Addr().String())
			_, err = r.Refresh(t.Context(), credential("refresh-1"))
			failsAs(t, err, unknown, "", nil, "refresh-1")
			if got := presented.Load(); got != 1 {
				t.Errorf("the refresh token was presented %d times; want once", got)
			}
		})
	}
}

// resetStreams speaks just enough HTTP/2 (RFC 9113) to count the requests and reset each with the
// code.
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
