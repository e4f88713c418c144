package bearer_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/internal/testkit/api"
)

// A token that the API turns down is exchanged, and the request sent once more, with its body.
func TestTurnedDown(t *testing.T) {
	for _, test := range []struct {
		name, body string
		request    func(t *testing.T, url string) *http.Request
	}{
		{"no body", "", func(t *testing.T, url string) *http.Request {
			return request(t, http.MethodGet, url, nil)
		}},
		{"http.NoBody", "", func(t *testing.T, url string) *http.Request {
			r := request(t, http.MethodPost, url, nil)
			r.Body = http.NoBody
			return r
		}},
		{"body that can be had again", "body", func(t *testing.T, url string) *http.Request {
			return request(t, http.MethodPost, url, strings.NewReader("body"))
		}},
		{"body of unknown length", "body", func(t *testing.T, url string) *http.Request {
			r := request(t, http.MethodPost, url, body("body"))
			r.GetBody = func() (io.ReadCloser, error) { return body("body"), nil }
			return r
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			source, p := start(t)
			url, got := serve(t, "1", `Bearer error="invalid_token"`)
			resp, err := bearer.Client(source).Do(test.request(t, url))
			must(t, err)
			equal(t, "status", resp.StatusCode, http.StatusOK)
			equal(t, "the response's body", read(t, resp), test.body)
			got.is(t, strings.TrimSpace("0 "+test.body), strings.TrimSpace("1 "+test.body))
			equal(t, "exchanges", p.exchanges.Load(), 1)
		})
	}
}

// The connection of the first answer takes the second request too, and a long body is not waited
// for.
func TestConnectionIsUsedAgain(t *testing.T) {
	for _, test := range []struct {
		name    string
		size    int
		dropped bool // the connection is closed
	}{{"no body", 0, false}, {"8 KiB", 8 << 10, false}, {"64 MiB", 64 << 20, true}} {
		t.Run(test.name, func(t *testing.T) {
			source, _ := start(t)
			var conns journal
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conns.add(r.RemoteAddr)
				if number(r) == "0" {
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = w.Write(make([]byte, test.size))
				}
			}))
			defer server.Close()
			base := new(http.Transport)
			transport := &bearer.Transport{Source: source, Base: base}
			reused := make([]bool, 0, 2)
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) { reused = append(reused, info.Reused) },
			})
			client := &http.Client{Transport: transport}
			resp, err := client.Do(request(t, http.MethodGet, server.URL, nil).WithContext(ctx))
			must(t, err)
			equal(t, "status", resp.StatusCode, http.StatusOK)
			equal(t, "the response's body", read(t, resp), "")
			equal(t, "connections, reused", fmt.Sprint(reused), fmt.Sprint([]bool{false, !test.dropped}))
			client.CloseIdleConnections()
		})
	}
}

// Over HTTP/2 an API may turn a token down before it has read the body, whose rest is not sent.
func TestTurnedDownBeforeTheBodyIsRead(t *testing.T) {
	source, p := start(t)
	long := strings.Repeat("body", 1<<18)
	var got journal
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.add(r.Proto + " " + number(r))
		if number(r) == "0" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	client := &http.Client{Transport: &bearer.Transport{Source: source, Base: server.Client().Transport}}
	resp, err := client.Do(request(t, http.MethodPost, server.URL, strings.NewReader(long)))
	must(t, err)
	equal(t, "status", resp.StatusCode, http.StatusOK)
	equal(t, "the body came whole", read(t, resp) == long, true)
	got.is(t, "HTTP/2.0 0", "HTTP/2.0 1")
	equal(t, "exchanges", p.exchanges.Load(), 1)
}

// A body that cannot be had again is not sent again: the API's answer is handed on, and the next
// request has the next token.
func TestBodyThatCannotBeHadAgain(t *testing.T) {
	source, p := start(t)
	url, got := serve(t, "1", "Bearer")
	client := bearer.Client(source)
	resp, err := client.Do(request(t, http.MethodPost, url, body("once")))
	must(t, err)
	equal(t, "status", resp.StatusCode, http.StatusUnauthorized)
	equal(t, "the response's body", read(t, resp), "turned down")
	resp, err = client.Do(request(t, http.MethodPost, url, body("twice")))
	must(t, err)
	equal(t, "status of the next request", resp.StatusCode, http.StatusOK)
	equal(t, "the next response's body", read(t, resp), "twice")
	got.is(t, "0 once", "1 twice")
	equal(t, "exchanges", p.exchanges.Load(), 1)
}

