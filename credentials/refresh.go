package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"
)

// refresh is the goroutine behind a call: it reads the row, claims it if there is something to do,
// and runs the exchange. It may settle its call early, with a token that is still valid or with an
// error that callers should not wait any longer for, and go on under a new one, which later callers
// join.
type refresh struct {
	claimant
	call        *call
	invalidated Token         // the token that was turned down, if that is why it was begun
	life        time.Duration // callers ask for a token that lives so long; that one does not. 0: see invalidated
	ended       bool          // that one has ended by this process's count, whatever the store's clock says
	caughtUp    moment        // until then a row from before that token is read again; 0: there was none yet

	values context.Context // of the caller that began it

	service    *Service // nil: not asked for yet
	patience   moment   // until then it waits for other holders
	claimDelay float64  // a random fraction of the claim window, so that not all processes claim at once
	foreign    takeover // of the lease that the row bore when it was last read
	awaited    string   // the holder whose exchange callers wait for; "": of none yet
	vain       int      // exchanges in a row that brought nothing that could be used
	ensured    bool     // that there is a row
}

// maxVain is how many exchanges in a row may bring nothing: those that were released as their claim
// had taken too long, and those whose token had expired when it was stored.
const maxVain = 2

func newRefresh(s *slot, c *call) *refresh {
	return &refresh{
		claimant: claimant{engine: s.engine, slot: s}, call: c, invalidated: c.invalidated,
		foreign: takeover{engine: s.engine}, claimDelay: mathrand.Float64(),
	}
}

// run makes the refresh and settles its call. No caller is left waiting, even if the goroutine ends
// by a panic.
func (r *refresh) run(ctx context.Context) {
	token, err := Token{}, fmt.Errorf("refresh of %s was aborted", r.slot.key)
	defer func() { r.settle(token, err, false) }()
	r.values = context.WithoutCancel(ctx)
	token, err = r.renew(r.values)
	held := r.slot.valid()
	if err == nil || held == nil || errors.Is(err, ErrClosed) {
		return
	}
	// Nobody is told, since the token is still good. A store that is known to be away is told of
	// once for all, and a token that is too young or lives too shortly is its caller's business.
	if !errors.Is(err, errNotAsked) && !errors.Is(err, errTooYoung) && !errors.Is(err, ErrShortLived) {
		text := "renewal ahead of expiry failed"
		if r.now() < held.quiet {
			text = "a look at a token that is held failed"
		}
		r.log.warn(ctx, r.slot.key.Service, text, "credential", r.slot.key.String(), "error", err)
	}
	r.slot.postpone()
}

// settle gives the call's callers their result and ends it, or goes on under a new one.
func (r *refresh) settle(token Token, err error, goOn bool) {
	settled := r.call
	r.call = nil
	if goOn {
		r.call = r.slot.newCall(r.invalidated)
		r.call.looked = true
	}
	r.slot.mu.Lock()
	r.slot.call = r.call
	r.slot.mu.Unlock()
	settled.token, settled.err = token, err
	r.tellWait(settled)
	close(settled.done)
}

// tellWait tells of the call's callers if they have waited for an exchange.
func (r *refresh) tellWait(c *call) {
	r.slot.mu.Lock()
	info := CallInfo{
		Key: r.slot.key, Holder: r.awaited, Callers: c.waiting, Took: r.since(c.since), Err: c.err,
	}
	r.slot.mu.Unlock()
	if info.Callers > 0 && info.Holder != "" {
		r.events.callWaited(r.values, info)
	}
}

// renew brings the credential up to date. It is the protocol: read, claim, exchange, save, each of
// which may send it back to reading. A token returned together with an error is still valid.
func (r *refresh) renew(ctx context.Context) (Token, error) {
	r.waitAnew()
	var last reading // as the row was when it was last read
	for {
		c, err := r.get(ctx)
		token := Token{}
		switch missing := errors.Is(err, ErrNotFound); {
		case err != nil && !missing:
			return r.stillGood(last), err
		case missing:
			token, err = r.ensure(ctx, err)
		case r.slot.known.isBehind(c.Row, c.Version):
			token, err = r.confirm(ctx, last)
		default:
			r.slot.see(c)
			r.slot.known.learn(c.Row, c.Version)
			if token, err = r.catchUp(ctx, c); err == nil {
				last = c
				token, err = r.advance(ctx, c)
			}
		}
		if !errors.Is(err, errLookAgain) {
			return token, err
		}
	}
}

