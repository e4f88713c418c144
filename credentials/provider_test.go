package credentials_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// provider is a token endpoint. It rotates refresh tokens, which work once, and refuses one that was used up.
type provider struct {
	latency time.Duration

	lifetime        time.Duration // of access tokens; zero: an hour
	refreshLifetime time.Duration // of refresh tokens; zero: it does not say
	keeps           bool          // it does not rotate: refresh tokens stay, and are not sent again

	// script, if set, answers instead, except where it returns errOrdinary. n counts the calls from 1.
	script func(ctx context.Context, c credentials.Credential, n int) (credentials.Grant, error)

	// called, if set, looks at each call before it is answered.
	called func(c credentials.Credential)

	mu     sync.Mutex
	grants map[credentials.Key]*grant
	calls  []call
	most   int // calls under way at the same time
	under  int
}

// grant is what the provider knows of one account.
type grant struct {
	refreshToken string // the living one
	issued       int    // access tokens
}

// call is a presentation of a refresh token.
type call struct {
	Key          credentials.Key
	Holder       string
	Interrupted  string
	Began, Ended time.Time // Ended is zero while it is under way
}

var errOrdinary = fmt.Errorf("answer in the ordinary way")

// invalidGrant is the answer to a refresh token that does not work any more.
func invalidGrant() error {
	return &credentials.RefreshError{Class: credentials.Rejected, Code: "invalid_grant", Reason: "the provider says so"}
}

// Refresh implements [credentials.Refresher].
func (p *provider) Refresh(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
	p.mu.Lock()
	n := len(p.calls)
	p.under++
	p.most = max(p.most, p.under)
	p.calls = append(p.calls, call{Key: c.Key, Holder: c.Lease.Holder, Interrupted: c.Interrupted.By, Began: time.Now()})
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls[n].Ended = time.Now()
		p.under--
	}()
	if p.called != nil {
		p.called(c)
	}
	if p.script != nil {
		if g, err := p.script(ctx, c, n+1); err != errOrdinary {
			return g, err
		}
	}
	select {
	case <-time.After(p.latency):
	case <-ctx.Done():
		return credentials.Grant{}, ctx.Err()
	}
	return p.rotate(c)
}

// rotate uses the refresh token up and issues the next ones: access-alice-1, then access-alice-2 and so on.
func (p *provider) rotate(c credentials.Credential) (credentials.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.grants[c.Key]
	if g == nil || g.refreshToken != c.RefreshToken.Reveal() {
		return credentials.Grant{}, invalidGrant()
	}
	g.issued++
	if p.keeps {
		return credentials.Grant{Token: secret(fmt.Sprintf("access-%s-%d", c.Key.Account, g.issued)), Lifetime: p.lifetime}, nil
	}
	next := secret(fmt.Sprintf("refresh-%s-%d", c.Key.Account, g.issued))
	g.refreshToken = next.Reveal()
	return credentials.Grant{
		Token:           secret(fmt.Sprintf("access-%s-%d", c.Key.Account, g.issued)),
		RefreshToken:    next,
		RefreshLifetime: p.refreshLifetime,
		Lifetime:        cmp.Or(p.lifetime, time.Hour),
		Extra:           map[string]credentials.Secret{"tenant": secret("tenant of " + c.Key.Account)},
	}, nil
}

// authorized is a person's authorization, which gives that refresh token.
func (p *provider) authorized(key credentials.Key, refreshToken string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grants[key] == nil {
		p.grants[key] = new(grant)
	}
	p.grants[key].refreshToken = refreshToken
}

func (p *provider) record() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}
