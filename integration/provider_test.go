package integration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// providerFault is a way in which a provider misbehaves, and what comes of it.
type providerFault struct {
	fault   provider.Fault
	revoked bool // the grant is dead

	class   credentials.Class // "": callers get a token
	code    string
	retryIn time.Duration // asked for by the provider

	// next is the next claim's result under ReplayOnce: "" for a token, else the code of a dead
	// grant.
	next string
}

// providerFaults has every kind; where the rotation may take effect all the same, twice.
func providerFaults() []providerFault {
	cases := []providerFault{
		{fault: provider.Fault{Kind: provider.RateLimited, RetryAfter: 2 * time.Second},
			class: credentials.ClassTransient, retryIn: 2 * time.Second},
		{fault: provider.Fault{Kind: provider.ServerError, RetryAfter: 2 * time.Second},
			class: credentials.ClassTransient, retryIn: 2 * time.Second},
		{fault: provider.Fault{Kind: provider.ServerError, RetryAfter: 2 * time.Second,
			AsDate: true}, class: credentials.ClassTransient, retryIn: time.Second},
		{fault: provider.Fault{Kind: provider.RateLimited}, class: credentials.ClassTransient},
		{fault: provider.Fault{Kind: provider.ServerError}, class: credentials.ClassTransient},
		{fault: provider.Fault{Kind: provider.InvalidClient}, class: credentials.ClassTransient,
			code: "invalid_client"},
		{fault: provider.Fault{Kind: provider.EmptyBadRequest}, class: credentials.ClassTransient},
		{fault: provider.Fault{Kind: provider.Firewall}, class: credentials.ClassTransient},
		{fault: provider.Fault{Kind: provider.Firewall, Status: 400},
			class: credentials.ClassTransient},
		{fault: provider.Fault{Kind: provider.Firewall, Status: 406},
			class: credentials.ClassTransient},
		{fault: provider.Fault{Kind: provider.NoExpiresIn}},
		{fault: provider.Fault{Kind: provider.ZeroExpiresIn}},
		{fault: provider.Fault{Kind: provider.BadRefreshToken}, class: credentials.ClassDead,
			code: "bad_refresh_token", next: "bad_refresh_token"},
		{revoked: true, class: credentials.ClassDead, code: "invalid_grant", next: "invalid_grant"},
	}
	for _, fault := range []provider.Fault{
		{Kind: provider.ServerError, Status: 500}, {Kind: provider.Hang}, {Kind: provider.Drop},
		{Kind: provider.CutAnswer},
		{Kind: provider.BrokenJSON}, {Kind: provider.NoAccessToken},
		{Kind: provider.ServerError, Status: 408},
	} {
		unknown := providerFault{fault: fault, class: credentials.ClassUnknown}
		cases = append(cases, unknown)
		unknown.fault.Rotated, unknown.next = true, "invalid_grant"
		cases = append(cases, unknown)
	}
	return cases
}

func (f providerFault) name() string {
	name := string(f.fault.Kind)
	if f.revoked {
		name = "revoked"
	}
	if f.fault.Status != 0 {
		name += fmt.Sprint(" ", f.fault.Status)
	}
	if f.fault.RetryAfter != 0 {
		name += ", with a time"
	}
	if f.fault.AsDate {
		name += ", date"
	}
	if f.fault.Rotated {
		name += ", rotated"
	}
	return name
}

// exchangeTimeout is what those who do not answer are waited for.
const exchangeTimeout = 3 * time.Second

