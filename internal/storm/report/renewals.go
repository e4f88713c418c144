package report

// Renewals is the part of a report that a storm over several lifetimes has. The latencies in the
// Report are then those of single calls, without each process's first call for each account, which
// finds an empty cache and reads the row.
type Renewals struct {
	Lifetimes  int     `json:"lifetimes"`
	LifetimeMS float64 `json:"lifetime_ms"`

	// CallersWaited are the calls that waited for an exchange: they began before the exchange of
	// the token that they returned. CallersWaited must be 0: a token is renewed before it expires.
	// A wait for a look at the row, which calls for a due token have, does not count.
	CallersWaited int `json:"callers_waited"`

	// ServedAfterReplaced is for how long processes went on to serve a token after the provider had
	// issued the next one. A provider that ends the old token then turns callers down for that
	// long. Calls that began before the issue do not count.
	ServedAfterReplaced ServedAfterReplaced `json:"served_after_replaced_ms"`

	// Renewers is the number of processes that made an exchange. ClaimsLost is how often a process
	// tried to, and found that another was at it, or had been.
	Renewers   int `json:"processes_that_renewed"`
	ClaimsLost int `json:"claims_lost"`
}

// ServedAfterReplaced is in milliseconds. One value counts for each process and token: from the
// issue of the next token to the beginning of the last call that returned this one, or 0 if that
// call began before.
type ServedAfterReplaced struct {
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`

	// MaxInRenewer is the maximum in the process that made the exchange, MaxInOthers in the
	// processes that read its result.
	MaxInRenewer float64 `json:"max_in_renewer"`
	MaxInOthers  float64 `json:"max_in_others"`
}
