package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// A request carries the token, and the caller's own request stays as it was, in the response too.
func TestRequestCarriesTheToken(t *testing.T) {
	source, p := start(t)
	url, got := serve(t, "0", "")
	r := request(t, http.MethodPut, url, strings.NewReader("body"))
	r.Header.Set("Authorization", "Basic own")
	resp, err := bearer.Client(source).Transport.RoundTrip(r)
	must(t, err)
	equal(t, "status", resp.StatusCode, http.StatusOK)
	equal(t, "the response's body", read(t, resp), "body")
	equal(t, "the caller's header", r.Header.Get("Authorization"), "Basic own")
	equal(t, "the response's request is the caller's", resp.Request, r)
	equal(t, "exchanges", p.exchanges.Load(), 0)
	got.is(t, "0 body")
}

// A request without a header map is no request of http.NewRequest, but RoundTrippers get them.
func TestRequestWithoutHeader(t *testing.T) {
	source, _ := start(t)
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		equal(t, "token", number(r), "0")
		return answer(r, http.StatusOK, ""), nil
	})
	r := request(t, http.MethodGet, "https://api.example", nil)
	r.Header = nil
	_, err := (&bearer.Transport{Source: source, Base: base}).RoundTrip(r)
	must(t, err)
	equal(t, "the caller's header is nil", r.Header == nil, true)
}

// A program may set the value of a trailer when the body is read to its end.
func TestTrailerIsTheCallers(t *testing.T) {
	source, _ := start(t)
	r := request(t, http.MethodPost, "https://api.example", nil)
	r.Trailer = http.Header{"Sum": nil}
	base := roundTrip(func(sent *http.Request) (*http.Response, error) {
		r.Trailer.Set("Sum", "42")
		equal(t, "trailer", sent.Trailer.Get("Sum"), "42")
		return answer(sent, http.StatusOK, ""), nil
	})
	_, err := (&bearer.Transport{Source: source, Base: base}).RoundTrip(r)
	must(t, err)
}

// CloseIdleConnections of a client reaches the base.
func TestCloseIdleConnections(t *testing.T) {
	closed := 0
	base := struct {
		http.RoundTripper
		closer
	}{nil, func() { closed++ }}
	client := &http.Client{Transport: &bearer.Transport{Base: base}}
	client.CloseIdleConnections()
	client.Transport = &bearer.Transport{Base: roundTrip(nil)}
	client.CloseIdleConnections()
	equal(t, "calls", closed, 1)
}

type closer func()

func (c closer) CloseIdleConnections() { c() }

// A request that is not sent has its body closed, and the error tells the cause and no secret.
func TestNoToken(t *testing.T) {
	source, p := start(t)
	_, err := source.Token(t.Context())
	must(t, err)
	p.down.Store(true)
	unknown := sourceOf(t, newManager(t, memstore.New(), credentials.Service{Refresher: p}), alice)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	errOwn := errors.New("no account in the request")
	for _, test := range []struct {
		name      string
		transport bearer.Transport
		ctx       context.Context
		want      error
	}{
		{"unknown credential", bearer.Transport{Source: unknown}, t.Context(), credentials.ErrNotFound},
		{"the context has ended", bearer.Transport{Source: unknown}, ended, context.Canceled},
		{"no source", bearer.Transport{}, t.Context(), nil},
		{"none for the request", bearer.Transport{Source: source, SourceFor: func(*http.Request) (*credentials.Source, error) {
			return nil, nil
		}}, t.Context(), nil},
		{"an error for the request", bearer.Transport{Source: source, SourceFor: func(*http.Request) (*credentials.Source, error) {
			return nil, errOwn
		}}, t.Context(), errOwn},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.transport.Base = roundTrip(func(*http.Request) (*http.Response, error) {
				t.Error("the request was sent")
				return nil, errors.New("sent")
			})
			b := body("body")
			r := request(t, http.MethodPost, "https://api.example", b).WithContext(test.ctx)
			_, err := test.transport.RoundTrip(r)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
			silent(t, "the error", fmt.Sprintf("%v %+v %#v", err, err, err))
			equal(t, "the body was closed", b.closed.Load(), 1)
			r.Body = nil
			if _, err := test.transport.RoundTrip(r); err == nil {
				t.Error("no error without a body")
			}
		})
	}
}

// An error of the base is the base's own, of the second sending too; the first answer's body is
// closed then.
func TestErrorOfBase(t *testing.T) {
	source, _ := start(t)
	broken := errors.New("connection reset")
	first := body("turned down")
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		if number(r) == "0" {
			resp := answer(r, http.StatusUnauthorized, "")
			resp.Body = first
			return resp, nil
		}
		return nil, broken
	})
	transport := &bearer.Transport{Source: source, Base: base}
	for range 2 { // the second has the next token from the beginning
		resp, err := transport.RoundTrip(request(t, http.MethodGet, "https://api.example", nil))
		if resp != nil || err != broken {
			t.Errorf("got %v, error %v, want %v", resp, err, broken)
		}
	}
	equal(t, "the first answer's body was closed", first.closed.Load(), 1)
}

// A client that acts for many accounts chooses the credential of each request.
func TestSourceFor(t *testing.T) {
	store, p := memstore.New(), new(provider)
	m := newManager(t, store, credentials.Service{Refresher: p})
	for _, account := range []string{"alice", "bob"} {
		must(t, store.Put(t.Context(), credentials.Key{Service: alice.Service, Account: account},
			credentials.Grant{AccessToken: credentials.NewSecret(mark + "-access-of " + account)}))
	}
	type account struct{}
	client := &http.Client{Transport: &bearer.Transport{
		SourceFor: func(r *http.Request) (*credentials.Source, error) {
			name, _ := r.Context().Value(account{}).(string)
			return m.Source(credentials.Key{Service: alice.Service, Account: name})
		},
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusOK, number(r)), nil
		}),
	}}
	for _, name := range []string{"alice", "bob", "alice"} {
		ctx := context.WithValue(t.Context(), account{}, name)
		resp, err := client.Do(request(t, http.MethodGet, "https://api.example", nil).WithContext(ctx))
		must(t, err)
		equal(t, "token", read(t, resp), "of "+name)
	}
}

// Printing a transport, or the response's request, shows no token.
func TestSilent(t *testing.T) {
	source, _ := start(t)
	url, _ := serve(t, "1", "Bearer")
	client := bearer.Client(source)
	resp, err := client.Do(request(t, http.MethodGet, url, nil))
	must(t, err)
	silent(t, "the response", fmt.Sprintf("%+v %+v %s", resp, resp.Request, read(t, resp)))
	silent(t, "the transport", fmt.Sprintf("%+v %#v", client.Transport, *client.Transport.(*bearer.Transport)))
	silent(t, "the credentials of calls", fmt.Sprintf("%+v %#v", bearer.PerRPC{Source: source}, &bearer.PerRPC{Source: source}))
}
