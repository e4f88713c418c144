package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Refresher exchanges a credential's refresh token (or the program's own client credentials) at a provider's token
// endpoint. Package oauth2refresh has the one for OAuth 2.0.
type Refresher interface {
	// Refresh presents c.RefreshToken once and returns what the provider granted. It never presents it twice, is
	// called under a committed claim that covers ctx's deadline, and must give up when ctx ends. The error should be
	// a [*RefreshError], which says whether the refresh token is dead, untouched or possibly used up; any other error
	// counts as possibly used up. No error may carry a secret or a response body.
	Refresh(ctx context.Context, c Credential) (Grant, error)
}

// RefresherFunc adapts a function to [Refresher].
type RefresherFunc func(ctx context.Context, c Credential) (Grant, error)

// Refresh calls f.
func (f RefresherFunc) Refresh(ctx context.Context, c Credential) (Grant, error) { return f(ctx, c) }

// Replay says what the next claim does when an earlier exchange's outcome is unknown: its holder died, or the reply
// was lost.
type Replay int

// The replay policies.
const (
	// ReplayOnce presents the refresh token again, the only chance to rescue the grant. Right for client credentials,
	// for providers that do not rotate, and for those with a grace window. A provider that takes it for reuse answers
	// invalid_grant, and the error then names the interrupted exchange. The default.
	ReplayOnce Replay = iota

	// NeverReplay gives the grant up: the credential asks for a new authorization and says why. Right where reuse
	// costs more than one grant.
	NeverReplay
)

// Service is the policy of one external API.
type Service struct {
	// Refresher calls the provider. It must be set.
	Refresher Refresher

	// Replay is what to do after an unknown outcome. Zero: ReplayOnce.
	Replay Replay

	// DefaultLifetime is how long a token lives whose provider does not say (RFC 6749 section 5.1 has it documented
	// instead). Zero: it is kept until it is rejected.
	DefaultLifetime time.Duration

	// RefreshAhead is how long before its expiration a token is due for renewal, while callers still get it. Zero: the
	// last fifth of its life, at most 5 minutes. Never more than half of its life.
	RefreshAhead time.Duration

	// KeepAlive is for how long at most a refresh token stays unused, for providers that end a grant which was idle for
	// some days: the credential is due by then, whatever the access token's life, and [Manager.Keep] renews it though
	// nobody asks. Choose it well below the provider's limit; a minute at least. Zero: the access token's life decides.
	//
	// It counts from an exchange. A put knows no service; say in its RefreshLifetime when the idle grant will end.
	KeepAlive time.Duration

	// KeepParallel is how many exchanges [Manager.Keep] and [Manager.RefreshDue] make for this service at the same time,
	// in each process, and how many credentials they claim at once. Zero: DefaultKeepParallel.
	KeepParallel int

	// KeepRate is how many exchanges per second they begin for this service, in each process. Zero: no limit but
	// KeepParallel. Exchanges that callers wait for do not count.
	KeepRate float64
}

// DefaultKeepParallel is how many exchanges of one service the keeper makes at the same time.
const DefaultKeepParallel = 16

// leastKeepAlive is the shortest KeepAlive that is no mistake.
const leastKeepAlive = time.Minute

// dueIn returns when a credential with a token and a refresh token of those lifetimes is due; Never is that of one that
// does not end, or of which an exchange would not make a new one.
func (s Service) dueIn(lifetime, refreshLifetime time.Duration) time.Duration {
	due := DueIn(lifetime)
	if s.RefreshAhead > 0 && lifetime != Never {
		due = lifetime - min(s.RefreshAhead, lifetime/2)
	}
	if s.KeepAlive > 0 {
		due = min(due, s.KeepAlive)
	}
	return min(due, DueIn(refreshLifetime))
}

// DueIn returns when a token with that remaining life is due under the default policy: in the last fifth of its life,
// and no more than 5 minutes before its end.
func DueIn(lifetime time.Duration) time.Duration {
	if lifetime == Never {
		return Never
	}
	return lifetime - min(lifetime/5, 5*time.Minute)
}

