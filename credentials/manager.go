package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
	"unique"
)

// Defaults of [Options].
const (
	// DefaultLease covers the default time-outs below with room for a slow claim. It is how long the others wait after
	// a holder died, so it should not be longer than it has to be.
	DefaultLease = 30 * time.Second

	// MaxLease is the longest lease that is accepted.
	MaxLease = 24 * time.Hour

	// DefaultExchangeTimeout is longer than token endpoints take on a bad day: an exchange that is cut off leaves it
	// open whether the refresh token was used up.
	DefaultExchangeTimeout = 15 * time.Second

	// DefaultStoreTimeout bounds one call of the store.
	DefaultStoreTimeout = 5 * time.Second

	// DefaultRecheck is how soon a process notices that a credential was replaced, rejected or deleted elsewhere.
	DefaultRecheck = 30 * time.Second

	// DefaultCacheSize is more credentials than most processes serve within minutes, at some kilobytes each.
	DefaultCacheSize = 100_000

	// margin is kept free between the end of the save's budget and the lease's, for scheduling.
	margin = time.Second
)

// Options change a manager. Nil, and each field's zero value, means the default.
type Options struct {
	// Lease is how long a claim lasts. Zero: DefaultLease. At least ExchangeTimeout + StoreTimeout + one second, so
	// that an exchange and its save end before the lease does.
	Lease time.Duration

	// ExchangeTimeout bounds one exchange. Zero: DefaultExchangeTimeout.
	ExchangeTimeout time.Duration

	// StoreTimeout bounds one call of the store. Zero: DefaultStoreTimeout.
	StoreTimeout time.Duration

	// Recheck is how long a cached token is served before the store is looked at again, in the background. Zero:
	// DefaultRecheck.
	Recheck time.Duration

	// CacheSize is how many credentials' tokens this process keeps at most, beside those whose [Source] is held by the
	// program. Zero: DefaultCacheSize. One that was evicted costs a read of the store, not an exchange.
	CacheSize int

	// Holder names this process in the store, for people: printable ASCII, at most 255 bytes. Empty: host name and
	// process id.
	Holder string

	// Logger gets what no caller is told: failures of renewals ahead of expiry, and results that could not be saved
	// yet. No secret is logged. Nil: slog.Default().
	Logger *slog.Logger
}

// Manager hands out tokens and has them renewed. It is safe for concurrent use and starts no goroutine until it is
// asked for a token. A process needs one for each store.
type Manager struct {
	store    Store
	services ServiceFinder
	opts     Options
	epoch    time.Time // now() counts from it, by the monotonic clock
	poller   poller
	cache    cache

	keeper keeper

	mu      sync.Mutex    // guards the closing of closing, and flights.Add against it
	closing chan struct{} // closed by Close
	flights sync.WaitGroup

	ctx    context.Context // ends when Close stops waiting
	cancel context.CancelFunc
}

// NewManager returns a manager of the credentials in store. It reports nonsense in the services and options; it does no
// I/O.
func NewManager(store Store, services ServiceFinder, opts *Options) (*Manager, error) {
	if store == nil {
		return nil, errors.New("credentials.NewManager: store is nil")
	}
	switch s := services.(type) {
	case nil:
		return nil, errors.New("credentials.NewManager: services is nil; give a Services map or a ServicesFunc")
	case Services:
		if len(s) == 0 {
			return nil, errors.New("credentials.NewManager: there is no service; give at least one")
		}
		normalized, err := s.normalize()
		if err != nil {
			return nil, fmt.Errorf("credentials.NewManager: %w", err)
		}
		services = normalized
	case ServicesFunc:
		if s == nil {
			return nil, errors.New("credentials.NewManager: services is a nil ServicesFunc")
		}
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("credentials.NewManager: %w", err)
	}
	m := &Manager{store: store, services: services, opts: o, epoch: time.Now(), closing: make(chan struct{})}
	m.cache.size = o.CacheSize
	m.keeper.claims = make(chan struct{}, keepClaims)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.poller = poller{store: store, timeout: o.StoreTimeout, now: m.now, wake: make(chan struct{}, 1)}
	return m, nil
}

