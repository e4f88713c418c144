package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Refresher exchanges a credential's refresh token, or the program's own client credentials, at a
// provider's token endpoint. Package oauth2refresh has the one for OAuth 2.0.
type Refresher interface {
	// Refresh presents in.RefreshToken once and returns the grant of the provider's answer. Refresh
	// never presents the token twice, is called under a committed claim that covers ctx's deadline,
	// and must give up when ctx ends. The error should be a [*RefreshError], which says whether the
	// refresh token is dead, untouched or possibly used up; any other error counts as possibly used
	// up. No error may carry a secret or a response body.
	Refresh(ctx context.Context, in RefreshInput) (Grant, error)
}

// RefreshInput is all that a [Refresher] learns of a credential.
type RefreshInput struct {
	Key          Key
	RefreshToken Secret            // zero where the grant has none, as with client credentials
	Extra        map[string]Secret // the entries that came beside the present token

	// Fence identifies the claim under which the exchange is made. No two exchanges have the same:
	// it serves as an idempotency key, where a provider takes one, and in logs.
	Fence Fence

	// Interrupted names an exchange since the last success whose outcome nobody knows: the provider
	// may have seen the refresh token already. Zero: there was none.
	Interrupted Interruption
}

// RefresherFunc adapts a function to [Refresher].
type RefresherFunc func(ctx context.Context, in RefreshInput) (Grant, error)

// Refresh calls f.
func (f RefresherFunc) Refresh(ctx context.Context, in RefreshInput) (Grant, error) {
	return f(ctx, in)
}

// Replay decides about the next claim when an earlier exchange's outcome is unknown: its holder
// died, or the reply was lost.
type Replay int

// The replay policies.
const (
	// ReplayOnce presents the refresh token again, the only chance to rescue the grant. Right for
	// client credentials, for providers that do not rotate, and for those with a grace window. A
	// provider that takes it for reuse answers invalid_grant, and the error then names the
	// interrupted exchange. The default.
	ReplayOnce Replay = iota

	// ReplayTwice is ReplayOnce for providers that refuse a refresh token while another request
	// with it is under way, as Salesforce does, and that revoke nothing on reuse: a provider that
	// calls the grant dead after an interrupted exchange is asked once more, a minute later, before
	// it is believed. Callers get a [*RefreshError] of ClassTransient meanwhile.
	ReplayTwice

	// NeverReplay gives the grant up: the credential asks for a new authorization and says why.
	// Right where reuse costs more than one grant.
	NeverReplay
)

// DefaultMinTokenAge bounds the exchanges that an API causes which turns every token down: two a
// minute.
const DefaultMinTokenAge = 30 * time.Second

// Service is the policy of one external API.
type Service struct {
	// Refresher calls the provider. It must be set.
	Refresher Refresher

	// ClientCredentials says that Refresher presents the program's own credentials (RFC 6749
	// section 4.4), so that nobody authorizes: a credential that is not in the store is made there
	// when its token is first asked for. False: [ErrNotFound] then, as a grant has to be put first.
	ClientCredentials bool

	// Replay is the policy after an unknown outcome. Zero: ReplayOnce.
	Replay Replay

	// DefaultLifetime is how long a token lives whose provider does not say (RFC 6749 section 5.1
	// has it documented instead). Zero: it is kept until it is rejected.
	DefaultLifetime time.Duration

	// MaxLifetime is the longest that a token is taken to live, whatever the provider says or
	// leaves out: a bound for providers that name a lifetime in milliseconds, or one that is not
	// kept. Zero: none.
	MaxLifetime time.Duration

	// RefreshAhead is how long before its expiration a token is due for renewal, while callers
	// still get it. Zero: the last fifth of its life, at most 5 minutes. Never more than half of
	// its life.
	RefreshAhead time.Duration

	// KeepAlive is for how long at most a refresh token stays unused, for providers that end a
	// grant which was idle for some days: the credential is due by then, whatever the access
	// token's life, and [Keeper.Run] renews it though nobody asks. Choose it well below the
	// provider's limit; a minute at least. Zero: the access token's life decides.
	//
	// It counts from an exchange. A put knows no service; say in its RefreshLifetime when the idle
	// grant will end.
	KeepAlive time.Duration

	// MinTokenAge is how old a token that an exchange brought must be before [Manager.Invalidate]
	// has it exchanged again, unless it is due or has expired. Callers that report a younger one
	// get a *RefreshError of ClassTransient with the code too_young and RetryAt, in every process;
	// a token that was put is exchanged whatever its age. Zero: DefaultMinTokenAge. A nanosecond
	// takes the bound away.
	MinTokenAge time.Duration

	// KeepParallel is how many exchanges [Keeper.Run] and [Keeper.RunOnce] make for this service at
	// the same time, in each process, and how many credentials they claim at once. Zero:
	// DefaultKeepParallel.
	KeepParallel int

	// KeepRate is how many exchanges per second they begin for this service, in each process; a
	// tenth of a second's worth may begin at once. Zero: no limit but KeepParallel. Exchanges that
	// callers wait for do not count.
	KeepRate float64
}

