package provider

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Kind is a way to misbehave.
type Kind string

// The kinds of faults.
const (
	// RateLimited answers 429, with Retry-After if the fault has one.
	RateLimited Kind = "rate_limited"

	// ServerError answers Fault.Status (503 if that is 0), with Retry-After if the fault has one.
	ServerError Kind = "server_error"

	// Hang answers nothing until the client goes away or the provider is closed.
	Hang Kind = "hang"

	// Drop closes the connection without an answer.
	Drop Kind = "drop"

	// CutAnswer closes the connection in the middle of a 200's body.
	CutAnswer Kind = "cut_answer"

	// BrokenJSON answers 200 with a body that is not JSON, though it says so.
	BrokenJSON Kind = "broken_json"

	// NoAccessToken answers 200 without access_token and refresh_token.
	NoAccessToken Kind = "no_access_token"

	// NoExpiresIn is a success that does not say how long the token lives (RFC 6749 section 5.1
	// allows it).
	NoExpiresIn Kind = "no_expires_in"

	// ZeroExpiresIn is a success with "expires_in": 0.
	ZeroExpiresIn Kind = "zero_expires_in"

	// BadRefreshToken answers 200 with the error bad_refresh_token, as GitHub does for a dead
	// grant.
	BadRefreshToken Kind = "bad_refresh_token"

	// EmptyBadRequest answers 400 without a body, as Glewlwyd does for a dead grant.
	EmptyBadRequest Kind = "empty_bad_request"

	// Firewall answers Fault.Status (403 if that is 0) with a page in HTML, as what stands before a
	// provider does.
	Firewall Kind = "firewall"

	// OwnWords answers Fault.Status (400 if that is 0) with Fault.Body, which is JSON: for what one
	// provider says and no other.
	OwnWords Kind = "own_words"

	// InvalidClient answers 401 invalid_client (RFC 6749 section 5.2).
	InvalidClient Kind = "invalid_client"
)

// Kinds returns every kind.
func Kinds() []Kind {
	return []Kind{
		RateLimited, ServerError, Hang, Drop, CutAnswer, BrokenJSON, NoAccessToken, NoExpiresIn, ZeroExpiresIn,
		BadRefreshToken, EmptyBadRequest, Firewall, OwnWords, InvalidClient,
	}
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It refuses what is no kind.
func (k *Kind) UnmarshalText(text []byte) error {
	kind := Kind(text)
	if kind != "" && !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("unknown fault %q; there are %v", kind, Kinds())
	}
	*k = kind
	return nil
}

// Fault is one misbehaviour.
type Fault struct {
	Kind Kind `json:"kind"`

	// Rotated lets the rotation take effect first: the refresh token is used up, and the client
	// never learns the next one. Without it, the refresh token stays as it was. NoExpiresIn and
	// ZeroExpiresIn are successes and rotate always.
	Rotated bool `json:"rotated,omitempty"`

	// Status is what ServerError, Firewall and OwnWords answer; zero: 503, 403 and 400.
	Status int `json:"status,omitempty"`

	// Body is what OwnWords answers.
	Body string `json:"body,omitempty"`

	// RetryAfter is sent with RateLimited and ServerError, in whole seconds, or with AsDate as an
	// HTTP-date counted from the Date of the answer (RFC 9110 section 10.2.3). Zero: no such
	// header.
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
	AsDate     bool          `json:"as_date,omitempty"`
}

// Rate is a fault and how likely it is, from 0 to 1. Rates are laid end to end: what exceeds 1 in
// sum never happens.
type Rate struct {
	Fault Fault   `json:"fault"`
	P     float64 `json:"p"`
}

// Enqueue has the account's next presentations meet the faults, one each, in order. Account ""
// means whichever presentations come next and have no fault of their own. The zero Fault in a queue
// is a presentation without fault.
func (p *Provider) Enqueue(account string, faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if account == "" {
		p.queue = append(p.queue, faults...)
		return
	}
	a := p.account(account)
	a.queue = append(a.queue, faults...)
}

// SetRates replaces the faults that come at random. None: there are no more of them.
func (p *Provider) SetRates(rates ...Rate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rates = rates
}

// nextFault takes the fault that the presentation of the account meets. The caller holds p.mu.
func (p *Provider) nextFault(name string) Fault {
	if a := p.accounts[name]; a != nil && len(a.queue) > 0 {
		fault := a.queue[0]
		a.queue = a.queue[1:]
		return fault
	}
	if len(p.queue) > 0 {
		fault := p.queue[0]
		p.queue = p.queue[1:]
		return fault
	}
	if len(p.rates) == 0 {
		return Fault{}
	}
	x := p.random.Float64()
	for _, rate := range p.rates {
		if x < rate.P {
			return rate.Fault
		}
		x -= rate.P
	}
	return Fault{}
}

// rotates reports whether a presentation that meets the fault uses its refresh token up.
func (f Fault) rotates() bool {
	switch f.Kind {
	case "", NoExpiresIn, ZeroExpiresIn:
		return true
	}
	return f.Rotated
}

// answers reports whether the client gets its tokens all the same.
func (f Fault) answers() bool {
	switch f.Kind {
	case "", NoExpiresIn, ZeroExpiresIn:
		return true
	}
	return false
}

// write shows the fault to the client. answer is what it would have got, or a likeness of it where
// nothing was issued.
func (f Fault) write(w http.ResponseWriter, answer map[string]any) {
	switch f.Kind {
	case RateLimited:
		f.retryAfter(w)
		writeError(w, http.StatusTooManyRequests, "", "")
	case ServerError:
		f.retryAfter(w)
		status := cmp.Or(f.Status, http.StatusServiceUnavailable)
		http.Error(w, http.StatusText(status), status)
	case CutAnswer:
		cut(w, answer)
	case BrokenJSON:
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = w.Write([]byte(`{"access_token":"access-half-a-`))
	case NoAccessToken:
		writeJSON(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": answer["expires_in"]})
	case BadRefreshToken:
		writeError(w, http.StatusOK, "bad_refresh_token", "The refresh token passed is incorrect or expired.")
	case EmptyBadRequest:
		w.WriteHeader(http.StatusBadRequest)
	case Firewall:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(cmp.Or(f.Status, http.StatusForbidden))
		_, _ = w.Write([]byte("<html><title>Request blocked</title><p>Incident 7f3a</p></html>\n"))
	case OwnWords:
		Answer{f.Status, f.Body}.write(w)
	case InvalidClient:
		writeError(w, http.StatusUnauthorized, "invalid_client", "Client authentication failed.")
	default: // Drop, and Hang when it is over
		drop(w)
	}
}

// retryAfter sets the header, and the Date that an HTTP-date is counted from.
func (f Fault) retryAfter(w http.ResponseWriter) {
	switch now := time.Now().UTC(); {
	case f.RetryAfter == 0:
	case f.AsDate:
		w.Header().Set("Date", now.Format(http.TimeFormat))
		w.Header().Set("Retry-After", now.Add(f.RetryAfter).Format(http.TimeFormat))
	default:
		w.Header().Set("Retry-After", strconv.FormatInt(int64(f.RetryAfter/time.Second), 10))
	}
}