// ensure makes a row for a service that needs no grant. Otherwise it returns missing, or why the
// row is missing.
func (r *refresh) ensure(ctx context.Context, missing error) (Token, error) {
	if err := r.findService(ctx); err != nil {
		return Token{}, err
	}
	if !r.service.ClientCredentials || r.ensured {
		return r.refuse(ctx, reading{}, Token{}, missing)
	}
	r.ensured = true
	if err := r.store.Ensure(ctx, r.slot.key, Grant{}); err != nil {
		return Token{}, r.about(err)
	}
	r.slot.known = known{}
	return Token{}, errLookAgain
}

// waitAnew has the patience with other holders begin: a chain of them that die one after the other
// must not keep a caller for ever.
func (r *refresh) waitAnew() { r.patience = r.now().add(2 * r.opts.Lease) }

// advance takes the next step that the row calls for. errLookAgain: the row has changed, or may
// have.
func (r *refresh) advance(ctx context.Context, c reading) (Token, error) {
	if c.Disabled.By != "" {
		return r.refuse(ctx, c, Token{}, c.disabled())
	}
	r.resolve(c)
	if c.Failure.Class == ClassDead && r.turnedDown(c) && r.life == 0 {
		r.slot.bury(c.TokenID())
	}
	if r.slot.isBuried(c) {
		return r.refuse(ctx, c, Token{}, c.refreshError(c.Failure.By, nil))
	}
	if c.Lease.Live() && r.lost.adopt(c.Credential) {
		// The lease is the reply to a claim of this process that was lost.
		c.Credential = c.FoundAgain()
		return r.holds(ctx, c)
	}
	if r.slot.ended(c) {
		// The store's clock was set back, and by that clock the token is good: it is renewed as one
		// that was turned down.
		c.ExpiresIn = min(c.ExpiresIn, 0)
		r.invalidated, r.ended = Token{Value: c.AccessToken, id: c.TokenID()}, true
	}
	claim := r.entitled(c)
	state, usable := c.State(claim), r.usable(c)
	if usable != nil {
		usable = r.slot.offer(usable)
		if state == StateLeased || state == StateClaimable {
			r.settle(usable.token, nil, true) // soft expiry: nobody waits while the token is good
		}
	}
	switch state {
	case StateFresh:
		if usable != nil {
			return usable.token, nil
		}
		return Token{}, errLookAgain // it expired on the way
	case StateLeased:
		return r.awaitHolder(ctx, c)
	case StateClaimable:
		if usable != nil {
			if err := r.awaitTurn(c); err != nil {
				return r.stillGood(c), err
			}
		}
	case StateDead, StateBackingOff:
		return r.refuse(ctx, c, r.stillGood(c), c.refreshError(c.Failure.By, nil))
	}
	if r.life > 0 && r.turnedDown(c) && c.lifetime() < r.life {
		return r.refuse(ctx, c, r.stillGood(c),
			r.about(fmt.Errorf("%w: asked for %v of %v", ErrShortLived, r.life, c.lifetime())))
	}
	if err := r.findService(ctx); err != nil {
		return r.stillGood(c), err
	}
	claimed, err := r.claim(ctx, c, claim)
	if err != nil {
		return r.stillGood(c), err
	}
	return r.exchange(ctx, claimed)
}

// catchUp returns errLookAgain where c is older than the token that was turned down, after a claim
// has looked at the row and after a while in which the server that the claim reached may catch up.
// A row that stays as old has lost the token in a fail-over.
func (r *refresh) catchUp(ctx context.Context, c reading) (Token, error) {
	if !(Token{id: c.TokenID()}).olderThan(r.invalidated) {
		return Token{}, nil
	}
	if r.caughtUp == 0 {
		r.caughtUp = r.now().add(maxLookInterval)
		return r.confirm(ctx, c)
	}
	left := r.until(r.caughtUp)
	if left <= 0 {
		return Token{}, nil
	}
	w := r.poller.watch(c, watched{c.answered, c.answered})
	defer r.poller.leave(w)
	if _, err := w.wait(left, nil); err != nil {
		return Token{}, r.about(err)
	}
	return Token{}, errLookAgain
}

