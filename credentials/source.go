package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Source is the handle for one credential, cheap to call for every request. See [Manager.Source].
type Source struct {
	slot    slot
	lookout *lookout // of the manager
}

// Key returns the credential's normalized key.
func (s *Source) Key() Key { return s.slot.key }

// Token is [Manager.Token] for this credential. With a fresh token in the cache it costs atomic
// loads and a clock read.
func (s *Source) Token(ctx context.Context) (Token, error) {
	held, now := s.slot.held.Load(), s.slot.now()
	if held == nil || now >= held.quiet || now >= moment(s.slot.lookBy.Load()) {
		return s.token(ctx)
	}
	if !s.slot.used.Load() { // once the bit is set, callers only read
		s.slot.used.Store(true)
	}
	return held.token, nil
}

// token is the slow path: a refresh looks at the store. A token that is held was not looked at
// lately, or is due: in another process, it may have been replaced. Callers wait for the look, and
// no longer: not for an exchange, nor for a store that does not answer.
func (s *Source) token(ctx context.Context) (Token, error) {
	s.slot.used.Store(true)
	for {
		held := s.slot.valid()
		if held == nil && ctx.Err() != nil {
			return Token{}, s.slot.gaveUp(ctx)
		}
		c := s.slot.join(Token{}, held == nil, s.start(ctx))
		if held == nil {
			token, err := s.slot.wait(ctx, c)
			s.lookout.enroll(&s.slot)
			if !token.Value.IsZero() {
				return token, nil // the renewal failed, but the token has not expired
			}
			return Token{}, err
		}
		ended := s.slot.awaitLook(ctx, c)
		s.lookout.enroll(&s.slot)
		held = s.slot.valid()
		switch {
		case ended && !c.token.Value.IsZero():
			return c.token, nil
		case held != nil:
			return held.token, nil
		case ended:
			return Token{}, c.err
		}
		// The look has ended what was held, and an exchange is under way.
	}
}

// start begins the refresh behind a call; ctx lends it its values.
func (s *Source) start(ctx context.Context) func(*call) {
	return func(c *call) { newRefresh(&s.slot, c).run(ctx) }
}

// TokenFor is [Manager.TokenFor] for this credential.
func (s *Source) TokenFor(ctx context.Context, life time.Duration) (Token, error) {
	for renewed := false; ; {
		token, err := s.Token(ctx)
		switch {
		case err != nil || token.lives(life):
			return token, err
		case renewed: // another exchange would bring no more
			return Token{}, fmt.Errorf("token of %s: %w: asked for %v", s.slot.key, ErrShortLived, life)
		}
		c := s.slot.join(token, true, func(c *call) {
			r := newRefresh(&s.slot, c)
			r.life = life
			r.run(ctx)
		})
		next, err := s.slot.wait(ctx, c)
		knew := c.invalidated.is(token) // or that call began for another reason
		if err != nil && (knew || ctx.Err() != nil || errors.Is(err, ErrUnavailable)) {
			return Token{}, err
		}
		renewed = err == nil && knew && !next.is(token)
	}
}

// Invalidate is [Manager.Invalidate] for this credential.
func (s *Source) Invalidate(ctx context.Context, turnedDown Token) (Token, error) {
	if turnedDown.Value.IsZero() {
		return s.Token(ctx)
	}
	held, newer := s.slot.turnDown(&turnedDown)
	if newer {
		return held.token, nil
	}
	return s.replace(ctx, turnedDown, held, s.slot.join(turnedDown, true, s.start(ctx)))
}

// Report is [Manager.Report] for this credential.
func (s *Source) Report(ctx context.Context, turnedDown Token) {
	if turnedDown.Value.IsZero() || !s.slot.beginReport(turnedDown) {
		return
	}
	held, newer := s.slot.turnDown(&turnedDown)
	if newer {
		s.slot.endReport(turnedDown)
		return
	}
	ctx = context.WithoutCancel(ctx)
	c := s.slot.join(turnedDown, true, s.start(ctx)) // before any caller of Token joins one
	go func() {
		defer s.slot.endReport(turnedDown)
		_, err := s.replace(ctx, turnedDown, held, c)
		if err != nil && !errors.Is(err, errTooYoung) && !errors.Is(err, ErrClosed) {
			s.slot.log.warn(ctx, s.slot.key.Service, "renewal of a token that was turned down failed",
				"credential", s.slot.key.String(), "error", err)
		}
	}()
}

// replace gets another token than the one that was turned down: from the call c, or from one after
// it, where c knew nothing of that. The slot held that token, if held is not nil.
func (s *Source) replace(ctx context.Context, turnedDown Token, held *snapshot, c *call) (Token, error) {
	for ; ; c = s.slot.join(turnedDown, true, s.start(ctx)) {
		token, err := s.slot.wait(ctx, c)
		knew := c.invalidated.is(turnedDown)
		switch {
		case err == nil && (knew || !token.is(turnedDown) && !token.olderThan(turnedDown)):
			return token, nil
		case err != nil && (knew || ctx.Err() != nil || errors.Is(err, ErrUnavailable)):
			if held != nil && !endsToken(err) {
				s.slot.offer(held) // it has not expired, so it is better than an error
			}
			return Token{}, err
		}
	}
}

// endsToken reports whether the error says that nobody gets a token that was turned down, though it
// has not expired.
func endsToken(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrGrantDead) || errors.Is(err, ErrDisabled)
}

// Format implements [fmt.Formatter]: no verb shows more than the credential's key. The fields lead
// to the client secrets of the program's refreshers.
func (s *Source) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "credentials.Source of "+s.slot.key.String())
}
