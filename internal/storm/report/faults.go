package report

// Faults is the part of a report that a storm with faults has.
type Faults struct {
	Fault      string  `json:"fault"`    // "kill exchange", "pause", …, "chaos".
	Provider   string  `json:"provider"` // The provider's answer to reuse: "grace" or "revoke".
	Seed       uint64  `json:"seed,omitempty"`
	DurationMS float64 `json:"duration_ms,omitempty"` // The duration of the chaos.

	// Kills and Pauses are those of processes. Restarts are the server's, and Outages the longer
	// times in which the server was away. Withdrawals are grants that their owner ended at the
	// provider. Replacements are grants in place of which another was put during their exchange.
	Kills          int            `json:"kills"`
	Pauses         int            `json:"pauses"`
	Restarts       int            `json:"restarts"`
	Outages        int            `json:"outages"`
	LongestOutage  float64        `json:"longest_outage_ms,omitempty"`
	Withdrawals    int            `json:"withdrawals"`
	Replacements   int            `json:"replacements"`
	ProviderFaults map[string]int `json:"provider_faults,omitempty"`

	// UnknownOutcomes are calls of the endpoint of which nobody knew in time whether the refresh
	// token was used up. Replays are calls with a refresh token of unknown outcome. Retries are
	// calls with a refresh token that the endpoint had refused to look at. Reauthorizations are
	// grants that were put for accounts that asked for one.
	UnknownOutcomes  int `json:"unknown_outcomes"`
	Replays          int `json:"replays"`
	Retries          int `json:"retries"`
	Reauthorizations int `json:"reauthorizations"`

	// TokensLost are grants that the provider handed out whose newest refresh token is not in the
	// table, or that the provider revoked because a refresh token was presented again while the
	// holder of its successor lived. Two kinds are counted apart: grants whose holder was killed
	// between the answer and the save, and grants that were lost together with the answer.
	TokensLost     int `json:"tokens_lost"`
	LostWithHolder int `json:"lost_with_holder"`
	LostWithAnswer int `json:"lost_with_answer"`

	// Errors counts the errors of callers by class, each time for callers that asked again.
	Errors map[string]int `json:"errors"`

	// CallersKilled is the number of callers that died with their process.
	CallersKilled int `json:"callers_killed"`

	// PresentedLate are presentations after the lease, by holders that were stopped just before.
	MaxLiveClaims    int     `json:"max_live_claims_per_account"`
	PresentedLate    int     `json:"presented_after_lease"`
	ConnectionsInUse int     `json:"connections_in_use_at_end"`
	History          History `json:"history"`
}

// History is the verdict of package history.
type History struct {
	Operations int  `json:"operations"`
	OK         bool `json:"ok"`
}
