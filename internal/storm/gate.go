package storm

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// gate stands before the token endpoint and records the claim of each presentation, which is in the
// URL and unknown to the endpoint. Under chaos the gate chooses the endpoint's faults.
type gate struct {
	provider *provider.Provider
	server   *http.Server
	served   chan struct{}
	url      string

	// arrived is called when a presentation arrives, before the endpoint works on it.
	arrived func(worker int, account string)

	mu        sync.Mutex // mu guards the fields below.
	random    *rand.Rand
	rate      float64 // The part of presentations that meet a fault.
	deck      []providerFault
	faults    map[string]int
	presented []audit.Presentation
}

// providerFault is a provider's fault under its name in reports.
type providerFault struct {
	name  string
	fault provider.Fault
}

// providerFaults are the faults of the provider under chaos, each as frequent as the others.
var providerFaults = []providerFault{
	{"status_429_retry_after", provider.Fault{Kind: provider.RateLimited, RetryAfter: time.Second}},
	{"status_503_retry_after", provider.Fault{Kind: provider.ServerError, RetryAfter: time.Second}},
	{"status_500", provider.Fault{
		Kind: provider.ServerError, Status: http.StatusInternalServerError,
	}},
	{"hang", provider.Fault{Kind: provider.Hang}},
	{"drop_before_rotation", provider.Fault{Kind: provider.Drop}},
	{"drop_after_rotation", provider.Fault{Kind: provider.Drop, Rotated: true}},
	{"broken_json", provider.Fault{Kind: provider.BrokenJSON, Rotated: true}},
}

func openGate(
	p *provider.Provider, seed uint64, arrived func(worker int, account string),
) (*gate, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the token endpoint: %w", err)
	}
	g := &gate{
		provider: p, url: "http://" + listener.Addr().String() + "/token",
		served: make(chan struct{}), arrived: arrived,
		random: rand.New(rand.NewPCG(seed, 1)), faults: make(map[string]int),
	}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(g.served)
		_ = g.server.Serve(listener)
	}()
	return g, nil
}

func (g *gate) close() {
	g.provider.Close()
	_ = g.server.Close()
	<-g.served
}

// setRate sets how often the endpoint answers badly.
func (g *gate) setRate(rate float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rate = rate
}

// draw chooses the fault of the account's next presentation. The caller holds mu.
func (g *gate) draw(account string) {
	if g.random.Float64() >= g.rate {
		return
	}
	if len(g.deck) == 0 { // With a deck in place of dice, a short run has each fault too.
		g.deck = append(g.deck, providerFaults...)
		g.random.Shuffle(len(g.deck), func(i, k int) { g.deck[i], g.deck[k] = g.deck[k], g.deck[i] })
	}
	drawn := g.deck[0]
	g.deck = g.deck[1:]
	g.faults[drawn.name]++
	g.provider.Enqueue(account, drawn.fault)
}

// ServeHTTP implements [http.Handler].
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	worker, _ := strconv.Atoi(query.Get("worker"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // The endpoint refuses a form that cannot be parsed.
	token := form.Get("refresh_token")
	one := audit.Presentation{
		Worker: worker, Claim: query.Get("claim"), Account: query.Get("account"),
		Serial: g.provider.Serial(token), Refresh: wire.Fingerprint(credentials.NewSecret(token)),
	}
	g.mu.Lock()
	one.Start = history.Now()
	g.draw(one.Account)
	g.presented = append(g.presented, one)
	g.mu.Unlock()
	g.arrived(worker, one.Account)

	g.provider.ServeHTTP(w, r)
}

// presentations returns the presentations in the order of arrival.
func (g *gate) presentations() []audit.Presentation {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.presented)
}

func (g *gate) faultCounts() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts := make(map[string]int, len(providerFaults))
	for _, f := range providerFaults {
		counts[f.name] = g.faults[f.name]
	}
	return counts
}
