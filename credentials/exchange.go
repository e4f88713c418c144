package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Back-off after a failure whose provider named no time: exponential, with full jitter.
const (
	firstBackOff = time.Second
	mostBackOff  = 5 * time.Minute

	// mostRetryAfter bounds what a provider may ask for.
	mostRetryAfter = 24 * time.Hour
)

// mostSlowClaims is how many claims in a row may take so long that they have to be given up.
const mostSlowClaims = 2

// leastLifetime is taken for a token that a provider calls expired when it issues it: it rounds down.
const leastLifetime = time.Second

// outcome is what became of an exchange.
type outcome struct {
	grant Grant
	err   *RefreshError // nil: it succeeded
	sent  time.Duration // when it was begun; the grant's lifetimes count from then
	took  time.Duration // until the answer
}

// exchange calls the provider under the claim that c was returned for, made after the time at, and stores the result.
// The callers get it only then. errAgain: the row knows better.
func (t *trip) exchange(ctx context.Context, service Service, c Credential, at time.Duration) (Token, error) {
	now := t.m.now()
	deadline := min(at+c.Lease.EndsIn-t.m.opts.StoreTimeout-margin, now+t.m.opts.ExchangeTimeout)
	if deadline-now < t.m.opts.ExchangeTimeout/2 { // the claim took so long that the exchange might outlast the lease
		_, err := t.release(ctx, c.Fence())
		if t.slowClaims++; t.slowClaims > mostSlowClaims && errors.Is(err, errAgain) {
			err = fmt.Errorf("token of %s: %w: after the claim, too little was left of the lease of %v for an exchange",
				t.key, ErrUnavailable, t.m.opts.Lease)
		}
		return Token{}, err
	}
	t.slowClaims = 0
	if c.overtaken() {
		// The reply to the claim was lost, and before it was repeated an earlier holder's success was saved. What this
		// claim would present, nobody would take for interrupted.
		return t.release(ctx, c.Fence())
	}
	if c.Interrupted.By != "" && service.Replay == NeverReplay {
		return t.fail(ctx, service, c, at, &RefreshError{
			Class:  Rejected,
			Code:   "interrupted",
			Reason: "the service's policy is not to present a refresh token again that may have been used up",
		})
	}
	result := t.present(ctx, service, c, deadline)
	t.heard = &result
	if result.err != nil {
		return t.fail(ctx, service, c, at, result.err)
	}
	return t.save(ctx, service, c, result)
}

// release gives up a lease under which nothing was presented. If that fails, the lease is one to be looked for.
func (t *trip) release(ctx context.Context, fence Fence) (Token, error) {
	ctx, cancel := context.WithTimeout(ctx, t.m.opts.StoreTimeout)
	defer cancel()
	at := t.m.now()
	if err := t.m.store.Release(ctx, fence); err != nil {
		t.claimID, t.claimedAt = fence.Claim, at
		return Token{}, fmt.Errorf("token of %s: %w", t.key, err)
	}
	t.claimID = ""
	return Token{}, errAgain
}

// present calls the refresher, in a goroutine of its own so that one that does not return keeps nobody. A result that
// comes after the deadline is stored all the same: it may hold the only refresh token that works.
func (t *trip) present(ctx context.Context, service Service, c Credential, deadline time.Duration) outcome {
	sent := t.m.now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline-sent)
	results := make(chan outcome, 1)
	go func() {
		result := outcome{sent: sent, err: &RefreshError{Class: Unknown, Reason: "the refresher ended its goroutine"}}
		defer func() {
			if p := recover(); p != nil {
				// The panic's value may quote a secret; the stack does not.
				t.m.opts.Logger.Error("refresher panicked", "credential", t.key.String(), "stack", string(debug.Stack()))
				result.err = &RefreshError{Class: Unknown, Reason: fmt.Sprintf("the refresher panicked with a %T", p)}
			}
			result.took = t.m.now() - sent
			results <- result
		}()
		result.grant, result.err = t.callRefresher(ctx, service.Refresher, c)
	}()
	select {
	case result := <-results:
		cancel()
		return result
	case <-ctx.Done():
	}
	cancel()
	grace := time.NewTimer(margin / 2) // a refresher that heeds ctx returns now
	defer grace.Stop()
	select {
	case result := <-results:
		return result
	case <-grace.C:
	}
	t.m.flights.Go(func() { t.saveLate(service, c, <-results) })
	return outcome{sent: sent, err: &RefreshError{
		Class: Unknown, Reason: "the exchange did not end in time", Err: context.DeadlineExceeded,
	}}
}

