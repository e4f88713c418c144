// Package provider is an OAuth 2.0 token endpoint for tests and demonstrations. It behaves as
// strict providers do: refresh tokens are single-use, each exchange hands out the next one, and a
// used one that comes back revokes the whole family (RFC 9700 section 4.14.2). On request it
// misbehaves: see [Fault]. It records every presentation, so that a load test can say afterwards
// who called how often: see [Presentation] and [Summarize].
//
// All state is in memory. Its mutex is never held while a presentation waits, so accounts never
// wait for each other.
package provider

import (
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/internal/testkit"
)

// DefaultLifetime is how long access tokens live unless [Options.Lifetime] says otherwise.
const DefaultLifetime = time.Hour

// Options configure a [Provider]. The zero Options make one that rotates, revokes on reuse and
// answers at once.
type Options struct {
	// Latency is how long a presentation takes before its rotation takes effect. Zero: it takes
	// effect at once. [Provider.SetLatency] sets it for one account.
	Latency time.Duration

	// Lifetime is how long access tokens live. "expires_in" is rounded down to seconds, to 0 if
	// need be, as Ory Hydra does. Zero: DefaultLifetime.
	Lifetime time.Duration

	// Grace is how long after its use a refresh token that is presented again gets a new answer
	// instead of having its family revoked. Zero: not at all.
	Grace time.Duration

	// KeepRefreshToken answers without a refresh token; the one in use stays and may be presented
	// any number of times.
	KeepRefreshToken bool

	// Dead is the answer to a refresh token that does not work. Zero: 400 invalid_grant (RFC 6749
	// section 5.2).
	Dead Answer

	// Early is how long before its end an access token can be replaced; a presentation before that
	// changes nothing, and gets TooEarly or, if that is zero, the present access token again. Zero:
	// it can be replaced at any time.
	Early    time.Duration
	TooEarly Answer

	// EndOldAccessToken ends an account's access token as soon as the next one is issued, as Ory
	// Hydra does.
	EndOldAccessToken bool

	// ClientID and ClientSecret are what clients must authenticate with, in the Authorization
	// header or the body (RFC 6749 section 2.3.1). Both empty: any client will do.
	ClientID, ClientSecret string

	// Extra is sent beside every token: scope, instance_url and the like. It may replace the
	// standard parameters too.
	Extra map[string]any

	// Rates are the faults that presentations meet at random, where none is queued for them. Seed
	// makes the same sequence of draws again.
	Rates []Rate
	Seed  uint64

	// OnPresentation, if set, is called with every presentation when it arrives, before its
	// latency. The presentation waits until it returns, so that a test can hold it.
	OnPresentation func(Presentation)
}

// Answer is an answer without token, in a provider's own words.
type Answer struct {
	Status int    // zero: 400
	Body   string // JSON
}

// Provider is the endpoint. It implements [http.Handler]; [Start] serves it on a port of its own.
type Provider struct {
	options Options
	mux     *http.ServeMux
	closed  chan struct{}
	closing sync.Once

	mu            sync.Mutex // guards what follows; never held while a presentation waits
	random        *mathrand.Rand
	rates         []Rate
	queue         []Fault // for whichever presentation comes next
	accounts      map[string]*account
	codes         map[string]*code
	families      testkit.Families
	presentations []Presentation
}

type account struct {
	latency time.Duration
	slow    bool // latency is set
	queue   []Fault
}

// New returns a provider without accounts. Accounts come with [Provider.Register].
func New(options Options) *Provider {
	if options.Lifetime == 0 {
		options.Lifetime = DefaultLifetime
	}
	p := &Provider{
		options:  options,
		mux:      http.NewServeMux(),
		closed:   make(chan struct{}),
		random:   mathrand.New(mathrand.NewPCG(options.Seed, 0)),
		rates:    options.Rates,
		accounts: make(map[string]*account),
		codes:    make(map[string]*code),
		families: testkit.Families{
			Lifetime: options.Lifetime, Grace: options.Grace,
			Keep: options.KeepRefreshToken, EndOld: options.EndOldAccessToken,
		},
	}
	p.options.Extra = maps.Clone(options.Extra)
	p.routes()
	return p
}

// ServeHTTP implements [http.Handler].
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Close ends what hangs and every latency: those presentations are cut off without an answer. It
// may be called again.
func (p *Provider) Close() { p.closing.Do(func() { close(p.closed) }) }

// Register authorizes the account, anew if it exists, and returns the first refresh token of a new
// family. Families of earlier authorizations live on.
func (p *Provider) Register(account string) (refreshToken string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.authorize(account).Newest.Text
}

// RegisterWithToken is [Provider.Register] and returns the family's first access token too, as the
// exchange of an authorization code does (RFC 6749 section 4.1.4).
func (p *Provider) RegisterWithToken(account string) (refreshToken, accessToken string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.authorize(account)
	return f.Newest.Text, p.families.Access(f, time.Time{}).Text
}

// authorize makes a new family of the account. The caller holds p.mu.
func (p *Provider) authorize(account string) *testkit.Family {
	p.account(account)
	return p.families.Authorize(account)
}

// Current reports whether refreshToken is the newest of a family of the account, and alive: whoever
// holds it holds the grant.
func (p *Provider) Current(account, refreshToken string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.families.RefreshToken(refreshToken)
	return t.Works() && t.Family.Account == account
}

// Serial returns the number under which presentations record the refresh token, 0 for one that was
// never issued.
func (p *Provider) Serial(refreshToken string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.families.RefreshToken(refreshToken); t != nil {
		return t.Serial
	}
	return 0
}

// Validate reports whether an API would accept the access token now, and whose it is. The account
// of a client_credentials grant is the client's id.
func (p *Provider) Validate(accessToken string) (account string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.families.AccessToken(accessToken)
	if !t.Works() {
		return "", false
	}
	return t.Account, true
}

// Revoke ends every family of the account and its access tokens, as a person does who withdraws the
// authorization.
func (p *Provider) Revoke(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.families.Revoke(account)
}

// SetLatency sets how long the account's presentations take from now on, in place of
// [Options.Latency].
func (p *Provider) SetLatency(account string, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.account(account)
	a.latency, a.slow = latency, true
}

// account returns the account's state, made if there is none. The caller holds p.mu.
func (p *Provider) account(name string) *account {
	a := p.accounts[name]
	if a == nil {
		a = new(account)
		p.accounts[name] = a
	}
	return a
}