// minKeepAlive is the shortest KeepAlive that is no mistake.
const minKeepAlive = time.Minute

// dueIn returns when a credential with a token and a refresh token of those lifetimes is due; Never
// is that of one that does not end, or of which an exchange would not make a new one.
func (s Service) dueIn(lifetime, refreshLifetime time.Duration) time.Duration {
	due := DueIn(lifetime)
	if s.RefreshAhead > 0 && lifetime != Never {
		due = lifetime - min(s.RefreshAhead, lifetime/2)
	}
	return min(due, s.dueAtEnd(lifetime, refreshLifetime))
}

// dueAtEnd is dueIn of a token that is not replaced before its end.
func (s Service) dueAtEnd(lifetime, refreshLifetime time.Duration) time.Duration {
	due := min(lifetime, DueIn(refreshLifetime))
	if s.KeepAlive > 0 {
		due = min(due, s.KeepAlive)
	}
	return due
}

// lifetime returns how long a token lives that the provider gives that lifetime; zero: it gives
// none.
func (s Service) lifetime(given time.Duration) time.Duration {
	given = cmp.Or(given, s.DefaultLifetime, Never)
	if s.MaxLifetime > 0 {
		given = min(given, s.MaxLifetime)
	}
	return given
}

// minTokenAge returns MinTokenAge or its default.
func (s Service) minTokenAge() time.Duration { return cmp.Or(s.MinTokenAge, DefaultMinTokenAge) }

// check reports a fault of the policy.
func (s Service) check() error {
	f, isFunc := s.Refresher.(RefresherFunc)
	switch {
	case s.Refresher == nil, isFunc && f == nil:
		return errors.New("Refresher is not set")
	case s.Replay < ReplayOnce || s.Replay > NeverReplay:
		return fmt.Errorf("Replay is %d; use ReplayOnce, ReplayTwice or NeverReplay", s.Replay)
	case s.DefaultLifetime < 0:
		return fmt.Errorf("DefaultLifetime is %v; it must not be negative", s.DefaultLifetime)
	case s.MaxLifetime < 0:
		return fmt.Errorf("MaxLifetime is %v; it must not be negative", s.MaxLifetime)
	case s.MaxLifetime > 0 && s.RefreshAhead >= s.MaxLifetime:
		return fmt.Errorf("RefreshAhead is %v, and MaxLifetime %v; a token would be due before it is issued",
			s.RefreshAhead, s.MaxLifetime)
	case s.RefreshAhead < 0:
		return fmt.Errorf("RefreshAhead is %v; it must not be negative", s.RefreshAhead)
	case s.DefaultLifetime > 0 && s.RefreshAhead >= s.DefaultLifetime:
		return fmt.Errorf("RefreshAhead is %v, and DefaultLifetime %v; a token would be due before it is issued",
			s.RefreshAhead, s.DefaultLifetime)
	case s.KeepAlive != 0 && s.KeepAlive < minKeepAlive:
		return fmt.Errorf("KeepAlive is %v; at least %v, or zero for none", s.KeepAlive, minKeepAlive)
	case s.MinTokenAge < 0:
		return fmt.Errorf("MinTokenAge is %v; it must not be negative", s.MinTokenAge)
	case s.KeepParallel < 0:
		return fmt.Errorf("KeepParallel is %d; it must not be negative", s.KeepParallel)
	case !validRate(s.KeepRate):
		return fmt.Errorf("KeepRate is %v exchanges per second; it must be a number that is not negative", s.KeepRate)
	}
	if c, ok := s.Refresher.(interface{ Check() error }); ok {
		return c.Check()
	}
	return nil
}