// awaitTurn waits until it is this process's turn to claim a credential that is due while its token
// is still good, so that processes do not all claim at the same moment: some time within the first
// tenth of the time that is left. The row is watched meanwhile, since there are providers that end
// the old token when they issue a new one; errLookAgain says that the row has moved on. A caller
// who waits ends the wait.
func (r *refresh) awaitTurn(c reading) error {
	due, expires := c.at.add(c.DueIn), c.at.add(c.ExpiresIn)
	spread := min(expires.sub(due)/10, r.opts.Lease/2)
	left := r.until(due.add(time.Duration(r.claimDelay * float64(spread))))
	if left <= 0 {
		return nil
	}
	w := r.poller.watch(c, watched{c.answered, c.answered})
	defer r.poller.leave(w)
	moved, err := w.wait(left, r.call.wanted)
	switch {
	case err != nil:
		return r.about(err)
	case moved:
		r.learn(c, w)
		return errLookAgain
	}
	return nil
}

// awaitHolder waits until the row has moved on, or its lease may be taken over: then it returns
// errLookAgain. It holds nothing. When the exchange should have ended and nothing shows that, a
// claim looks at the row now and then, since those who are asked may be behind.
func (r *refresh) awaitHolder(ctx context.Context, c reading) (Token, error) {
	// A jitter, so that processes that waited for a dead holder do not all claim at the same
	// moment.
	jitter := mathrand.N(50 * time.Millisecond)
	r.awaited = cmp.Or(r.awaited, c.Lease.Holder)
	w := r.poller.watch(c, r.foreign.watched)
	defer r.poller.leave(w)
	overdue := max(w.expected.add(maxLookInterval), r.slot.known.until)
	for {
		r.foreign.watched = w.seen()
		from := r.foreign.from().add(jitter)
		now, away := r.now(), r.health.awayFor(r.opts.StoreTimeout)
		switch {
		case now >= from:
			return Token{}, errLookAgain
		case away != nil:
			return r.stillGood(c), fmt.Errorf("token of %s, which %s renews: %w", r.slot.key, c.Lease.Holder, away)
		case now >= r.patience:
			return r.stillGood(c), &RefreshError{
				Key: r.slot.key, Class: ClassUnknown, By: c.Lease.Holder, RetryAt: r.wall(from),
				Reason: "one exchange after the other was begun and not ended; gave up waiting",
			}
		case now >= overdue:
			claimed, err := r.look(ctx)
			switch {
			case err == nil:
				return r.holds(ctx, claimed)
			case !errors.Is(err, ErrUnavailable):
				return r.stillGood(c), err
			}
			overdue = r.now().add(maxLookInterval)
		}
		next := min(from, r.patience, overdue)
		moved, err := w.wait(min(r.until(next), maxLookInterval), nil)
		switch {
		case err != nil:
			return r.stillGood(c), r.about(err)
		case moved:
			r.foreign.watched = w.seen()
			r.learn(c, w)
			return Token{}, errLookAgain
		}
	}
}

// refuse gives callers an error that the row calls for, with a token that is still good, if a claim
// has confirmed the row. Nobody needs that where callers are served all the same.
func (r *refresh) refuse(ctx context.Context, c reading, good Token, why error) (Token, error) {
	served := r.invalidated.Value.IsZero() && !good.Value.IsZero()
	if served || r.isClosing() || r.confirmed(c) {
		return good, why
	}
	return r.confirm(ctx, c)
}

// confirm looks at the row under its lock, which was read as c. Where the row can be claimed after
// all, that is the claim.
func (r *refresh) confirm(ctx context.Context, c reading) (Token, error) {
	claimed, err := r.look(ctx)
	if err != nil {
		return r.stillGood(c), err
	}
	return r.holds(ctx, claimed)
}

// holds runs the exchange under the lease that c bears, which is this process's own and under which
// nothing was presented. Nobody waits while the token is good.
func (r *refresh) holds(ctx context.Context, c reading) (Token, error) {
	if usable := r.usable(c); usable != nil {
		r.settle(r.slot.offer(usable).token, nil, true)
	}
	if err := r.findService(ctx); err != nil {
		_ = r.release(ctx, c.Credential)
		return r.stillGood(c), err
	}
	return r.exchange(ctx, c)
}

// resolve finds out which token was turned down, where only its text is known.
func (r *refresh) resolve(c reading) {
	given := r.invalidated
	if given.id == (TokenID{}) && !given.Value.IsZero() && c.AccessToken.Equal(given.Value) {
		r.invalidated.id = c.TokenID()
	}
}

// usable returns c's token if callers may have it; nil if it has expired, or was turned down.
func (r *refresh) usable(c reading) *snapshot {
	if r.turnedDown(c) {
		return nil
	}
	return r.snapshot(c)
}

// turnedDown reports whether c's token is the one that was turned down.
func (r *refresh) turnedDown(c reading) bool {
	return r.invalidated.id != TokenID{} && r.invalidated.id == c.TokenID()
}

