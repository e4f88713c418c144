package credentials

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
)

// exchange is one holder's work under one claim: the refresh token is presented once, and the
// result is stored. It knows no caller; a refresh and a worker of the keeper both run it.
type exchange struct {
	*engine
	service Service
	claimed reading // the credential as claimed
	trigger Trigger
	late    bool    // its time was over when the answer came
	answer  *answer // the provider's; nil: it was not asked yet

	// answered, if set, is called when the answer is there, and may change it before it is stored.
	answered func()

	// notStored is called after each failed try to store the result but the first, with how long
	// the result has waited, and with the token and error for callers that wait no longer.
	notStored func(waited time.Duration, token *snapshot, err error)
}

// result is the end of an exchange.
type result struct {
	outcome Outcome
	token   *snapshot // the one saved; after a failure, the old one if that has not expired
	err     error     // of a failure: for callers; of OutcomeReleased: the reason
}

// class returns the class of the failure; "" if there is none.
func (r result) class() Class {
	var e *RefreshError
	if !errors.As(r.err, &e) {
		return ""
	}
	return e.Class
}

// minLifetime is taken for a token that a provider calls expired when it issues it: it rounds down.
const minLifetime = time.Second

// run presents the refresh token under the claim and stores the result.
func (x *exchange) run(ctx context.Context) (r result) {
	ctx, ended := x.events.exchange(ctx, x.info(result{}))
	defer func() { ended(x.info(r)) }()
	c := x.claimed
	deadline := c.at.add(c.Lease.EndsIn - x.opts.StoreTimeout - margin)
	tooLate := func(wait time.Duration) bool { return x.until(deadline)-wait < x.opts.ExchangeTimeout/2 }
	tooLittle := fmt.Errorf(
		"after the claim, too little was left of the lease of %v for an exchange", x.opts.Lease)
	if c.TookOver {
		if tooLate(x.opts.grace()) {
			return x.giveUp(ctx, tooLittle)
		}
		if r := x.letHolderSave(ctx); r.outcome != "" {
			return r
		}
	}
	switch {
	case tooLate(0):
		return x.giveUp(ctx, tooLittle)
	case slept(c.asked):
		return x.giveUp(ctx, errors.New("the host slept after the claim"))
	case c.Disabled.By != "":
		// The claim's reply was lost, and the credential was disabled before the claim was found.
		return x.stepBack(ctx)
	case c.overtaken():
		// The reply to the claim was lost, and before the claim was found an earlier holder's
		// success was saved. A refresh token presented under this claim would not be taken for
		// interrupted.
		return x.stepBack(ctx)
	case c.Interrupted.By != "" && x.service.Replay == NeverReplay:
		return x.fail(ctx, &RefreshError{
			Class:  ClassDead,
			Code:   CodeInterrupted,
			Reason: "the service's policy is not to present a refresh token again that may have been used up",
		})
	}
	p := &presentation{engine: x.engine, refresher: x.service.Refresher, claimed: c, late: x.saveLate}
	x.answer = p.run(ctx, min(deadline, x.now().add(x.opts.ExchangeTimeout)))
	if x.answer.err != nil {
		x.answer.err = x.current().weigh(x.answer.err, x.service)
	}
	if x.answered != nil {
		x.answered()
	}
	if x.answer.err != nil {
		return x.fail(ctx, x.answer.err)
	}
	return x.save(ctx)
}

// letHolderSave waits for the grace under a lease that took another's place: only this claim shows
// that the store takes writes again, and a holder that lives saves its result within that time. If
// the row moves, or the store does not answer throughout, the lease is given up and nothing is
// presented.
func (x *exchange) letHolderSave(ctx context.Context) result {
	c, ends := x.claimed, x.now().add(x.opts.grace())
	w := x.poller.watch(c, watched{c.answered, c.answered})
	moved, err := w.wait(x.until(ends), nil)
	x.poller.leave(w)
	switch {
	case err == nil && moved && w.now > c.Version:
		return x.stepBack(ctx)
	case err == nil: // a server that is behind may have ended the watch
		err = x.wait(ctx, x.until(ends), nil)
	}
	if err != nil {
		return x.giveUp(ctx, err)
	}
	// The ID is of this look alone: other rows may bear the claim's.
	look := Claim{ID: rand.Text(), Holder: x.opts.Holder, Lease: c.Lease.EndsIn}
	now, err := x.store.Claim(ctx, c.Key, look)
	switch {
	case err == nil && (now.Row != c.Row || now.Version != c.Version):
		if now.Lease.ID == look.ID { // the claim was made anew, as nothing stood in its way
			x.claimed.Credential = now
		}
		return x.stepBack(ctx)
	case err != nil:
		// It may have been made, on a row that was put in the place of this one.
		x.lose(ctx, lostClaim{id: look.ID}, unusedLease, c.Key)
		return x.giveUp(ctx, err)
	case !x.health.answeredSince(c.answered):
		return x.giveUp(ctx, x.health.why())
	}
	return result{}
}

