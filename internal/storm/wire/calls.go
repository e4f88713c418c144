package wire

import "time"

// Calls are the calls of one process in a storm over several lifetimes.
type Calls struct {
	Accounts []AccountCalls `json:"accounts"`
	Failures map[string]int `json:"failures,omitempty"` // The count of each error's text.
	Until    int64          `json:"until"`              // The process stopped asking then.

	// ClaimsLost is how often the process tried to claim a row that another had leased or renewed.
	ClaimsLost int `json:"claims_lost"`
}

// AccountCalls are the calls for one account. The memory for them grows with the tokens and
// threads, and not with the calls.
type AccountCalls struct {
	OK     int       `json:"ok"`
	Failed int       `json:"failed,omitempty"`
	Took   Histogram `json:"took"` // All calls but the first, which reads the row.

	Tokens map[string]TokenCalls `json:"tokens"` // The calls that returned a token, by fingerprint.
}

// TokenCalls are the calls that returned one token. Times are those of history.Now.
type TokenCalls struct {
	// Last is when the last of the calls began.
	Last int64 `json:"last"`

	// Early are the starts of the calls that began before the first of them had ended: one for each
	// thread at most. Each call that began before the token's exchange is among them.
	Early []int64 `json:"early,omitempty"`

	// Own reports that this process got the token from the provider.
	Own bool `json:"own,omitempty"`

	firstEnd int64
}

// EndedCall is a call that has ended. Start and End are times of history.Now.
type EndedCall struct {
	Token      string // The fingerprint of the token, or "" after an error.
	First      bool   // The call is its process's first for that account.
	Start, End int64
	Took       time.Duration
}

// Add counts a call.
func (a *AccountCalls) Add(c EndedCall) {
	if c.Token == "" {
		a.Failed++
		return
	}
	a.OK++
	if !c.First {
		a.Took.Add(c.Took)
	}
	t := a.Tokens[c.Token]
	if t.firstEnd == 0 || c.End < t.firstEnd {
		t.firstEnd = c.End
	}
	if c.Start < t.firstEnd {
		t.Early = append(t.Early, c.Start)
	}
	t.Last = max(t.Last, c.Start)
	a.set(c.Token, t)
}

// Own notes that this process got the token from the provider.
func (a *AccountCalls) Own(token string) {
	t := a.Tokens[token]
	t.Own = true
	a.set(token, t)
}

func (a *AccountCalls) set(token string, t TokenCalls) {
	if a.Tokens == nil {
		a.Tokens = make(map[string]TokenCalls)
	}
	a.Tokens[token] = t
}
