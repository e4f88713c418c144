package bearer_test

import (
	"net/http"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials/bearer"
)

// BenchmarkTransport is the cost of a request's token, over a base that answers at once, beside
// that of oauth2.Transport.
func BenchmarkTransport(b *testing.B) {
	source, _ := start(b)
	token := &oauth2.Token{AccessToken: mark + "-access-0", Expiry: time.Now().Add(24 * time.Hour)}
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	})
	for _, transport := range []struct {
		name string
		http.RoundTripper
	}{
		{"none", base},
		{"bearer", &bearer.Transport{Source: source, Base: base}},
		{"oauth2", &oauth2.Transport{Source: oauth2.ReuseTokenSource(token, nil), Base: base}},
	} {
		b.Run(transport.name, func(b *testing.B) {
			r := request(b, http.MethodGet, "https://api.example/user", nil)
			r.Header.Set("Accept", "application/json")
			r.Header.Set("User-Agent", "service")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := transport.RoundTrip(r); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// A request costs no more allocations than with oauth2.Transport.
func TestAllocations(t *testing.T) {
	source, _ := start(t)
	token := &oauth2.Token{AccessToken: mark + "-access-0", Expiry: time.Now().Add(24 * time.Hour)}
	base := roundTrip(func(*http.Request) (*http.Response, error) { return new(http.Response), nil })
	allocations := func(transport http.RoundTripper) float64 {
		r := request(t, http.MethodGet, "https://api.example/user", nil)
		return testing.AllocsPerRun(100, func() {
			if _, err := transport.RoundTrip(r); err != nil {
				t.Error(err)
			}
		})
	}
	got := allocations(&bearer.Transport{Source: source, Base: base})
	most := allocations(&oauth2.Transport{Source: oauth2.ReuseTokenSource(token, nil), Base: base})
	if got > most {
		t.Errorf("%v allocations, oauth2.Transport makes %v", got, most)
	}
}
