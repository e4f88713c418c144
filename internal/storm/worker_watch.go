package storm

import (
	"context"
	"errors"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
)

// watchedStore records what a manager has its store do, and stops at the steps that a fault may wait for.
type watchedStore struct {
	credentials.Store

	w        *worker
	accounts map[string]int
	claims   sync.Map // the account by the claim's name: fences do not name it
}

func newWatchedStore(w *worker) *watchedStore {
	s := &watchedStore{Store: w.rows, w: w, accounts: make(map[string]int)}
	for i, name := range w.Accounts {
		s.accounts[name] = i
	}
	return s
}

// Claim implements [credentials.Store].
func (s *watchedStore) Claim(ctx context.Context, key credentials.Key, claim credentials.Claim) (credentials.Credential, error) {
	account := s.accounts[key.Account]
	s.w.step(ctx, pointClaim, account)
	r := record{Deed: didClaim, Account: account, Start: history.Now()}
	c, err := s.Store.Claim(ctx, key, claim)
	r.End = history.Now()
	if err == nil && c.Lease.ID == claim.ID {
		s.claimed(ctx, r, c)
	}
	return c, err
}

// ClaimDue implements [credentials.Store]. Each of its claims is recorded as one by itself.
func (s *watchedStore) ClaimDue(ctx context.Context, batch credentials.Batch) ([]credentials.Credential, error) {
	r := record{Deed: didClaim, Start: history.Now()}
	claimed, err := s.Store.ClaimDue(ctx, batch)
	r.End = history.Now()
	for _, c := range claimed {
		r.Account = s.accounts[c.Key.Account]
		s.claimed(ctx, r, c)
	}
	return claimed, err
}

// claimed records a claim that was made.
func (s *watchedStore) claimed(ctx context.Context, r record, c credentials.Credential) {
	r.Claim = claimName(c.Fence())
	s.claims.Store(r.Claim, r.Account)
	r.Version, r.Refresh, r.EndsIn = c.Lease.Version, fingerprint(c.RefreshToken), c.Lease.EndsIn
	s.w.link.record(r)
	s.w.step(ctx, pointClaimed, r.Account)
}

// claimName is what a claim is called in the journal, where no two may have one name: those of a batch share an id.
func claimName(fence credentials.Fence) string {
	return fence.Claim + "." + strconv.FormatUint(fence.Row, 10)
}

// Save implements [credentials.Store].
func (s *watchedStore) Save(ctx context.Context, fence credentials.Fence, renewal credentials.Renewal) error {
	account := s.account(fence)
	s.w.step(ctx, pointSave, account)
	return s.write(didSave, fence, record{
		Token: fingerprint(renewal.Token), Refresh: fingerprint(renewal.RefreshToken), Lifetime: renewal.Lifetime,
	}, func() error { return s.Store.Save(ctx, fence, renewal) })
}

// Fail implements [credentials.Store].
func (s *watchedStore) Fail(ctx context.Context, fence credentials.Fence, failure credentials.Failure) error {
	return s.write(didFail, fence, record{}, func() error { return s.Store.Fail(ctx, fence, failure) })
}

// Release implements [credentials.Store].
func (s *watchedStore) Release(ctx context.Context, fence credentials.Fence) error {
	return s.write(didRelease, fence, record{}, func() error { return s.Store.Release(ctx, fence) })
}

func (s *watchedStore) write(did deed, fence credentials.Fence, r record, write func() error) error {
	r.Deed, r.Account, r.Claim, r.Version, r.Start = did, s.account(fence), claimName(fence), fence.Version, history.Now()
	err := write()
	r.End = history.Now()
	switch {
	case errors.Is(err, credentials.ErrSuperseded):
		r.Class = superseded
	case err != nil:
		r.Class = unwritten
	}
	s.w.link.record(r)
	return err
}

// The classes of writes.
const (
	superseded = "superseded"
	unwritten  = "error"
)

func (s *watchedStore) account(fence credentials.Fence) int {
	account, _ := s.claims.Load(claimName(fence))
	return account.(int)
}

// recordedExchange makes an exchange under a URL that tells the endpoint whose it is, and records what came of it.
func (w *worker) recordedExchange(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
	account := 0
	for i, name := range w.Accounts {
		if name == c.Key.Account {
			account = i
		}
	}
	claim := claimName(c.Fence())
	whose := url.Values{"worker": {strconv.Itoa(w.Worker)}, "account": {c.Key.Account}, "claim": {claim}}
	r := record{Deed: didAnswer, Account: account, Claim: claim, Start: history.Now()}

	var asked sync.WaitGroup
	if w.Point == pointExchange {
		sent := make(chan struct{})
		once := sync.OnceFunc(func() { close(sent) })
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { once() }})
		asked.Go(func() {
			select {
			case <-sent:
				w.step(ctx, pointExchange, account)
			case <-ctx.Done():
			}
		})
	}
	grant, err := w.refresher(w.TokenURL+"?"+whose.Encode()).Refresh(ctx, c)
	asked.Wait() // one that is to be killed in its exchange does not get to see the answer
	r.End = history.Now()
	if err == nil {
		r.Token, r.Refresh = fingerprint(grant.Token), fingerprint(grant.RefreshToken)
	} else {
		r.Class = string(credentials.Unknown)
		if failed := (*credentials.RefreshError)(nil); errors.As(err, &failed) {
			r.Class = string(failed.Class)
		}
	}
	w.link.record(r)
	return grant, err
}

// step asks the parent what is to happen at a step, where the fault waits for that one, and has it happen.
func (w *worker) step(ctx context.Context, at point, account int) {
	if w.Point != at {
		return
	}
	select {
	case what := <-w.link.ask(question{Account: account}):
		switch what {
		case kill:
			killSelf()
		case pause:
			pauseSelf()
		}
	case <-time.After(10 * time.Second): // the parent is busy, or gone
	case <-ctx.Done():
	}
}