// text describes the policy without the refresher, which may hold a client secret.
func (s Service) text() string {
	type plain Service // has no methods
	p := plain(s)
	p.Refresher = typeOnly{s.Refresher}
	return fmt.Sprintf("credentials.Service%+v", p)
}

// typeOnly is a refresher of which no more than the type is printed.
type typeOnly struct{ Refresher }

// Format implements [fmt.Formatter].
func (r typeOnly) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%T", r.Refresher) }

// Format implements [fmt.Formatter]: of the refresher, no verb shows more than the type.
func (s Service) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.text()) }

// MarshalText implements [encoding.TextMarshaler] for encoding/json and log/slog. It shows the same
// as Format.
func (s Service) MarshalText() ([]byte, error) { return []byte(s.text()), nil }

// ServiceFinder gives the policy of a service by its normalized name: [Services], or a
// [ServicesFunc] for programs that learn their services at run time.
type ServiceFinder interface {
	// Service returns the service's policy, or an error that wraps [ErrUnknownService].
	Service(ctx context.Context, name string) (Service, error)
}

// Services maps names to policies. A name is the one that the keys of the service's credentials
// have as [Key].Service: a program names a service in both places, best by one constant. Both names
// are normalized ("GitHub" is "github"), those of the map when the manager is built. A key with
// another name gets [ErrUnknownService], whose text lists the names of the map.
type Services map[string]Service

// Service returns the policy under that name; see [ServiceFinder].
func (s Services) Service(_ context.Context, name string) (Service, error) {
	service, ok := s[name]
	if !ok {
		known := slices.Sorted(maps.Keys(s))
		return Service{}, fmt.Errorf("%w %q; registered are: %s",
			ErrUnknownService, name, strings.Join(known, ", "))
	}
	return service, nil
}

// maxNames is how many services are named where many are printed.
const maxNames = 20

// Format implements [fmt.Formatter]: no verb shows more than the names of the services, and of many
// services the first 20.
func (s Services) Format(f fmt.State, _ rune) {
	names := slices.Sorted(maps.Keys(s))
	if more := len(names) - maxNames; more > 0 {
		names = append(names[:maxNames], fmt.Sprintf("and %d more", more))
	}
	_, _ = io.WriteString(f, "credentials.Services["+strings.Join(names, " ")+"]")
}

// normalize returns the map under normalized names, or its first fault.
func (s Services) normalize() (Services, error) {
	normalized := make(Services, len(s))
	given := make(map[string]string, len(s))
	for _, name := range slices.Sorted(maps.Keys(s)) {
		n, err := NormalizeService(name)
		if err != nil {
			return nil, err
		}
		if other, ok := given[n]; ok {
			return nil, fmt.Errorf("%w: the services %q and %q are both %q; remove one",
				ErrInvalidKey, other, name, n)
		}
		if err := s[name].check(); err != nil {
			return nil, fmt.Errorf("service %q: %w", name, err)
		}
		given[n], normalized[n] = name, s[name]
	}
	return normalized, nil
}

// ServicesFunc adapts a function to [ServiceFinder]: one OAuth app per tenant, say, under names
// such as "xero:tenant-42". It is asked each time the store has to be read, not for cached tokens,
// so it should be quick or remember its answers. Its errors should wrap [ErrUnknownService] where
// there is no such service.
type ServicesFunc func(ctx context.Context, name string) (Service, error)

// Service calls f and checks the policy that f returned.
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