// stillGood returns c's token if it has not expired, turned down or not, and is not buried: it goes
// beside an error.
func (r *refresh) stillGood(c reading) Token {
	if r.slot.isBuried(c) {
		return Token{}
	}
	return r.good(r.snapshot(c))
}

// good returns the token of s, or a newer one that is held, if the token has not expired by
// anything that the process knows of its end. Zero: it has, or s is nil.
func (r *refresh) good(s *snapshot) Token {
	if s == nil {
		return Token{}
	}
	best := r.slot.held.Load().merge(s, r.slot.clock)
	if r.now() >= best.expires {
		return Token{}
	}
	return best.token
}

// entitled is the claim that may be made on c.
func (r *refresh) entitled(c reading) Claim {
	r.foreign.see(c)
	claim := Claim{Invalidated: r.invalidated.id, TakeOver: r.foreign.entitled()}
	if r.lost.has(c.Credential) {
		claim.Unused = c.Lease.ID
	}
	return claim
}

// findService asks for the service's policy, once, and only where an exchange is to begin: a caller
// that needs none gets the stored token whether or not the service is known here.
func (r *refresh) findService(ctx context.Context) error {
	if r.service != nil {
		return nil
	}
	service, err := r.engine.findService(ctx, r.slot.key.Service)
	if err != nil {
		return r.about(err)
	}
	r.service = &service
	return nil
}

// claim takes the lease of c as it was read. errLookAgain: it was not to be had, and the row says
// why; or the row was read too long ago for another's lease to be taken over.
func (r *refresh) claim(ctx context.Context, c reading, claim Claim) (reading, error) {
	if !r.ended {
		claim.MinTokenAge = r.service.minTokenAge()
	}
	switch {
	case r.isClosing():
		return reading{}, r.about(ErrClosed)
	case c.State(claim) == StateTooYoung && r.confirmed(c):
		return reading{}, c.tooYoung(claim.MinTokenAge)
	case claim.TakeOver != "" && !r.foreign.fresh():
		return reading{}, errLookAgain
	}
	plain := Claim{MinTokenAge: claim.MinTokenAge}
	if claim == plain && !c.awaitsHolder() {
		return r.claimTogether(ctx, &r.claims, r.claimAll)
	}
	if claim.TakeOver != "" || claim.Unused != "" || c.awaitsHolder() {
		claim.Lease += r.opts.grace() // for the holder to save: see exchange.letHolderSave
	}
	return r.claimAlone(ctx, claim)
}

// exchange runs the exchange under the lease that c bears, which is this refresh's own.
func (r *refresh) exchange(ctx context.Context, c reading) (Token, error) {
	r.awaited = cmp.Or(r.awaited, r.opts.Holder)
	x := &exchange{
		engine: r.engine, service: *r.service, claimed: c, trigger: r.trigger(c),
		notStored: r.notStored,
	}
	result := x.run(ctx)
	r.waitAnew()
	switch result.outcome {
	case OutcomeFailed, OutcomeUnsaved:
		if r.turnedDown(c) && r.life == 0 && errors.Is(result.err, ErrGrantDead) {
			r.slot.bury(c.TokenID())
			return Token{}, result.err
		}
		return r.good(result.token), result.err
	case OutcomeSuperseded:
		return Token{}, errLookAgain
	case OutcomeSaved:
		if result.token != nil {
			return r.slot.offer(result.token).token, nil
		}
		result.err = errors.New("the new token had expired when it was stored")
	}
	// Another exchange follows only where a caller waits for it.
	if r.isClosing() {
		return r.stillGood(c), r.about(ErrClosed)
	}
	if r.vain++; r.vain > maxVain || !r.slot.wants(r.call) {
		return r.stillGood(c), r.about(fmt.Errorf("%w: %w", ErrUnavailable, result.err))
	}
	return Token{}, errLookAgain
}

// trigger says why c is exchanged.
func (r *refresh) trigger(c reading) Trigger {
	switch {
	case c.expired() || r.ended:
		return TriggerExpired
	case r.turnedDown(c) && r.life > 0:
		return TriggerEarly
	case r.turnedDown(c):
		return TriggerInvalidated
	}
	return TriggerDue
}

// notStored settles the call when its callers have waited for the store for StoreTimeout.
func (r *refresh) notStored(waited time.Duration, token *snapshot, err error) {
	if min(waited, r.since(r.call.began)) < r.opts.StoreTimeout {
		return
	}
	r.settle(r.good(token), err, true)
}
