package oauth2refresh

import (
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/latchkey-go/latchkey/credentials"
)

// verdict is the meaning of an answer, with a text for people.
type verdict struct {
	class credentials.Class
	says  string

	// unclassified says that the provider refused for a reason that is not known here: the grant
	// may be dead.
	unclassified bool

	// own says that the provider speaks of its own fault. With a 5xx nobody knows how far it got.
	own bool
}

// codes are the error codes whose meaning is known, in their normal form: RFC 6749 sections 5.2 and
// 4.1.2.1, RFC 8628, RFC 8707, RFC 9449, and the field's own words. The client is authenticated
// before the refresh token is looked at (RFC 6749 section 6), so a fault of the request itself
// leaves the token alone.
var codes = map[string]verdict{
	"invalid_grant": {class: credentials.ClassDead,
		says: "the refresh token is invalid, expired, revoked, or was issued to another client"},

	"bad_refresh_token":         deadToken, // GitHub, HubSpot
	"invalid_refresh_token":     deadToken, // Slack, Strava (see parameters.codes)
	"expired_refresh_token":     deadToken,
	"revoked_refresh_token":     deadToken,
	"unknown_refresh_token":     deadToken,
	"refresh_token_invalid":     deadToken,
	"refresh_token_invalidated": deadToken, // OpenAI
	"refresh_token_expired":     deadToken, // OpenAI
	"refresh_token_revoked":     deadToken,
	"refresh_token_reused":      deadToken, // OpenAI
	"refresh_token_not_found":   deadToken,
	"token_revoked":             deadToken, // Slack
	"account_inactive":          deadToken, // Slack
	"invalid_code":              deadToken, // Zoho

	"interaction_required":       interactive, // Microsoft; OpenID Connect Core 1.0 section 3.1.2.6
	"login_required":             interactive,
	"consent_required":           interactive,
	"account_selection_required": interactive,

	"invalid_client":               {class: credentials.ClassTransient, says: notAuthenticated},
	"invalid_client_id":            {class: credentials.ClassTransient, says: notAuthenticated}, // Slack
	"invalid_client_secret":        {class: credentials.ClassTransient, says: notAuthenticated},
	"bad_client_secret":            {class: credentials.ClassTransient, says: notAuthenticated}, // Slack
	"incorrect_client_credentials": {class: credentials.ClassTransient, says: notAuthenticated}, // GitHub
	"unauthorized_client": {class: credentials.ClassTransient,
		says: "the client may not use this grant; check the app's settings at the provider"},
	"unsupported_grant_type": {class: credentials.ClassTransient,
		says: "the provider does not know this grant; check TokenURL and the app's settings"},
	"invalid_scope": {class: credentials.ClassTransient, says: "the scope is not granted; check Scopes"},
	"invalid_target": {class: credentials.ClassTransient,
		says: "the resource is not granted; check the parameters of the request"},
	"invalid_dpop_proof":      {class: credentials.ClassTransient, says: noDPoP},
	"use_dpop_nonce":          {class: credentials.ClassTransient, says: noDPoP},
	"temporarily_unavailable": {class: credentials.ClassTransient, says: notAvailable},
	"slow_down":               {class: credentials.ClassTransient, says: tooMany},
	"ratelimited":             {class: credentials.ClassTransient, says: tooMany}, // Slack
	"rate_limited":            {class: credentials.ClassTransient, says: tooMany},
	"rate_limit_exceeded":     {class: credentials.ClassTransient, says: tooMany},
	"too_many_requests":       {class: credentials.ClassTransient, says: tooMany},

	"server_error":    {class: credentials.ClassTransient, says: ownFault, own: true},
	"internal_error":  {class: credentials.ClassTransient, says: ownFault, own: true}, // Slack
	"access_denied":   {class: credentials.ClassTransient, says: denied, unclassified: true},
	"invalid_request": {class: credentials.ClassTransient, says: malformed, unclassified: true},
}

var (
	deadToken = verdict{class: credentials.ClassDead,
		says: "the refresh token does not work any more"}
	interactive = verdict{class: credentials.ClassDead,
		says: "the provider wants the person to sign in or to consent again"}
)

