package credentials_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// provider is a token endpoint with the ordinary rules, which revoke on reuse. It answers
// access-alice-1 and refresh-alice-1, then access-alice-2 and so on.
type provider struct {
	testkit.Families // guarded by mu, but for what a test sets before the first call

	latency         time.Duration
	refreshLifetime time.Duration // of refresh tokens; zero: it does not say

	script script // if set

	// presented, if set, looks at each call before it is answered.
	presented func(in credentials.RefreshInput)

	mu    sync.Mutex
	calls []presentation
	most  int // calls under way at the same time
	under int
}

func newProvider() *provider {
	p := &provider{latency: 200 * time.Millisecond}
	issued := make(map[string]int) // access tokens, by account
	p.Text = func(kind, account string) string {
		if kind == "access" {
			issued[account]++
		}
		return fmt.Sprintf("%s-%s-%s-%d", mark, kind, account[strings.Index(account, "/")+1:], issued[account])
	}
	return p
}

// presentation is one of a refresh token.
type presentation struct {
	Key          credentials.Key
	Holder       string
	Interrupted  string
	Began, Ended time.Time // Ended is zero while it is under way
}

// script answers in place of a provider, except where it returns errOrdinary. n counts the calls
// from 1.
type script func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error)

// refusing refuses everybody.
func refusing(e credentials.RefreshError) script {
	return func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
		refusal := e
		return credentials.Grant{}, &refusal
	}
}

// first has the script answer the first call alone.
func first(s script) script {
	return func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
		if n > 1 {
			return credentials.Grant{}, errOrdinary
		}
		return s(ctx, in, n)
	}
}

var errOrdinary = fmt.Errorf("answer in the ordinary way")

// invalidGrant is the answer to a refresh token that does not work any more.
func invalidGrant() error {
	return &credentials.RefreshError{Class: credentials.ClassDead, Code: "invalid_grant", Reason: "the provider says so"}
}

// client is the provider as one process calls it.
type client struct {
	*provider
	holder string
}

type holderKey struct{}

// Refresh implements [credentials.Refresher].
func (c client) Refresh(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
	return c.provider.Refresh(context.WithValue(ctx, holderKey{}, c.holder), in)
}

func holderOf(ctx context.Context) string {
	holder, _ := ctx.Value(holderKey{}).(string)
	return holder
}

// Refresh implements [credentials.Refresher].
func (p *provider) Refresh(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
	p.mu.Lock()
	n := len(p.calls)
	p.under++
	p.most = max(p.most, p.under)
	p.calls = append(p.calls, presentation{Key: in.Key, Holder: holderOf(ctx), Interrupted: in.Interrupted.By, Began: time.Now()})
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls[n].Ended = time.Now()
		p.under--
	}()
	if p.presented != nil {
		p.presented(in)
	}
	if p.script != nil {
		if g, err := p.script(ctx, in, n+1); err != errOrdinary {
			return g, err
		}
	}
	select {
	case <-time.After(p.latency):
	case <-ctx.Done():
		return credentials.Grant{}, ctx.Err()
	}
	return p.exchange(in)
}

// exchange takes effect.
func (p *provider) exchange(in credentials.RefreshInput) (credentials.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	access, refresh, err := p.Exchange(in.RefreshToken.Reveal(), time.Now())
	if err != nil {
		return credentials.Grant{}, invalidGrant()
	}
	g := credentials.Grant{AccessToken: credentials.NewSecret(access.Text), Lifetime: p.Lifetime}
	if refresh != nil {
		g.RefreshToken, g.RefreshLifetime = credentials.NewSecret(refresh.Text), p.refreshLifetime
		g.Lifetime = cmp.Or(p.Lifetime, time.Hour)
		g.Extra = map[string]credentials.Secret{"tenant": secret("tenant of " + in.Key.Account)}
	}
	return g, nil
}

// authorized is a person's authorization in place of earlier ones, which gives that refresh token.
func (p *provider) authorized(key credentials.Key, refreshToken string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Revoke(key.String())
	p.Adopt(key.String(), refreshToken)
}

// works reports whether a refresh token does.
func (p *provider) works(refreshToken credentials.Secret) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.RefreshToken(refreshToken.Reveal()).Works()
}

func (p *provider) record() []presentation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}
