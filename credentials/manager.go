package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unique"
)

// Manager hands out tokens and has them renewed. It is safe for concurrent use and starts no
// goroutine until it is asked for a token. A process needs one for each store.
type Manager struct {
	*engine
	sources cache
}

// NewManager returns a manager of the credentials in store. It reports nonsense in the services and
// options; it does no I/O.
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
	m := &Manager{engine: newEngine(store, services, o)}
	m.sources.size, m.sources.lookout = o.CacheSize, newLookout(m.engine)
	return m, nil
}

// Token returns a valid token of that credential: the cached one where it is fresh, without lock,
// allocation or I/O; else the store's; else the result of an exchange, which at most one process
// makes. A caller whose ctx ends leaves; the exchange goes on for the others.
//
// Errors: ctx's own; [ErrInvalidKey], [ErrUnknownService], [ErrNotFound], [ErrUnavailable],
// [ErrSchema], [ErrClosed]; a [*RefreshError] where the exchange failed, in this process or in
// another, which is [ErrGrantDead] where the grant is dead. While the token has not expired,
// none of them is returned.
func (m *Manager) Token(ctx context.Context, key Key) (Token, error) {
	source, err := m.Source(key)
	if err != nil {
		return Token{}, err
	}
	return source.Token(ctx)
}

// TokenFor returns a token that is good for so long from now: for a job that cannot ask again. If
// the present one is not, it is renewed early, once for all processes; callers of Token get the
// present one meanwhile, and also if the renewal fails.
//
// Errors are those of Invalidate, and one more: [ErrShortLived] where the present token did not
// live that long when an exchange brought it, so that another exchange would not help, or where the
// next token does not. One call causes one exchange at most. A life of zero or less is that of
// Token.
func (m *Manager) TokenFor(ctx context.Context, key Key, life time.Duration) (Token, error) {
	source, err := m.Source(key)
	if err != nil {
		return Token{}, err
	}
	return source.TokenFor(ctx, life)
}

// Invalidate reports a token that the external API turned down (401) before it expired. If there is
// a newer token by now, it is returned without an exchange; else one forced exchange follows,
// however many callers report the token.
//
// Errors are those of Token, and one more: a token that an exchange brought less than
// [Service].MinTokenAge ago is too young to be exchanged, unless it is due. The [*RefreshError] is
// of [ClassTransient] with the code too_young, and RetryAt says when the token may be exchanged.
// Token gives the token that was turned down to other callers, until it expires or a later
// Invalidate succeeds.
func (m *Manager) Invalidate(ctx context.Context, key Key, turnedDown Token) (Token, error) {
	source, err := m.Source(key)
	if err != nil {
		return Token{}, err
	}
	return source.Invalidate(ctx, turnedDown)
}

// Report is Invalidate that does not wait: for a program that hands the API's 401 on, or has
// nothing to send again. Report returns at once, and one exchange follows in the background under
// the rules of Invalidate; callers of Token wait for that exchange. A failure is logged. A key that
// is not valid, or a manager that was closed, makes Report do nothing.
func (m *Manager) Report(ctx context.Context, key Key, turnedDown Token) {
	if source, err := m.Source(key); err == nil {
		source.Report(ctx, turnedDown)
	}
}

// Status returns how the credential stands in the store now, whatever this process has in its
// cache. Nothing is renewed, and the credential's service need not be known.
//
// Errors: ctx's own; [ErrInvalidKey], [ErrNotFound], [ErrUnavailable], [ErrSchema], [ErrClosed].
func (m *Manager) Status(ctx context.Context, key Key) (Status, error) {
	key, err := key.Normalize()
	if err != nil {
		return Status{}, err
	}
	c, err := m.look(ctx, key)
	if err != nil {
		return Status{}, fmt.Errorf("status of %s: %w", key, err)
	}
	return c.Status(), nil
}

// look reads a credential together with others that are read meanwhile. A caller whose ctx ends
// leaves, and the read goes on for the others.
func (m *Manager) look(ctx context.Context, key Key) (Credential, error) {
	if ctx.Err() != nil {
		return Credential{}, ended(ctx)
	}
	if !m.begin() {
		return Credential{}, ErrClosed
	}
	answer := make(chan Found, 1)
	go func() {
		defer m.inflight.Done()
		c, err := m.reads.do(context.WithoutCancel(ctx), key, m.getAll)
		answer <- Found{c.Credential, err}
	}()
	select {
	case found := <-answer:
		return found.Credential, found.Err
	case <-ctx.Done():
		return Credential{}, ended(ctx)
	}
}

// Source returns the handle for one credential, the same one for as long as the program holds it.
// The only error is [ErrInvalidKey]; whether the credential exists shows when it is used.
func (m *Manager) Source(key Key) (*Source, error) {
	if source := m.sources.get(unique.Make(key)); source != nil {
		return source, nil
	}
	key, err := key.Normalize()
	if err != nil {
		return nil, err
	}
	return m.sources.admit(unique.Make(key), m.engine), nil
}

// Stats returns what this process has done so far, and how it stands. It can be published with
// package expvar as it is.
func (m *Manager) Stats() Stats {
	stats := m.events.figures()
	stats.Cached = m.sources.kept()
	stats.StoreDown = !m.health.answers()
	return stats
}

// Close lets the exchanges that are under way in this process end and saves their results; callers
// that wait for them get them, callers that wait for another process's get [ErrClosed]. From then
// on cached tokens are served while they are valid, and everything else gets [ErrClosed]. If ctx
// ends first, Close returns its error, and results that could not be saved are lost. A ctx that has
// ended already, such as that of a signal, is not obeyed: Close then waits as long as an exchange
// and its save may take.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.shut()
	m.mu.Unlock()
	callers := ctx
	if ctx.Err() != nil {
		most := m.opts.ExchangeTimeout + m.opts.grace()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
		defer cancel()
		ctx = limited
	}
	ended := make(chan struct{})
	go func() {
		m.inflight.Wait()
		m.events.flush()
		m.log.flush()
		close(ended)
	}()
	defer m.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("credentials: close with exchanges under way: %w", callers.Err())
	}
}

// Format implements [fmt.Formatter]: no verb shows more than the holder's name. The fields lead
// to the client secrets of the program's refreshers.
func (m *Manager) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "credentials.Manager of "+m.holder())
}
