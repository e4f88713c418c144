package credentials

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A grant whose provider refuses for a reason that nobody knows counts as dead when it was refused
// at least so often in a row, for at least so long, and its token has expired.
const (
	minRefusals   = 8
	minRefusedFor = 6 * time.Hour

	// refusedPart is the part of the time since the first of those refusals that passes before the
	// next try, up to maxRefusalPause. The number of tries grows with the logarithm of the time,
	// and the end of a provider's fault is found out late by a quarter of its length.
	refusedPart     = 4
	maxRefusalPause = time.Hour
)

// doubtPause is how long a refusal that may be due to an interrupted exchange stays in doubt: the
// provider has given up that one's request by then.
const doubtPause = time.Minute

// refusals returns how many unclassified refusals in a row there are with this failure. A failure
// without code, such as a provider that was not reached, neither counts nor ends the row.
func (c Credential) refusals(e *RefreshError) int {
	refusal := e.refusal()
	known := c.Failure.Code != "" && c.Failure.Code != refusal.Code
	switch {
	case refusal.Unclassified && known:
		return 1
	case refusal.Unclassified:
		return c.Failure.Refusals + 1
	case refusal.Code == "" && refusal.Class != ClassDead:
		return c.Failure.Refusals
	}
	return 0
}

// weigh returns the failure as it is to be recorded. c is the credential as it is now. A refusal
// for a reason that nobody knows becomes a death in the end, and a death that an interrupted
// exchange explains is no death yet.
func (c Credential) weigh(e *RefreshError, service Service) *RefreshError {
	told := *e
	switch n := c.refusals(e); {
	case e.Unclassified && n >= minRefusals && c.Failure.RefusedFor >= minRefusedFor && c.expired():
		told.Class, told.Code, told.RetryAt = ClassDead, CodeUnconfirmed, time.Time{}
		told.Reason = fmt.Sprintf("taken for dead, and not confirmed by the provider, after %d refusals in %v: %s",
			n, c.Failure.RefusedFor.Round(time.Minute), strings.TrimSpace(e.Code+" "+e.Reason))
		told.stands = e
	case e.Class == ClassDead && service.Replay == ReplayTwice && c.Interrupted.By != "" && !c.doubted(e):
		told.Class, told.Code = ClassTransient, e.doubtCode()
		told.RetryAt = time.Now().Add(doubtPause)
		told.Reason = "not believed yet, since an interrupted exchange may be under way: " + e.Reason
	}
	return &told
}

// doubted reports whether the provider's word for dead was in doubt once already since the
// interruption.
func (c Credential) doubted(e *RefreshError) bool {
	return c.Failure.Class == ClassTransient && c.Failure.Code == e.doubtCode() && c.Failure.Ago < c.Interrupted.Ago
}

// doubtCode is the code of a death that is in doubt.
func (e *RefreshError) doubtCode() string { return cmp.Or(e.Code, "doubted") }

// retryIn returns how long no process may call the provider after a failure that is no death. c is
// the credential as it is now.
//
// While the token lives nobody waits for a renewal. A refusal with a code, or for a reason that
// nobody knows, may say that it is too early, so the next try comes when half of the token's life
// that is left is over. And no pause but one that the provider asked for lasts beyond the token's
// end, where callers begin to wait.
func (c Credential) retryIn(e *RefreshError, lives bool) time.Duration {
	pause := retryIn(e.RetryAt, c.Failure.Count)
	if !e.RetryAt.IsZero() {
		return pause
	}
	lives = lives && !c.expired()
	if e.Unclassified {
		pause = max(pause, jittered(min(c.Failure.RefusedFor/refusedPart, maxRefusalPause)))
	}
	if lives && e.Class == ClassTransient && (e.Unclassified || e.Code != "") {
		pause = max(pause, min(c.ExpiresIn/2, maxBackOff))
	}
	if lives {
		pause = min(pause, c.ExpiresIn)
	}
	return pause
}

// jittered returns a time between three quarters of d and d.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
