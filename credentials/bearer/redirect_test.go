package bearer_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials/bearer"
)

// redirecting is a base without a network, whose servers redirect from one URL of the list to the
// next. The journal has the hops. The responses know their requests, or have forgotten them, as
// those of some RoundTrippers do.
func redirecting(got *journal, hops []string, forgetful bool) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		token := number(r)
		url := r.URL.Scheme + "://" + r.URL.Host
		got.add(url + " " + token)
		at := len(got.lines)
		resp := answer(r, http.StatusOK, "")
		if at < len(hops) {
			resp.StatusCode = http.StatusFound
			resp.Header.Set("Location", hops[at])
		}
		if forgetful {
			resp.Request = nil
		}
		return resp, nil
	}
}

// No hop of a redirect has the token that left the first request's origin, or comes after one that
// did.
func TestRedirects(t *testing.T) {
	for _, test := range []struct {
		hops  string // the first request, and where it is redirected
		token string // by hop: yes or no
	}{
		{"https://api.example https://api.example", "yes yes"},
		{"https://api.example https://API.example:443 https://api.example", "yes yes yes"},
		{"https://api.example https://other.example", "yes no"},
		{"https://api.example https://api.example.evil.example", "yes no"},
		{"https://api.example https://sub.api.example", "yes no"},
		{"https://api.example https://example", "yes no"},
		{"https://api.example https://api.example:8443", "yes no"},
		{"https://api.example:8443 https://api.example:8443", "yes yes"},
		{"https://api.example http://api.example", "yes no"},
		{"https://api.example http://api.example:443", "yes no"},
		{"http://api.example https://api.example", "yes yes"},
		{"http://api.example https://api.example http://api.example", "yes yes no"},
		{"http://api.example:8080 https://api.example:8443", "yes no"},
		{"http://api.example:80 https://api.example:8443", "yes no"},
		{"http://api.example:8080 https://api.example", "yes no"},
		{"https://api.example https://other.example https://api.example", "yes no no"},
		{"https://api.example https://other.example https://other.example", "yes no no"},
		{"https://[::1] https://[::1]:443 https://[::2]", "yes yes no"},
	} {
		t.Run(test.hops, func(t *testing.T) {
			hops := strings.Fields(test.hops)
			want := make([]string, len(hops))
			for i, token := range strings.Fields(test.token) {
				want[i] = hops[i] + " " + map[string]string{"yes": "0", "no": "none"}[token]
			}
			for _, forgetful := range []bool{false, true} {
				source, p := start(t)
				var got journal
				base := redirecting(&got, hops, forgetful)
				client := &http.Client{Transport: &bearer.Transport{Source: source, Base: base}}
				resp, err := client.Do(request(t, http.MethodGet, hops[0], nil))
				must(t, err)
				equal(t, "status", resp.StatusCode, http.StatusOK)
				got.is(t, want...)
				equal(t, "exchanges", p.exchanges.Load(), 0)
			}
		})
	}
}

// Another host that answers 401 learns no token, and causes no exchange.
func TestOtherHostThatAnswers401(t *testing.T) {
	source, p := start(t)
	other, got := serve(t, "never", "Bearer")
	server := httptest.NewServer(http.RedirectHandler(other, http.StatusTemporaryRedirect))
	defer server.Close()
	resp, err := bearer.Client(source).Do(request(t, http.MethodPost, server.URL, strings.NewReader("body")))
	must(t, err)
	equal(t, "status", resp.StatusCode, http.StatusUnauthorized)
	equal(t, "the response's body", read(t, resp), "turned down")
	got.is(t, "none body")
	equal(t, "exchanges", p.exchanges.Load(), 0)
}

// A redirect whose earlier request nobody knows may come from anywhere.
func TestRedirectFromUnknown(t *testing.T) {
	source, _ := start(t)
	var got journal
	r := request(t, http.MethodGet, "https://api.example", nil)
	r.Response = answer(nil, http.StatusFound, "")
	_, err := (&bearer.Transport{Source: source, Base: redirecting(&got, nil, false)}).RoundTrip(r)
	must(t, err)
	got.is(t, "https://api.example none")
}

// A token that is turned down after a redirect within the host is exchanged as any.
func TestTurnedDownAfterRedirect(t *testing.T) {
	source, p := start(t)
	var got journal
	mux := http.NewServeMux()
	mux.Handle("/from", http.RedirectHandler("/to", http.StatusTemporaryRedirect))
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		got.add(number(r))
		if number(r) == "0" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	resp, err := bearer.Client(source).Do(request(t, http.MethodPost, server.URL+"/from", strings.NewReader("body")))
	must(t, err)
	equal(t, "status", resp.StatusCode, http.StatusOK)
	equal(t, "the answer is from", fmt.Sprint(resp.Request.URL), server.URL+"/to")
	got.is(t, "0", "1")
	equal(t, "exchanges", p.exchanges.Load(), 1)
}