// check reports what is wrong with the policy.
func (s Service) check() error {
	f, isFunc := s.Refresher.(RefresherFunc)
	switch {
	case s.Refresher == nil, isFunc && f == nil:
		return errors.New("Refresher is not set")
	case s.Replay != ReplayOnce && s.Replay != NeverReplay:
		return fmt.Errorf("Replay is %d; use ReplayOnce or NeverReplay", s.Replay)
	case s.DefaultLifetime < 0:
		return fmt.Errorf("DefaultLifetime is %v; it must not be negative", s.DefaultLifetime)
	case s.RefreshAhead < 0:
		return fmt.Errorf("RefreshAhead is %v; it must not be negative", s.RefreshAhead)
	case s.DefaultLifetime > 0 && s.RefreshAhead >= s.DefaultLifetime:
		return fmt.Errorf("RefreshAhead is %v, and DefaultLifetime %v; a token would be due before it is issued", s.RefreshAhead, s.DefaultLifetime)
	case s.KeepAlive != 0 && s.KeepAlive < leastKeepAlive:
		return fmt.Errorf("KeepAlive is %v; at least %v, or zero for none", s.KeepAlive, leastKeepAlive)
	case s.KeepParallel < 0:
		return fmt.Errorf("KeepParallel is %d; it must not be negative", s.KeepParallel)
	case !(s.KeepRate >= 0) || math.IsInf(s.KeepRate, 1): // NaN is not either
		return fmt.Errorf("KeepRate is %v exchanges per second; it must be a number that is not negative", s.KeepRate)
	}
	if c, ok := s.Refresher.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// ServiceFinder gives the policy of a service by its normalized name: [Services], or a [ServicesFunc] for programs that
// learn their services at run time.
type ServiceFinder interface {
	// Service returns the service's policy, or an error that wraps [ErrUnknownService].
	Service(ctx context.Context, name string) (Service, error)
}

// Services maps names to policies. Names are normalized when the manager is built.
type Services map[string]Service

// Service returns the policy under that name; see [ServiceFinder].
func (s Services) Service(_ context.Context, name string) (Service, error) {
	service, ok := s[name]
	if !ok {
		known := slices.Sorted(maps.Keys(s))
		return Service{}, fmt.Errorf("%w %q; registered are: %s", ErrUnknownService, name, strings.Join(known, ", "))
	}
	return service, nil
}

// normalize returns the map under normalized names, or what is wrong with it.
func (s Services) normalize() (Services, error) {
	normalized := make(Services, len(s))
	given := make(map[string]string, len(s))
	for _, name := range slices.Sorted(maps.Keys(s)) {
		n, err := NormalizeService(name)
		if err != nil {
			return nil, err
		}
		if other, ok := given[n]; ok {
			return nil, fmt.Errorf("%w: the services %q and %q are both %q; remove one", ErrInvalidKey, other, name, n)
		}
		if err := s[name].check(); err != nil {
			return nil, fmt.Errorf("service %q: %w", name, err)
		}
		given[n], normalized[n] = name, s[name]
	}
	return normalized, nil
}

// ServicesFunc adapts a function to [ServiceFinder]: one OAuth app per tenant, say, under names such as
// "xero:tenant-42". It is asked each time the store has to be read, not for cached tokens, so it should be quick or
// keep what it found. Its errors should wrap [ErrUnknownService] where there is no such service.
type ServicesFunc func(ctx context.Context, name string) (Service, error)

// Service calls f and checks what it returned.
func (f ServicesFunc) Service(ctx context.Context, name string) (Service, error) {
	service, err := f(ctx, name)
	if err != nil {
		return Service{}, err
	}
	if err := service.check(); err != nil {
		return Service{}, fmt.Errorf("service %q: %w", name, err)
	}
	return service, nil
}
