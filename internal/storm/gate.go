package storm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// gate stands before the token endpoint. It knows who presents what under which claim, since that is in the URL, and
// what goes out: the endpoint's own record knows neither. Under chaos it chooses the faults.
type gate struct {
	p      *provider.Provider
	server *http.Server
	served chan struct{}
	url    string

	// arrived is called when a presentation arrives, before the endpoint works on it.
	arrived func(worker int, account string)

	mu        sync.Mutex // guards what follows
	random    *rand.Rand
	rate      float64 // of faults; 0: none
	deck      []namedFault
	faults    map[string]int
	presented []*presentation
}

// presentation is one request.
type presentation struct {
	Worker  int
	Claim   string
	Account string
	Serial  int64  // of the refresh token
	Refresh string // its fingerprint
	Fault   string

	Start, End int64 // by history.Now; End 0: under way

	arrived time.Time // as Start, by the clock that the provider uses

	// Next is the fingerprint of the refresh token in the answer, if that went out whole.
	Next string
}

// namedFault is a provider's fault under the name that reports have for it.
type namedFault struct {
	name  string
	fault provider.Fault
}

// chaosFaults are all that goes wrong at the provider under chaos, each as often as the others.
var chaosFaults = []namedFault{
	{"status_429_retry_after", provider.Fault{Kind: provider.RateLimited, RetryAfter: time.Second}},
	{"status_503_retry_after", provider.Fault{Kind: provider.ServerError, RetryAfter: time.Second}},
	{"status_500", provider.Fault{Kind: provider.ServerError, Status: http.StatusInternalServerError}},
	{"hang", provider.Fault{Kind: provider.Hang}},
	{"drop_before_rotation", provider.Fault{Kind: provider.Drop}},
	{"drop_after_rotation", provider.Fault{Kind: provider.Drop, Rotated: true}},
	{"broken_json", provider.Fault{Kind: provider.BrokenJSON, Rotated: true}},
}

func openGate(p *provider.Provider, seed uint64, arrived func(worker int, account string)) (*gate, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the token endpoint: %w", err)
	}
	g := &gate{
		p: p, url: "http://" + listener.Addr().String() + "/token", served: make(chan struct{}), arrived: arrived,
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
	g.p.Close()
	_ = g.server.Close()
	<-g.served
}

// setRate sets how often the endpoint answers badly.
func (g *gate) setRate(rate float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rate = rate
}

// draw chooses what the account's next presentation meets. The caller holds g.mu.
func (g *gate) draw(account string) string {
	if g.random.Float64() >= g.rate {
		return ""
	}
	if len(g.deck) == 0 { // a deck instead of dice: in a short run too, each of them comes
		g.deck = append(g.deck, chaosFaults...)
		g.random.Shuffle(len(g.deck), func(i, k int) { g.deck[i], g.deck[k] = g.deck[k], g.deck[i] })
	}
	drawn := g.deck[0]
	g.deck = g.deck[1:]
	g.faults[drawn.name]++
	g.p.Enqueue(account, drawn.fault)
	return drawn.name
}

// ServeHTTP implements [http.Handler].
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	whose := r.URL.Query()
	worker, _ := strconv.Atoi(whose.Get("worker"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // what cannot be parsed, the endpoint refuses
	token := form.Get("refresh_token")
	one := &presentation{
		Worker: worker, Claim: whose.Get("claim"), Account: whose.Get("account"),
		Serial: g.p.Serial(token), Refresh: fingerprint(credentials.NewSecret(token)),
	}
	g.mu.Lock()
	one.Start, one.arrived, one.Fault = history.Now(), time.Now(), g.draw(one.Account)
	g.presented = append(g.presented, one)
	g.mu.Unlock()
	if g.arrived != nil {
		g.arrived(worker, one.Account)
	}

	copied := &answerCopy{ResponseWriter: w}
	defer func() { // also where the endpoint breaks the answer off, which it does with a panic
		var answer struct {
			AccessToken  string `json:"access_token"`
			RefreshToken string `json:"refresh_token"`
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		one.End = history.Now()
		if json.Unmarshal(copied.body, &answer) == nil && answer.AccessToken != "" {
			one.Next = fingerprint(credentials.NewSecret(answer.RefreshToken))
		}
	}()
	g.p.ServeHTTP(copied, r)
}

// presentations returns what arrived, in that order.
func (g *gate) presentations() []presentation {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]presentation, len(g.presented))
	for i, one := range g.presented {
		all[i] = *one
	}
	return all
}

func (g *gate) faultCounts() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts := make(map[string]int, len(chaosFaults))
	for _, f := range chaosFaults {
		counts[f.name] = g.faults[f.name]
	}
	return counts
}

// answerCopy keeps what is written.
type answerCopy struct {
	http.ResponseWriter

	body []byte
}

func (c *answerCopy) Write(p []byte) (int, error) {
	c.body = append(c.body, p...)
	return c.ResponseWriter.Write(p)
}

// Unwrap lets an [http.ResponseController] hijack and flush.
func (c *answerCopy) Unwrap() http.ResponseWriter { return c.ResponseWriter }