// callRefresher makes the call and checks the answer.
func (t *trip) callRefresher(ctx context.Context, refresher Refresher, c Credential) (Grant, *RefreshError) {
	if deadline, _ := ctx.Deadline(); !time.Now().Before(deadline) {
		// The process was paused since the claim: its lease may have ended. The clock is read, because ctx learns of
		// its end only when its timer has run.
		return Grant{}, &RefreshError{Class: Transient, Reason: "the time for the exchange was over before it began"}
	}
	grant, err := refresher.Refresh(ctx, c)
	switch {
	case err != nil:
		return Grant{}, asRefreshError(err)
	case grant.Token.IsZero():
		return Grant{}, &RefreshError{Class: Unknown, Reason: "the refresher returned an empty token"}
	case len(grant.Token.Reveal()) > MaxTokenLength || len(grant.RefreshToken.Reveal()) > MaxTokenLength:
		return Grant{}, &RefreshError{Class: Unknown, Reason: fmt.Sprintf("the provider sent a token of over %d bytes", MaxTokenLength)}
	}
	return grant, nil
}

// renewal is what is saved of a success, as of now.
func (t *trip) renewal(service Service, c Credential, result outcome) Renewal {
	grant := result.grant.over(c)
	sinceSent := t.m.now() - result.sent
	sinceAnswer := sinceSent - result.took
	atAnswer := func(lifetime time.Duration) time.Duration {
		if lifetime == 0 || lifetime == Never {
			return Never
		}
		return max(max(lifetime, 0)-result.took, leastLifetime)
	}
	left := func(lifetime time.Duration) time.Duration {
		if lifetime == Never {
			return Never
		}
		return lifetime - sinceAnswer
	}
	lifetime := atAnswer(cmp.Or(grant.Lifetime, service.DefaultLifetime))
	grant.Lifetime = left(lifetime)
	grant.RefreshLifetime = left(atAnswer(grant.RefreshLifetime))
	// The end of a refresh token that was sent earlier is no reason for an exchange: this one did not move it.
	dueIn := service.dueIn(lifetime, atAnswer(result.grant.RefreshLifetime))
	return Renewal{
		Grant: grant,
		From:  c.ReadAt.Add(sinceSent), // early by the time between, as what is counted should be
		By:    t.m.opts.Holder,
		DueIn: left(dueIn),
		Took:  result.took,
	}
}

// save stores a success until that is done, whatever the store's trouble, for as long as the process lives; the
// callers wait, but not for longer than StoreTimeout at a time.
func (t *trip) save(ctx context.Context, service Service, c Credential, result outcome) (Token, error) {
	began := t.m.now()
	for attempt := 0; ; attempt++ {
		at := t.m.now()
		renewal := t.renewal(service, c, result)
		err := t.saveOnce(ctx, c, renewal)
		if err == nil {
			saved := Credential{
				Row: c.Row, TokenVersion: c.Lease.Version,
				Token: renewal.Token, Extra: renewal.Extra, ExpiresIn: renewal.Lifetime, DueIn: renewal.DueIn,
			}
			token, usable := t.tokenOf(saved, at, Secret{})
			if !usable {
				return Token{}, errAgain // it took so long to store that the token has expired
			}
			t.publish(token, saved, at, t.asked)
			return token, nil
		}
		if errors.Is(err, ErrSuperseded) {
			return Token{}, errAgain
		}
		t.m.opts.Logger.ErrorContext(ctx, "a new token could not be stored yet; trying again",
			"credential", t.key.String(), "attempt", attempt+1, "error", err)
		// Not after the first try, which a process that was paused may have found out of time.
		if attempt > 0 && t.m.now()-max(began, t.flight.began) >= t.m.opts.StoreTimeout {
			t.land(Token{}, fmt.Errorf("token of %s: it was renewed, but could not be stored yet: %w", t.key, err), true)
		}
		if !t.m.pause(attempt) {
			return Token{}, fmt.Errorf("token of %s: it was renewed, but the manager was closed before it could be stored: %w", t.key, err)
		}
	}
}