// complete fills in the defaults and checks what results.
func (o *Options) complete() error {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"Lease", &o.Lease, DefaultLease},
		{"ExchangeTimeout", &o.ExchangeTimeout, DefaultExchangeTimeout},
		{"StoreTimeout", &o.StoreTimeout, DefaultStoreTimeout},
		{"Recheck", &o.Recheck, DefaultRecheck},
	} {
		if *d.value < 0 {
			return fmt.Errorf("%s is %v; it must not be negative", d.name, *d.value)
		}
		*d.value = cmp.Or(*d.value, d.standard)
	}
	if o.Lease > MaxLease {
		return fmt.Errorf("Lease is %v; at most %v are allowed, since it is how long the others wait after a holder died", o.Lease, MaxLease)
	}
	if least := later(later(o.ExchangeTimeout, o.StoreTimeout), margin); o.Lease < least {
		return fmt.Errorf("Lease is %v, but ExchangeTimeout %v + StoreTimeout %v + %v to spare take %v; "+
			"an exchange must end before its lease does", o.Lease, o.ExchangeTimeout, o.StoreTimeout, margin, least)
	}
	if o.CacheSize < 0 {
		return fmt.Errorf("CacheSize is %d; it must not be negative", o.CacheSize)
	}
	o.CacheSize = cmp.Or(o.CacheSize, DefaultCacheSize)
	if o.Holder == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown-host"
		}
		o.Holder = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	o.Holder = printable(o.Holder, 255)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// Token returns a valid token of that credential: the cached one where it is fresh, without lock, allocation or I/O;
// else the store's; else the result of an exchange, which at most one process makes. A caller whose ctx ends leaves; the
// exchange goes on for the others.
//
// Errors: ctx's own; [ErrInvalidKey], [ErrUnknownService], [ErrNotFound], [ErrUnavailable], [ErrSchema], [ErrClosed];
// a [*RefreshError] where the exchange failed, in this process or in another, which is [ErrReauthRequired] where the
// grant is dead. While the token has not expired, none of them is returned.
func (m *Manager) Token(ctx context.Context, key Key) (Token, error) {
	source, err := m.Source(key)
	if err != nil {
		return Token{}, err
	}
	return source.Token(ctx)
}

// Reject reports a token that the external API turned down (401) before it expired. If there is a newer one by now, it
// is returned without an exchange; else one forced exchange follows, whoever and however many report it. Errors are
// those of Token.
func (m *Manager) Reject(ctx context.Context, key Key, turnedDown Token) (Token, error) {
	source, err := m.Source(key)
	if err != nil {
		return Token{}, err
	}
	return source.Reject(ctx, turnedDown)
}

// Source returns the handle for one credential, the same one for as long as the program holds it. The only error is
// [ErrInvalidKey]; whether the credential exists shows when it is used.
func (m *Manager) Source(key Key) (*Source, error) {
	if source := m.cache.get(unique.Make(key)); source != nil {
		return source, nil
	}
	key, err := key.Normalize()
	if err != nil {
		return nil, err
	}
	return m.cache.admit(unique.Make(key), m), nil
}

// Close lets the exchanges that are under way in this process end and saves their results; callers that wait for them
// get them, callers that wait for another process's get [ErrClosed]. From then on cached tokens are served while they
// are valid, and everything else gets [ErrClosed]. If ctx ends first, Close returns its error, and results that could
// not be saved are lost.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if !m.isClosing() {
		close(m.closing)
	}
	m.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		m.flights.Wait()
		close(ended)
	}()
	defer m.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("credentials: close with exchanges under way: %w", ctx.Err())
	}
}

// begin reports whether something may be started that Close waits for; flights.Done ends it.
func (m *Manager) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isClosing() {
		return false
	}
	m.flights.Add(1)
	return true
}

func (m *Manager) isClosing() bool {
	select {
	case <-m.closing:
		return true
	default:
		return false
	}
}

// now is the time since the manager was built, by this host's monotonic clock. All deadlines are kept in it.
func (m *Manager) now() time.Duration { return time.Since(m.epoch) }

// later is at + d, Never if that lies beyond.
func later(at, d time.Duration) time.Duration {
	if d > 0 && at > Never-d {
		return Never
	}
	return at + d
}