// stepBack releases the lease, since the row says more than this claim knew.
func (x *exchange) stepBack(ctx context.Context) result {
	if r := x.giveUp(ctx, nil); r.err != nil {
		return r // or it would be looked at, and found to be this process's own, again and again
	}
	return result{outcome: OutcomeSuperseded}
}

// giveUp releases the lease, since nothing is to be presented under it.
func (x *exchange) giveUp(ctx context.Context, why error) result {
	return result{outcome: OutcomeReleased, err: cmp.Or(x.release(ctx, x.claimed.Credential), why)}
}

// renewal returns the success as it is to be saved now.
func (x *exchange) renewal(a *answer) Renewal {
	grant := x.claimed.merge(a.grant)
	sinceSent := x.since(a.sent)
	sinceAnswer := sinceSent - a.took
	atAnswer := func(lifetime time.Duration) time.Duration {
		switch {
		case lifetime == 0 || lifetime == Never:
			return Never
		case lifetime < 0:
			return minLifetime
		}
		return max(lifetime, minLifetime) - a.took // may have ended while the provider took its time
	}
	left := func(lifetime time.Duration) time.Duration {
		if lifetime == Never {
			return Never
		}
		return lifetime - sinceAnswer
	}
	lifetime := atAnswer(x.service.lifetime(grant.Lifetime))
	grant.Lifetime = left(lifetime)
	grant.RefreshLifetime = left(atAnswer(grant.RefreshLifetime))
	// The end of a refresh token that was sent earlier is no reason for an exchange: this one did
	// not move it.
	dueIn := x.service.dueIn(lifetime, atAnswer(a.grant.RefreshLifetime))
	if x.handedOutAgain(a, lifetime) {
		dueIn = x.service.dueAtEnd(lifetime, atAnswer(a.grant.RefreshLifetime))
	}
	return Renewal{
		Grant: grant,
		// Now, by the store's clock; early by how long the reading was on its way, and never late.
		From:  x.claimed.ReadAt.Add(x.since(x.claimed.answered)),
		By:    x.opts.Holder,
		DueIn: left(dueIn),
		Took:  a.took,
	}
}

// handedOutAgain reports whether the answer is the present token, which ends when it did: Marketo
// and WSO2 replace a token when it has expired. An exchange before its end brings nothing.
func (x *exchange) handedOutAgain(a *answer, lifetime time.Duration) bool {
	if c := x.claimed; c.ExpiresIn != Never && a.grant.AccessToken.Equal(c.AccessToken) {
		moved := a.sent.add(a.took).add(lifetime).sub(c.at.add(c.ExpiresIn))
		return moved <= minLifetime
	}
	return false
}

// save stores a success until that is done, whatever the store's trouble, for as long as the
// process lives. Somebody waits for it, but not for ever: see notStored.
func (x *exchange) save(ctx context.Context) result {
	var stored *snapshot
	err := x.write(ctx, "a new token could not be stored yet; trying again", func(ctx context.Context) error {
		renewal := x.renewal(x.answer)
		c, err := x.read(func() (Credential, error) {
			return Credential{
				Key: x.claimed.Key, Row: x.claimed.Row,
				Version: x.claimed.Lease.Version + 1, TokenVersion: x.claimed.Lease.Version,
				AccessToken: renewal.AccessToken, Extra: renewal.Extra, ExpiresIn: renewal.Lifetime, DueIn: renewal.DueIn,
			}, x.store.Save(ctx, x.claimed.Fence(), renewal)
		})
		stored = x.snapshot(c)
		return err
	}, func(err error) (*snapshot, error) {
		return nil, fmt.Errorf("token of %s: it was renewed, but could not be stored yet: %w", x.claimed.Key, err)
	})
	switch {
	case err == nil:
		r := result{outcome: OutcomeSaved, token: stored}
		x.tellIfLate(ctx, r)
		return r
	case errors.Is(err, ErrSuperseded):
		return result{outcome: OutcomeSuperseded}
	}
	return result{outcome: OutcomeUnsaved, err: fmt.Errorf(
		"token of %s: it was renewed, but the manager was closed before it could be stored: %w", x.claimed.Key, err)}
}