func (t *trip) saveOnce(ctx context.Context, c Credential, renewal Renewal) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.m.opts.StoreTimeout)
	defer cancel()
	return t.m.store.Save(ctx, c.Fence(), renewal)
}

// saveLate stores the success of an exchange that was given up as lost.
func (t *trip) saveLate(service Service, c Credential, result outcome) {
	log := t.m.opts.Logger.With("credential", t.key.String(), "took", result.took)
	if result.err != nil {
		log.Warn("an exchange ended after its deadline, without success",
			"class", result.err.Class, "reason", printable(result.err.Reason, 255, c.Token, c.RefreshToken))
		return
	}
	for attempt := 0; ; attempt++ {
		err := t.saveOnce(context.Background(), c, t.renewal(service, c, result))
		if err == nil || errors.Is(err, ErrSuperseded) {
			log.Warn("an exchange succeeded after its deadline", "stored", err == nil)
			return
		}
		if !t.m.pause(attempt) {
			return
		}
	}
}

// fail records a failure and makes the error that the callers get. While the store is in trouble it goes on until the
// lease ends, so that a dead grant is not presented again, nor a refusal taken for an unknown outcome; the callers do not
// wait that long. errAgain: something was written since the claim, and the row says what.
func (t *trip) fail(ctx context.Context, service Service, c Credential, at time.Duration, failed *RefreshError) (Token, error) {
	failure := Failure{
		Class:  failed.Class,
		Code:   printable(failed.Code, 64, c.Token, c.RefreshToken),
		Reason: printable(failed.Reason, 255, c.Token, c.RefreshToken),
	}
	if failure.Class == Unknown && service.Replay == NeverReplay {
		failure.Class = Rejected
		failure.Reason = printable("outcome unknown, and the service's policy is not to present the refresh token again: "+failure.Reason, 255)
	}
	if failure.Class != Rejected {
		failure.RetryIn = retryIn(failed.RetryAt, c.Failure.Count)
	}
	fence, began := c.Fence(), t.m.now()
	c.Failure = failure
	for attempt := 0; ; attempt++ {
		err := t.failOnce(ctx, fence, failure)
		if errors.Is(err, ErrSuperseded) {
			return Token{}, errAgain
		}
		stillGood, _ := t.tokenOf(c, at, Secret{})
		told := c.refreshError(t.m.opts.Holder, failed.Err) // not failed itself, whose text nobody has redacted
		if err == nil {
			return stillGood, told
		}
		t.m.opts.Logger.WarnContext(ctx, "a failed exchange could not be recorded yet",
			"credential", t.key.String(), "attempt", attempt+1, "error", err)
		if attempt > 0 { // once more for a process that was paused: someone else may have had success meanwhile
			if t.m.now() >= later(at, c.Lease.EndsIn) {
				return stillGood, told // the next claim finds an exchange of unknown outcome
			}
			if t.m.now()-max(began, t.flight.began) >= t.m.opts.StoreTimeout {
				t.land(stillGood, told, true)
			}
		}
		if !t.m.pause(attempt) {
			return stillGood, told
		}
	}
}

func (t *trip) failOnce(ctx context.Context, fence Fence, failure Failure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.m.opts.StoreTimeout)
	defer cancel()
	return t.m.store.Fail(ctx, fence, failure)
}

// pause waits before a call of the store is tried again; false if the manager was closed meanwhile.
func (m *Manager) pause(attempt int) bool {
	return m.pauseFor(backOff(50*time.Millisecond, time.Second, attempt))
}

func (m *Manager) pauseFor(d time.Duration) bool {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}

// retryIn is how long no process may call the provider after a failure that follows on count others.
func retryIn(retryAt time.Time, count int) time.Duration {
	if !retryAt.IsZero() {
		// Even one that says "at once" gets no more than a call a second.
		asked := min(max(time.Until(retryAt), firstBackOff), mostRetryAfter)
		return asked + rand.N(asked/10+firstBackOff/10) // those who were told the same time should not come at once
	}
	return backOff(firstBackOff, mostBackOff, count)
}

// backOff is the pause after failure number count, counted from zero: between first and, with full jitter, first
// doubled each time, at most.
func backOff(first, most time.Duration, count int) time.Duration {
	window := most
	if count < 20 {
		window = min(first<<count, most)
	}
	return first + rand.N(window)
}