const (
	noDPoP       = "the provider asks for DPoP, which is not supported"
	notAvailable = "the provider is not available for now"
	noEndpoint   = "this is no token endpoint; check TokenURL"
	tooLarge     = "the request is too large for the provider"
	tooMany      = "the provider asks for fewer requests"
	clientClosed = "a proxy says that the client closed the connection"
	ownFault     = "the provider failed"

	denied    = "the provider denies the request; it may be too early for a renewal, or the grant is dead"
	malformed = "the request is malformed, or the grant is dead; check the app's settings, and " +
		"whether anything else uses the grant"
	overlapped = "the request is malformed, or another exchange of the same refresh token overlapped it; " +
		"check the app's settings, and whether anything else uses the grant"

	notAuthenticated = "client authentication failed; check ClientID, ClientSecret and AuthStyle"
	notLetIn         = "the provider does not let this client in; check the app's settings and the network"

	// foreign is said of a code that is not known here.
	foreign = "the provider's reason is not known here; if it means a dead grant, Classify can tell"

	// refused is said of a 4xx that names no reason.
	refused = "the request was refused without a reason that is known here; check TokenURL, the " +
		"app's settings and the network; if the provider calls a dead grant so, Classify can tell"
)

// refusals are the statuses that say, with any body that names no code, more than that the request
// was refused.
var refusals = map[int]string{
	http.StatusUnauthorized:                notAuthenticated,
	http.StatusForbidden:                   notLetIn,
	http.StatusNotFound:                    "there is no token endpoint; check TokenURL",
	http.StatusMethodNotAllowed:            noEndpoint,
	http.StatusNotAcceptable:               noEndpoint,
	http.StatusProxyAuthRequired:           "the proxy wants authentication; check the HTTP client's proxy",
	http.StatusRequestEntityTooLarge:       tooLarge,
	http.StatusUnsupportedMediaType:        noEndpoint,
	http.StatusMisdirectedRequest:          "the server does not answer for this host; check TokenURL",
	http.StatusTooEarly:                    "the provider wants the request again, later",
	http.StatusRequestHeaderFieldsTooLarge: tooLarge,
}

// late are the statuses of 4xx that speak of time and not of the request. A server or a proxy may
// give one while the request is being processed behind it (tower-http's time-out is a 408), so
// these statuses refuse nothing.
var late = map[int]string{
	http.StatusRequestTimeout: "the time was over, and nobody says whose",
	460:                       clientClosed, // AWS
	499:                       clientClosed, // nginx
}

// deadPhrase matches a description which says that the refresh token does not work: Atlassian and
// DeviantArt ("refresh_token is invalid"), X ("Value passed for the token was invalid"), Exact
// Online ("The refresh token expired at").
var deadPhrase = regexp.MustCompile(`(?i)` +
	`\b(refresh[ _-]?token|value passed for the token)( (that |you )?(provided|passed|supplied|given))? ` +
	`((is|was|has|has been|is already|was already|has already been) ` +
	`(invalid|not valid|incorrect|unknown|expired|revoked|used|not found)|invalid|expired|revoked|does not exist)\b` +
	`|\b(invalid|expired|revoked|unknown|unrecognized|incorrect) refresh[ _-]?token\b`)

// overlap matches a description that speaks of requests at the same time (Ory fosite).
var overlap = regexp.MustCompile(`(?i)\b(concurrent|simultaneous|in progress|at the same time)`)

// saysDead reports whether a description says that the refresh token does not work.
func saysDead(description string) bool {
	return deadPhrase.MatchString(description) && !overlap.MatchString(description)
}

// normal returns the code as codes lists it: in small letters, its words joined by '_'.
func normal(code string) string {
	var b strings.Builder
	var last rune
	for _, c := range code {
		switch {
		case c == '-' || c == '.':
			c = '_'
		case unicode.IsUpper(c):
			if unicode.IsLower(last) {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(c))
		last = c
	}
	return b.String()
}

// codeWords matches an error code. Tokens have digits, or change case in the middle.
var codeWords = regexp.MustCompile(`^(?:[A-Z]?[a-z]+|[A-Z]+)(?:[_.-](?:[A-Z]?[a-z]+|[A-Z]+))*$`)

// errorCode returns code if it looks like one (words of letters, each small, capitalized or in
// capitals, joined by '_', '-' or '.'; at most 64 bytes) and is none of the secrets, in whatever
// case, else "". Some servers put sentences there.
func errorCode(code string, secrets ...string) string {
	if len(code) > 64 || !codeWords.MatchString(code) {
		return ""
	}
	if quotes(code, secrets) {
		return ""
	}
	return code
}

// quotes reports whether a word has one of the secrets in it or is a part of one, in whatever case.
func quotes(word string, secrets []string) bool {
	lower := strings.ToLower(word)
	for _, secret := range secrets {
		secret = strings.ToLower(secret)
		if secret != "" && (strings.Contains(lower, secret) || len(word) >= 8 && strings.Contains(secret, lower)) {
			return true
		}
	}
	return false
}
