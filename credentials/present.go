package credentials

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// presentation is one call of a service's refresher, under a claim.
type presentation struct {
	*engine
	refresher Refresher
	claimed   reading

	// late is called with the answer that comes after the deadline.
	late func(*answer)
}

// answer is the refresher's.
type answer struct {
	grant Grant
	err   *RefreshError // nil: it succeeded
	sent  moment        // when it was called; the grant's lifetimes count from then
	took  time.Duration // until it returned
}

// run calls the refresher, in a goroutine of its own so that one that does not return keeps nobody.
// An answer that comes after the deadline is not lost: it may hold the only refresh token that
// works.
func (p *presentation) run(ctx context.Context, deadline moment) *answer {
	sent := p.now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline.sub(sent))
	answers := make(chan *answer, 1)
	go func() {
		a := &answer{sent: sent, err: unknown("the refresher ended its goroutine")}
		defer func() {
			if v := recover(); v != nil {
				// The panic's value may quote a secret; the stack does not.
				p.log.log(ctx, slog.LevelError, p.claimed.Key.Service, "refresher panicked",
					"credential", p.claimed.Key.String(), "stack", string(debug.Stack()))
				a.err = unknown(fmt.Sprintf("the refresher panicked with a %T", v))
			}
			a.took = p.since(sent)
			answers <- a
		}()
		a.grant, a.err = p.call(ctx)
	}()
	select {
	case a := <-answers:
		cancel()
		return a
	case <-ctx.Done():
	}
	cancel()
	grace := time.NewTimer(margin / 2) // a refresher that heeds ctx returns now
	defer grace.Stop()
	select {
	case a := <-answers:
		return a
	case <-grace.C:
	}
	p.inflight.Go(func() { p.late(<-answers) })
	return &answer{sent: sent, took: p.since(sent), err: unknown("the exchange did not end in time")}
}

// call calls the refresher, unless the time for that is over, and checks the answer.
func (p *presentation) call(ctx context.Context) (Grant, *RefreshError) {
	if deadline, _ := ctx.Deadline(); !time.Now().Before(deadline) || slept(p.claimed.asked) {
		// The process was paused since the claim, or the host slept: the lease may have ended. The
		// clocks are read, because ctx learns of its end only when its timer has run.
		return Grant{}, &RefreshError{
			Class: ClassTransient, Reason: "the time for the exchange was over before it began",
		}
	}
	c := p.claimed.Credential
	grant, err := p.refresher.Refresh(ctx, RefreshInput{
		Key: c.Key, RefreshToken: c.RefreshToken, Extra: c.Extra,
		Fence: c.Fence(), Interrupted: c.Interrupted,
	})
	switch {
	case err != nil:
		return Grant{}, asRefreshError(err)
	case grant.AccessToken.IsZero():
		return Grant{}, unknown("the refresher returned an empty token")
	}
	if fault := cmp.Or(tokenFault(grant.AccessToken), tokenFault(grant.RefreshToken)); fault != "" {
		return Grant{}, unknown("the provider sent a token " + fault)
	}
	return grant, nil
}

func unknown(reason string) *RefreshError {
	return &RefreshError{Class: ClassUnknown, Reason: reason}
}