// The caller gets the first answer, whole, where there is no next token, or no second body.
func TestFirstAnswerStays(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(*http.Request, *provider)
	}{
		{"the exchange fails", func(_ *http.Request, p *provider) { p.down.Store(true) }},
		{"GetBody fails", func(r *http.Request, _ *provider) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("the file is gone") }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			source, p := start(t)
			url, got := serve(t, "1", "Bearer")
			r := request(t, http.MethodPost, url, strings.NewReader("body"))
			test.prepare(r, p)
			resp, err := bearer.Client(source).Do(r)
			must(t, err)
			equal(t, "status", resp.StatusCode, http.StatusUnauthorized)
			equal(t, "the response's body", read(t, resp), "turned down")
			got.is(t, "0 body")
		})
	}
}

// Answers that say nothing about the token are handed on as they are.
func TestNotTurnedDown(t *testing.T) {
	for _, test := range []struct {
		name, challenge string
		status          int
	}{
		{"forbidden", `Bearer error="invalid_token"`, http.StatusForbidden},
		{"another scope is needed", `Bearer realm="api", error="insufficient_scope", scope="write"`, http.StatusUnauthorized},
		{"the request is malformed", `Bearer error="invalid_request"`, http.StatusUnauthorized},
		{"the person has to log in", `Bearer error="insufficient_user_authentication"`, http.StatusUnauthorized},
		{"an error of the server's", "", http.StatusInternalServerError},
	} {
		t.Run(test.name, func(t *testing.T) {
			source, p := start(t)
			var got journal
			base := roundTrip(func(r *http.Request) (*http.Response, error) {
				got.add(number(r))
				resp := answer(r, test.status, "answer")
				resp.Header.Set("WWW-Authenticate", test.challenge)
				return resp, nil
			})
			resp, err := (&bearer.Transport{Source: source, Base: base}).RoundTrip(request(t, http.MethodGet, "https://api.example", nil))
			must(t, err)
			equal(t, "status", resp.StatusCode, test.status)
			equal(t, "the response's body", read(t, resp), "answer")
			got.is(t, "0")
			_, err = source.Token(t.Context())
			must(t, err)
			equal(t, "exchanges", p.exchanges.Load(), 0)
		})
	}
}

// An API that turns down every token gets its answers through, and causes few exchanges.
func TestAPIThatTurnsDownEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, p := start(t)
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusUnauthorized, "turned down"), nil
		})
		client := &http.Client{Transport: &bearer.Transport{Source: source, Base: base}}
		const minutes, clients = 10, 4
		var working sync.WaitGroup
		for range clients {
			working.Go(func() {
				for began := time.Now(); time.Since(began) < minutes*time.Minute; time.Sleep(time.Second) {
					resp, err := client.Do(request(t, http.MethodGet, "https://api.example", nil))
					if err != nil {
						t.Error(err)
						return
					}
					equal(t, "status", resp.StatusCode, http.StatusUnauthorized)
					equal(t, "the response's body", read(t, resp), "turned down")
				}
			})
		}
		working.Wait()
		if n := p.exchanges.Load(); n < minutes || n > 2*minutes+1 {
			t.Errorf("%d exchanges in %d minutes", n, minutes)
		}
	})
}

// However many requests a token was turned down for, one exchange follows, and all are sent again.
func TestTurnedDownForMany(t *testing.T) {
	const n = 50
	source, p := start(t)
	var all sync.WaitGroup // of the first requests
	all.Add(n)
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		if number(r) == "0" {
			all.Done()
			all.Wait()
			return answer(r, http.StatusUnauthorized, ""), nil
		}
		return answer(r, http.StatusOK, number(r)), nil
	})
	client := &http.Client{Transport: &bearer.Transport{Source: source, Base: base}}
	var working sync.WaitGroup
	for range n {
		r := request(t, http.MethodPost, "https://api.example", strings.NewReader("body"))
		working.Go(func() {
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			equal(t, "token", read(t, resp), "1")
		})
	}
	working.Wait()
	equal(t, "exchanges", p.exchanges.Load(), 1)
}

// Storm: the API revokes tokens at random under 16 callers in each of four managers. Every request
// is answered with 200, and each revocation causes one exchange.
func TestStorm(t *testing.T) {
	const managers, callers, revocations = 4, 16, 20
	a, store := api.New(revocations, managers*callers), memstore.New()
	must(t, store.Put(t.Context(), alice, credentials.Grant{
		AccessToken: credentials.NewSecret(api.FirstToken), Lifetime: time.Hour,
	}))
	server := httptest.NewServer(a)
	defer server.Close()
	base := &http.Transport{MaxIdleConnsPerHost: managers * callers}
	defer base.CloseIdleConnections()
	clients := make([]*http.Client, managers)
	for i := range clients {
		m := newManager(t, store, credentials.Service{Refresher: a, MinTokenAge: time.Nanosecond})
		clients[i] = &http.Client{Transport: &bearer.Transport{Source: sourceOf(t, m, alice), Base: base}}
	}
	must(t, a.Storm(t.Context(), server.URL, clients...))
	equal(t, "revocations", a.Revocations(), revocations)
	equal(t, "exchanges", a.Exchanges(), revocations)
}
