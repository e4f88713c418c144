package wire

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Action is the subject of a record.
type Action string

// The actions.
const (
	Claim   Action = "claim"   // A holder took the lease, and found Refresh in the row.
	Answer  Action = "answer"  // A holder got Token and Refresh from the provider, or a failure.
	Save    Action = "save"    // A holder tried to save Token and Refresh.
	Fail    Action = "fail"    // A holder tried to record a failure.
	Release Action = "release" // A holder tried to give the lease up.
	Call    Action = "call"    // A caller got Token, or an error of that Class.
)

// Record is one action of a worker, between Start and End by history.Now. Tokens are fingerprints.
type Record struct {
	Action  Action `json:"action"`
	Account int    `json:"account"` // The index of the account in the job's accounts.
	Start   int64  `json:"start"`
	End     int64  `json:"end"`
	Claim   string `json:"claim,omitempty"`
	Version uint64 `json:"version,omitempty"`
	Token   string `json:"token,omitempty"`
	Refresh string `json:"refresh,omitempty"`

	// Class is empty for a success. A failed call has a class of [ErrorClass], a failed answer the
	// class of its RefreshError, and a failed write Superseded or Unwritten.
	Class string `json:"class,omitempty"`

	EndsIn   time.Duration `json:"ends_in,omitempty"`  // The lease of a claim ends then, from Start.
	Lifetime time.Duration `json:"lifetime,omitempty"` // A saved token lives for that time.

	// The remaining fields are of a call. Took counts from the signal, over all tries of one
	// caller. Again reports that the caller asks again. Blames is the holder whose interrupted
	// exchange the error names, and Text is the error's text.
	Deadline time.Duration `json:"deadline,omitempty"`
	Took     time.Duration `json:"took,omitempty"`
	Again    bool          `json:"again,omitempty"`
	Blames   string        `json:"blames,omitempty"`
	Text     string        `json:"text,omitempty"`
}

// The classes of failed writes.
const (
	Superseded = "superseded"
	Unwritten  = "error"
)

// The classes of failed calls, beside those of a RefreshError.
const (
	GrantDead    = "dead"
	Unavailable  = "unavailable"
	DeadlineOver = "deadline"
	Untyped      = "untyped"
)

// ErrorClass sorts the error of a caller by the caller's next step: to ask again, or to have a
// person authorize the account. An error that leaves a caller with neither is Untyped.
func ErrorClass(ctx context.Context, err error) string {
	var failed *credentials.RefreshError
	switch {
	case errors.Is(err, credentials.ErrGrantDead):
		return GrantDead
	case errors.As(err, &failed) && failed.Class != "":
		return string(failed.Class)
	case errors.Is(err, credentials.ErrUnavailable):
		return Unavailable
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return DeadlineOver
	}
	return Untyped
}