// fail records a failure, until that is done or the process ends, so that a dead grant is not
// presented again, nor a refusal taken for an unknown outcome.
func (x *exchange) fail(ctx context.Context, cause *RefreshError) result {
	c := x.current()
	failure := Failure{
		Class:    cause.Class,
		Code:     printable(cause.Code, 64, c.AccessToken, c.RefreshToken),
		Reason:   printable(cause.Reason, 255, c.AccessToken, c.RefreshToken),
		Refusals: c.refusals(cause),
	}
	if failure.Class == ClassUnknown && x.service.Replay == NeverReplay {
		failure.Reason = printable("outcome unknown, and the service's policy is not to present the refresh token again: "+
			strings.TrimSpace(failure.Code+" "+failure.Reason), 255)
		failure.Class, failure.Code = ClassDead, CodeUnknown
	}
	if failure.Class != ClassDead {
		failure.RetryIn = c.retryIn(cause, x.trigger != TriggerInvalidated)
	}
	if failure.Class == ClassUnknown && x.answer != nil {
		// The provider may still be at work on the request, and take a second one for reuse.
		failure.RetryIn = max(failure.RetryIn, x.answer.took)
	}
	// Callers get an error made from the row's failure, not cause itself, whose text nobody has
	// redacted.
	c.Failure = failure
	told := c.refreshError(x.opts.Holder, inner(ctx, cause.Err))
	tries := 0
	err := x.write(ctx, "a failed exchange could not be recorded yet", func(ctx context.Context) error {
		tries++
		return x.store.Fail(ctx, x.claimed.Fence(), failure)
	}, func(error) (*snapshot, error) { return x.snapshot(x.claimed), told })
	outcome := OutcomeFailed
	switch {
	case errors.Is(err, ErrSuperseded) && (tries == 1 || !x.recorded(ctx)):
		return result{outcome: OutcomeSuperseded}
	case err != nil && !errors.Is(err, ErrSuperseded):
		outcome = OutcomeUnsaved
	}
	return result{outcome: outcome, token: x.snapshot(x.claimed), err: told}
}

// current returns the credential as claimed, with its durations as they are now.
func (x *exchange) current() Credential {
	c, passed := x.claimed.Credential, x.since(x.claimed.at)
	c.Interrupted.Ago += passed
	c.Survived.Ago += passed
	c.Failure.Ago += passed
	c.Failure.RefusedFor += passed
	if c.ExpiresIn != Never {
		c.ExpiresIn -= passed
	}
	return c
}

// recorded reports whether the row has this exchange's failure and nothing later: the reply to its
// recording was lost.
func (x *exchange) recorded(ctx context.Context) bool {
	c, err := x.store.Get(ctx, x.claimed.Key)
	return err == nil && c.Row == x.claimed.Row && c.Version == x.claimed.Lease.Version+1 &&
		c.Lease.ID == "" && c.Failure.By == x.opts.Holder
}

// saveLate stores the success of an exchange that was given up as lost.
func (x *exchange) saveLate(a *answer) {
	if a.err != nil {
		x.warn(x.ctx, "an exchange ended after its deadline, without success",
			"took", a.took, "class", a.err.Class,
			"reason", printable(a.err.Reason, 255, x.claimed.AccessToken, x.claimed.RefreshToken))
		return
	}
	late := &exchange{
		engine: x.engine, service: x.service, claimed: x.claimed, trigger: x.trigger,
		answer: a, late: true,
	}
	late.notStored = func(time.Duration, *snapshot, error) {} // nobody waits for it
	x.warn(x.ctx, "an exchange succeeded after its deadline",
		"took", a.took, "stored", late.save(x.ctx).outcome == OutcomeSaved)
}

// tellIfLate tells of a success that was saved when its time was over.
func (x *exchange) tellIfLate(ctx context.Context, r result) {
	if x.late || x.now() > x.claimed.at.add(x.claimed.Lease.EndsIn) {
		x.events.savedLate(ctx, x.info(r))
	}
}

// info describes the exchange for the host; r is zero before its end.
func (x *exchange) info(r result) ExchangeInfo {
	c := x.claimed
	info := ExchangeInfo{
		Key: c.Key, Holder: x.opts.Holder, Fence: c.Fence(), Trigger: x.trigger, Began: c.asked,
		Outcome: r.outcome, Class: r.class(), Err: r.err,
	}
	if c.TookOver {
		info.TookOver = c.Interrupted
	}
	if x.answer != nil {
		info.Took = x.answer.took
	}
	if r.outcome != "" {
		info.Ended = time.Now()
	}
	return info
}

func (x *exchange) warn(ctx context.Context, text string, args ...any) {
	key := x.claimed.Key
	x.log.warn(ctx, key.Service, text, append([]any{"credential", key.String()}, args...)...)
}

// write repeats a write until it is stored or superseded, or Close has stopped waiting. While that
// lasts, notStored gets the token and error that tells returns.
func (x *exchange) write(
	ctx context.Context, trouble string, do func(context.Context) error, tells func(error) (*snapshot, error),
) error {
	ctx, began := context.WithoutCancel(ctx), x.now()
	for attempt := 0; ; attempt++ {
		err := do(ctx)
		if err == nil || errors.Is(err, ErrSuperseded) {
			return err
		}
		if attempt&(attempt-1) == 0 { // a store that is away for hours does not fill the log
			x.warn(ctx, trouble, "attempt", attempt+1, "error", err)
		}
		if attempt > 0 { // the first try of a process that was paused may have been out of time
			token, told := tells(err)
			x.notStored(x.since(began), token, told)
		}
		if !x.pause(attempt, maxStorePause) {
			return err
		}
	}
}
