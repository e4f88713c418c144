package oauth2refresh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// adding is a RoundTripper as programs write them: it reads the body, adds a parameter and sends a
// request of its own.
func adding(t *testing.T, base http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		more := strings.NewReader(string(body) + "&resource=added")
		own, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), more)
		if err != nil {
			t.Error(err)
			return nil, err
		}
		own.Header = r.Header.Clone()
		return base.RoundTrip(own)
	})
}

// deaf is a RoundTripper that leaves the request's context behind, and with it the hooks.
func deaf(base http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		return base.RoundTrip(r.Clone(context.Background()))
	})
}

func TestBodyReadBeforeThereIsAConnection(t *testing.T) {
	closed, unknownHost := closed(), "https://login.invalid/token"
	dropping := answering(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	dial := func(err error) *http.Transport {
		return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, err
		}}
	}
	tests := []struct {
		name      string
		url       string
		transport http.RoundTripper
		class     credentials.Class
		says      string
	}{
		{"connection refused", closed, adding(t, &http.Transport{}),
			transient, "refused the connection; nothing was sent"},
		{"unknown host", unknownHost, adding(t, dial(&net.OpError{Op: "dial", Err: &net.DNSError{}})),
			transient, "could not be looked up"},
		{"error of a dialer's own", unknownHost, adding(t, dial(errors.New("no"))), transient, "nothing was sent"},
		{"unknown certificate", untrusted(t), adding(t, &http.Transport{}), transient, "certificate"},
		{"connection lost", dropping, adding(t, &http.Transport{}), unknown, "lost after the request had been sent"},

		// No hook tells whether the request was sent, but a dial that failed sent none.
		{"deaf, connection refused", closed, adding(t, deaf(&http.Transport{})),
			transient, "refused the connection; nothing was sent"},
		{"deaf, connection lost", dropping, adding(t, deaf(&http.Transport{})), unknown, "lost after"},
		{"deaf, an error of its own", closed, adding(t, roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("something")
		})), unknown, "lost after"},
		{"deaf, the body was not read", closed, roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("something")
		}), transient, "nothing was sent"},

		// An earlier request of the RoundTripper was answered, so a dial that fails then proves
		// nothing.
		{"after a request was sent", closed, adding(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			first, err := http.NewRequestWithContext(r.Context(), http.MethodPost, answering(t, http.NotFound), r.Body)
			if err != nil {
				return nil, err
			}
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(first)
			if err != nil {
				return nil, err
			}
			_ = response.Body.Close()
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		})), unknown, "lost after"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := over(tt.transport, tt.url).Refresh(t.Context(), credential("refresh-1"))
			failsAs(t, err, tt.class, tt.says, nil, "refresh-1")
		})
	}
}

func TestParameterIsAdded(t *testing.T) {
	var got atomic.Pointer[url.Values]
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got.Store(&r.PostForm)
		_, _ = io.WriteString(w, `{"access_token":"a"}`)
	})
	r := over(adding(t, &http.Transport{}), address)
	if _, err := r.Refresh(t.Context(), credential("refresh-1")); err != nil {
		t.Fatal(err)
	}
	if form := *got.Load(); form.Get("resource") != "added" || form.Get("refresh_token") != "refresh-1" {
		t.Errorf("the provider got %v", form)
	}
}

// passing returns a moment that has passed by one clock alone: by the wall clock on a host that
// slept while its monotonic clock stood still, by the monotonic clock where the wall clock was set
// back.
func passing(t *testing.T, wall, monotonic time.Duration) time.Time {
	t.Helper()
	at := time.Now().Add(wall)                                     // both clocks
	(*[2]int64)(unsafe.Pointer(&at))[1] += int64(monotonic - wall) // the second word of a time.Time that has one
	return at
}

// TestTimeIsOverBeforeTheFirstByte: the time is over when a connection has been made at last.
// Nothing is sent, whoever writes the request.
func TestTimeIsOverBeforeTheFirstByte(t *testing.T) {
	for _, clock := range []struct {
		name            string
		wall, monotonic time.Duration
		sends           bool
	}{
		{"time left", time.Hour, time.Hour, true},
		{"stopped process", -time.Second, -time.Second, false},
		{"host that slept", -time.Second, time.Hour, false},
		{"wall clock set back", time.Hour, -time.Second, false},
	} {
		for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
			"plain":    func(base http.RoundTripper) http.RoundTripper { return base },
			"wrapping": func(base http.RoundTripper) http.RoundTripper { return adding(t, base) },
		} {
			for protocol, streams := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
				t.Run(clock.name+", "+name+", "+protocol, func(t *testing.T) {
					t.Parallel()
					bodies, err := presentLate(t, wrap, streams, func() time.Time {
						return passing(t, clock.wall, clock.monotonic)
					})
					if clock.sends {
						if err != nil || bodies != 1 {
							t.Errorf("got error %v, %d requests; want an answer to one", err, bodies)
						}
						return
					}
					failsAs(t, err, transient, "before anything was sent", context.DeadlineExceeded, "refresh-1")
					if bodies != 0 {
						t.Error("the refresh token was presented after the deadline")
					}
				})
			}
		}
	}
}

// presentLate presents a refresh token over a transport of HTTP/1 or HTTP/2 whose connection is
// made shortly before the deadline is moved, and returns how many bodies the server got.
func presentLate(
	t *testing.T, wrap func(http.RoundTripper) http.RoundTripper, streams bool, moved func() time.Time,
) (bodies int32, err error) {
	t.Helper()
	var got atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			got.Add(1)
		}
		_, _ = io.WriteString(w, `{"access_token":"a"}`)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	ctx := freeze(t, time.Now().Add(time.Hour))
	base := dialing(func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		ctx.move(moved())
		return conn, err
	})
	base.Protocols = new(http.Protocols)
	base.Protocols.SetHTTP1(!streams)
	base.Protocols.SetUnencryptedHTTP2(streams)
	_, err = over(wrap(base), s.URL).Refresh(ctx, credential("refresh-1"))
	s.Close() // waits for its handlers
	return got.Load(), err
}

// TestNothingIsSentByAWriterThatIsLate: a RoundTripper gives up, and its request goes on in a
// goroutine of its own. The connection that the request gets later sends nothing.
func TestNothingIsSentByAWriterThatIsLate(t *testing.T) {
	s := serve(t, provider.Options{})
	token := s.Provider.Register("alice")
	gaveUp, late := make(chan struct{}), make(chan error, 1)
	base := dialing(func(_ context.Context, network, address string) (net.Conn, error) {
		<-gaveUp
		return net.Dial(network, address)
	})
	base.DisableKeepAlives = true
	impatient := roundTrip(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		ctx := context.WithoutCancel(r.Context()) // the hooks remain
		own, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), strings.NewReader(string(body)))
		if err != nil {
			return nil, err
		}
		own.Header = r.Header.Clone()
		go func() {
			_, err := base.RoundTrip(own)
			late <- err
		}()
		return nil, errors.New("gave up")
	})
	_, err := over(adding(t, impatient), s.TokenURL()).Refresh(t.Context(), credential(token))
	close(gaveUp)
	lateErr := <-late
	fails(t, err, token) // of either class: the request may have asked for the connection by then
	if calls := s.Provider.Stats().Calls; lateErr == nil || calls != 0 {
		t.Errorf("the late request got error %v, and the provider %d presentations; want an error, and none",
			lateErr, calls)
	}
}