// TestProviderFaults has an endpoint misbehave in every way that it can, before and after the
// rotation took effect: what the caller gets, what the row holds, who is told to wait, and what the
// next claim does under either policy. Two services have a credential for each fault; two managers
// stand for two processes.
func TestProviderFaults(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		services := credentials.Services{
			"once": {Refresher: refresherAt(st.url), DefaultLifetime: time.Hour},
			"never": {Refresher: refresherAt(st.url), DefaultLifetime: time.Hour,
				Replay: credentials.NeverReplay},
		}
		managers := make([]*credentials.Manager, 2)
		for i := range managers {
			m, err := credentials.NewManager(st.store, services, &credentials.Options{
				ExchangeTimeout: exchangeTimeout, StoreTimeout: 20 * time.Second, Lease: time.Minute, // on a busy machine too
				Holder: fmt.Sprint("process ", i), Logger: slog.New(slog.DiscardHandler),
			})
			must(t, err)
			t.Cleanup(func() { _ = m.Close(bounded(t)) })
			managers[i] = m
		}
		var all sync.WaitGroup // t.Parallel would have them wait for the tests of other faults
		slots := make(chan struct{}, 16)
		for _, fault := range providerFaults() {
			for service, replay := range map[string]credentials.Replay{"once": credentials.ReplayOnce, "never": credentials.NeverReplay} {
				trial := &faultTrial{T: t, st: st, providerFault: fault, replay: replay,
					managers: managers}
				trial.key = credentials.Key{Service: service, Account: fault.name() + ", " +
					service}
				all.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					if err := trial.run(); err != nil {
						t.Errorf("%s: %v", trial.key.Account, err)
					}
				})
			}
		}
		all.Wait()
		idle(t, st.db)
	})
}

// faultTrial is one fault under one policy. It runs beside others, so its methods return errors.
type faultTrial struct {
	*testing.T
	providerFault

	st       *stage
	key      credentials.Key
	replay   credentials.Replay
	managers []*credentials.Manager
}

func (f *faultTrial) run() error {
	p := f.st.p
	if err := f.put(); err != nil {
		return err
	}
	if f.revoked {
		p.Revoke(f.key.Account)
	} else {
		p.Enqueue(f.key.Account, f.fault)
	}
	want, code := f.class, f.code
	if want == credentials.ClassUnknown && f.replay == credentials.NeverReplay {
		want, code = credentials.ClassDead, credentials.CodeUnknown // given up at once
	}
	before := time.Now()
	_, err := f.managers[0].Token(context.Background(), f.key)
	after := time.Now()
	if f.class == "" {
		return f.served(err, 1)
	}
	told, err := f.failed("the caller", err, want, code)
	if err != nil {
		return err
	}
	// The other process is told the same, without a call; the row has it.
	_, err = f.managers[1].Token(context.Background(), f.key)
	if _, err := f.failed("the other process", err, want, code); err != nil {
		return err
	}
	if err := f.recorded(want); err != nil {
		return err
	}
	if want == credentials.ClassDead {
		if f.class == credentials.ClassUnknown && !strings.Contains(told.Reason, "policy") {
			return fmt.Errorf("the message does not say that it is the policy: %v", told)
		}
		return f.revived()
	}
	if told.RetryAt.Sub(before) <= f.retryIn-time.Second ||
		told.RetryAt.Sub(after) > f.retryIn+5*time.Second {
		return fmt.Errorf("to be tried again %v after the call, which took %v, want %v",
			told.RetryAt.Sub(before), after.Sub(before), f.retryIn)
	}
	return f.afterBackOff()
}

// recorded: the row holds the failure of the one exchange.
func (f *faultTrial) recorded(want credentials.Class) error {
	c, err := f.st.store.Get(context.Background(), f.key)
	switch {
	case err != nil:
		return err
	case c.Failure.Class != want || c.Failure.By != "process 0" || c.Failure.Count != 1 || c.Lease.ID != "":
		return fmt.Errorf("the row holds the failure %+v under the lease %+v", c.Failure, c.Lease)
	case f.class == credentials.ClassUnknown && want == credentials.ClassUnknown && c.Interrupted.By != "process 0":
		return fmt.Errorf("the row names the interrupted claim of %q", c.Interrupted.By)
	case f.calls() != 1:
		return fmt.Errorf("%d calls before the back-off is over, want 1", f.calls())
	}
	return nil
}

