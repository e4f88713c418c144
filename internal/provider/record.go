package provider

import (
	"maps"
	"slices"
	"time"
)

// Outcome is what a presentation came to.
type Outcome string

// The outcomes.
const (
	Pending  Outcome = "pending"  // it is still under way
	Issued   Outcome = "issued"   // new tokens were answered
	Faulted  Outcome = "faulted"  // a fault kept the tokens from the client; Presentation.Fault says which
	Reused   Outcome = "reused"   // invalid_grant: the token was used before; its family is revoked now
	Revoked  Outcome = "revoked"  // invalid_grant: the family was revoked earlier
	NeverWas Outcome = "unissued" // invalid_grant: no such refresh token was ever issued
	Early    Outcome = "early"    // refused: the access token has too long to live; see Options.Early
	Refused  Outcome = "refused"  // the request itself: invalid_client, invalid_request, unsupported_grant_type
	Aborted  Outcome = "aborted"  // the provider was closed meanwhile
)

// Presentation is one request to the token endpoint.
type Presentation struct {
	// Account is whose refresh token it was, or the client's id for a client_credentials grant; ""
	// if nobody's.
	Account string `json:"account"`
	Grant   string `json:"grant_type"`

	// Family and Serial name the refresh token without showing it; both count from 1 over the whole
	// provider, and are 0 for client_credentials and for tokens that were never issued. Next is the
	// serial of the refresh token that took its place through this presentation, whether or not the
	// client learned it; 0 if none did.
	Family int64 `json:"family"`
	Serial int64 `json:"serial"`
	Next   int64 `json:"next"`

	// Start is when it arrived, End when it was decided and just before the answer went out; zero
	// while Pending. They have monotonic readings, except where they came through JSON.
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"`

	Outcome Outcome `json:"outcome"`

	// Fault is what it met on request, "" for none.
	Fault Kind `json:"fault,omitempty"`

	// ClientGone: the client had hung up by End, so nobody read the answer.
	ClientGone bool `json:"client_gone,omitempty"`
}

// Presentations returns what was recorded so far, in the order of arrival, those under way
// included.
func (p *Provider) Presentations() []Presentation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Presentation{}, p.presentations...)
}

// Issue is an access token that was issued.
type Issue struct {
	Account string
	Token   string // itself: a secret

	// Presented is when the presentation that it answers arrived; zero for the first token of an
	// authorization. At is when it was issued, from when on [Options.EndOldAccessToken] has its
	// predecessor turned down. Both have monotonic readings.
	Presented, At time.Time
}

// Issues returns the access tokens that were issued so far, in that order, whether or not the
// client learned them.
func (p *Provider) Issues() []Issue {
	p.mu.Lock()
	defer p.mu.Unlock()
	issues := []Issue{}
	for t := range p.families.AccessTokens {
		issues = append(issues, Issue{Account: t.Account, Token: t.Text, Presented: t.Presented, At: t.Issued})
	}
	slices.SortFunc(issues, func(a, b Issue) int { return a.At.Compare(b.At) })
	return issues
}

// Stats summarizes what was recorded so far.
func (p *Provider) Stats() Stats { return Summarize(p.Presentations()) }

// Stats are the numbers of a load test.
type Stats struct {
	Counts

	// MaxParallelAccounts is how many accounts had a presentation under way at one moment, at most.
	MaxParallelAccounts int `json:"max_parallel_accounts"`

	// Faults counts the presentations that met each kind of fault.
	Faults map[Kind]int `json:"faults"`

	// Accounts has the same numbers for each account.
	Accounts map[string]Counts `json:"accounts"`
}

// Counts are numbers over some presentations.
type Counts struct {
	// Calls is how many there were, Issued how many of them were answered with tokens.
	Calls  int `json:"calls"`
	Issued int `json:"issued"`

	// Duplicates are presentations of a refresh token that was presented before and was exchanged
	// for new tokens then, or whose earlier presentation was still under way: nobody who shares the
	// result needs one. A client that dies with the answer unread, or whose connection is lost
	// then, has reason for one all the same; the provider cannot know. Replays are the other
	// repetitions of a token: each earlier presentation had ended, and none with tokens. Where
	// refresh tokens are kept, one after the other is neither.
	Duplicates int `json:"duplicates"`
	Replays    int `json:"replays"`

	// ReuseDetected counts the families that were revoked because a used token came back.
	ReuseDetected int `json:"reuse_detected"`

	// MaxParallelPerAccount is how many presentations of one account were under way at one moment,
	// at most.
	MaxParallelPerAccount int `json:"max_parallel_per_account"`
}

// Summarize computes the numbers from presentations in order of arrival. It is a pure function.
func Summarize(presentations []Presentation) Stats {
	stats := Stats{Faults: make(map[Kind]int), Accounts: make(map[string]Counts)}
	earlier := make(map[int64][]Presentation) // by the refresh token's serial
	for _, p := range presentations {
		var c Counts
		c.Calls = 1
		if p.Outcome == Issued {
			c.Issued = 1
		}
		if p.Outcome == Reused {
			c.ReuseDetected = 1
		}
		if same := earlier[p.Serial]; p.Serial != 0 && len(same) > 0 {
			needless := func(e Presentation) bool {
				return e.Outcome == Issued && e.Next != 0 || e.End.IsZero() || e.End.After(p.Start)
			}
			kept := func(e Presentation) bool { return e.Outcome == Issued && e.Next == 0 }
			switch {
			case slices.ContainsFunc(same, needless):
				c.Duplicates = 1
			case !kept(same[len(same)-1]):
				c.Replays = 1
			}
		}
		earlier[p.Serial] = append(earlier[p.Serial], p)
		if p.Fault != "" {
			stats.Faults[p.Fault]++
		}
		stats.Counts = stats.add(c)
		stats.Accounts[p.Account] = stats.Accounts[p.Account].add(c)
	}
	stats.parallel(presentations)
	return stats
}

func (c Counts) add(d Counts) Counts {
	c.Calls += d.Calls
	c.Issued += d.Issued
	c.Duplicates += d.Duplicates
	c.Replays += d.Replays
	c.ReuseDetected += d.ReuseDetected
	return c
}

// parallel fills in the maxima: it walks through starts and ends in the order of time and, within
// one instant, in the order of arrival, so that what ended at the moment at which the next began
// does not overlap it.
func (s *Stats) parallel(presentations []Presentation) {
	type edge struct {
		at      time.Time
		step    int
		account string
	}
	var edges []edge
	for _, p := range presentations {
		edges = append(edges, edge{p.Start, 1, p.Account})
		if !p.End.IsZero() {
			edges = append(edges, edge{p.End, -1, p.Account})
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	running := make(map[string]int)
	for _, e := range edges {
		running[e.account] += e.step
		if running[e.account] == 0 {
			delete(running, e.account)
		}
		s.MaxParallelAccounts = max(s.MaxParallelAccounts, len(running))
		c := s.Accounts[e.account]
		c.MaxParallelPerAccount = max(c.MaxParallelPerAccount, running[e.account])
		s.Accounts[e.account] = c
	}
	for c := range maps.Values(s.Accounts) {
		s.MaxParallelPerAccount = max(s.MaxParallelPerAccount, c.MaxParallelPerAccount)
	}
}