// afterBackOff: the next claim gets a token, or an error that names the interrupted holder.
func (f *faultTrial) afterBackOff() error {
	eventually(f.T, "the back-off of "+f.key.Account, func() bool {
		c, err := f.st.store.Get(context.Background(), f.key)
		return err != nil || c.Failure.RetryIn <= 0
	})
	_, err := f.managers[1].Token(context.Background(), f.key)
	if f.next == "" {
		return f.served(err, 2)
	}
	told, err := f.failed("the next claim's caller", err, credentials.ClassDead, f.next)
	switch {
	case err != nil:
		return err
	case told.Interrupted.By != "process 0" || told.Interrupted.Ago <= 0:
		return fmt.Errorf("the next claim's caller got %+v; want a dead grant that blames process 0",
			told)
	case !strings.Contains(told.Error(), "process 0 began "+told.Interrupted.Ago.Round(time.Millisecond).String()+" ago"):
		return fmt.Errorf("the message does not say whose claim was interrupted, and when: %v",
			told)
	case f.calls() != 2:
		return fmt.Errorf("%d calls, want 2", f.calls())
	}
	return f.revived()
}

func (f *faultTrial) put() error {
	return f.st.store.Put(context.Background(), f.key, refreshToken(f.st.p.Register(f.key.Account)))
}

func (f *faultTrial) calls() int { return f.st.p.Stats().Accounts[f.key.Account].Calls }

// served: a token came of it, after n calls, and the row has what belongs to it.
func (f *faultTrial) served(err error, n int) error {
	if err != nil {
		return fmt.Errorf("after %d calls: got error %w, want a token", n, err)
	}
	c, err := f.st.store.Get(context.Background(), f.key)
	switch {
	case err != nil:
		return err
	case f.calls() != n:
		return fmt.Errorf("%d calls, want %d", f.calls(), n)
	case !f.st.p.Current(f.key.Account, c.RefreshToken.Reveal()):
		return errors.New("the newest refresh token is not in the row")
	case c.Failure.Class != "" || c.Interrupted.By != "" || c.Lease.ID != "":
		return fmt.Errorf("after a success the row has %+v, %+v, %+v", c.Failure, c.Interrupted,
			c.Lease)
	}
	lifetime := time.Hour // NoExpiresIn: the service's default
	if f.fault.Kind == provider.ZeroExpiresIn {
		lifetime = time.Second // it was just issued
	}
	if c.ExpiresIn > lifetime || c.ExpiresIn < lifetime-20*time.Second {
		return fmt.Errorf("the token expires in %v, want about %v", c.ExpiresIn, lifetime)
	}
	return nil
}

func (f *faultTrial) failed(who string, err error, want credentials.Class, code string) (*credentials.RefreshError, error) {
	var failed *credentials.RefreshError
	switch {
	case !errors.As(err, &failed):
		return nil, fmt.Errorf("%s got error %v, want a *RefreshError", who, err)
	case failed.Class != want || failed.Code != code || failed.Key != f.key:
		return nil, fmt.Errorf("%s got %v; want class %s, code %q", who, failed, want, code)
	case errors.Is(err, credentials.ErrGrantDead) != (want == credentials.ClassDead):
		return nil, fmt.Errorf("%s: whether %v is ErrGrantDead does not follow its class", who,
			failed)
	}
	return failed, nil
}

// revived: nobody presents a dead grant; a new one works at once.
func (f *faultTrial) revived() error {
	before := f.calls()
	for _, m := range f.managers {
		if _, err := m.Token(context.Background(), f.key); !errors.Is(err, credentials.ErrGrantDead) {
			return fmt.Errorf("after the grant died: got error %w, want ErrGrantDead", err)
		}
	}
	if f.calls() != before {
		return fmt.Errorf("%d calls of a dead grant", f.calls()-before)
	}
	if err := f.put(); err != nil {
		return err
	}
	_, err := f.managers[1].Token(context.Background(), f.key)
	return f.served(err, before+1)
}
