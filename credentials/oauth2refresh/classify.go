package oauth2refresh

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// verdict is the meaning of an answer, with a text for people.
type verdict struct {
	class credentials.Class
	says  string
}

// codes are the error codes whose meaning is known: RFC 6749 sections 5.2 and 4.1.2.1, RFC 8628,
// RFC 8707, RFC 9449. The client is authenticated before the refresh token is looked at (RFC 6749
// section 6), so a fault of the request itself leaves the token alone.
var codes = map[string]verdict{
	"invalid_grant": {credentials.ClassDead,
		"the refresh token is invalid, expired, revoked, or was issued to another client"},
	"invalid_client": {credentials.ClassTransient, notAuthenticated},
	"unauthorized_client": {credentials.ClassTransient,
		"the client may not use this grant; check the app's settings at the provider"},
	"unsupported_grant_type": {credentials.ClassTransient,
		"the provider does not know this grant; check TokenURL and the app's settings"},
	"invalid_scope": {credentials.ClassTransient, "the scope is not granted; check Scopes"},
	"invalid_target": {credentials.ClassTransient,
		"the resource is not granted; check the parameters of the request"},
	"invalid_dpop_proof":      {credentials.ClassTransient, noDPoP},
	"use_dpop_nonce":          {credentials.ClassTransient, noDPoP},
	"temporarily_unavailable": {credentials.ClassTransient, notAvailable},
	"slow_down":               {credentials.ClassTransient, "the provider asks for fewer requests"},
	"server_error": {credentials.ClassUnknown,
		"the provider failed, and does not say how far it got"},
	"invalid_request": {credentials.ClassUnknown,
		"the request is malformed, or another exchange of the same refresh token overlapped it; " +
			"check the app's settings, and whether anything else uses the grant"},
}

const (
	noDPoP       = "the provider asks for DPoP, which is not supported"
	notAvailable = "the provider is not available for now"
	noEndpoint   = "this is no token endpoint; check TokenURL"
	tooLarge     = "the request is too large for the provider"
	clientClosed = "a proxy says that the client closed the connection"

	notAuthenticated = "client authentication failed; check ClientID, ClientSecret and AuthStyle"
	notLetIn         = "the provider does not let this client in; check the app's settings and the network"
)

// refused is said of a 4xx that names no reason which is known here.
const refused = "the request was refused without a reason that is known here; check TokenURL, the " +
	"app's settings and the network; if the provider calls a dead grant so, Classify can tell"

// refusals are the statuses that say, with any body, more than that the request was refused.
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

// judge returns the grant of an answer, or the error that tells its meaning.
func (r *Refresher) judge(
	ctx context.Context, a *answer, p presentation,
) (credentials.Grant, error) {
	got, unreadable := a.parameters()
	success := a.status >= 200 && a.status <= 299
	if success && got.str("access_token") != "" {
		grant := got.grant()
		if !r.presents { // RFC 6749 section 4.4.3 has none; nothing would present it
			grant.RefreshToken, grant.RefreshLifetime = credentials.Secret{}, 0
		}
		return grant, nil
	}

	secrets := append([]string{r.secret.Reveal()}, p.secrets...)
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		secrets = append(secrets, got.str(name))
	}
	response := Response{
		Status: a.status,
		Code:   errorCode(got.str("error"), secrets...),
		Header: a.header,
		Body:   credentials.NewSecret(string(a.body)),
	}
	v := r.verdict(response)
	if v.says != "" {
		v.says = cmp.Or(p.says[response.Code], v.says)
	}
	if v.says == "" && success {
		switch {
		case a.broken != nil:
			v.says = "the answer broke off"
		case unreadable != nil:
			v.says = "the answer cannot be read"
		case response.Code == "":
			v.says = "the answer has no access_token"
		}
	}
	status := strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
	reason := "the provider answered " + status
	if v.says != "" {
		reason += ": " + v.says
	}
	e := &credentials.RefreshError{Class: v.class, Code: response.Code, Reason: reason, Err: cause(ctx, a.broken)}
	if v.class != credentials.ClassDead {
		now := time.Now()
		if delay := retryAfter(a.header, now); delay > 0 {
			e.RetryAt = now.Add(delay)
		}
	}
	return credentials.Grant{}, e
}

// verdict returns the meaning of an answer that is no success, for this refresher.
func (r *Refresher) verdict(response Response) verdict {
	v := classify(response)
	if !r.presents && v.class != credentials.ClassTransient { // nothing could be used up, or dead
		v = verdict{class: credentials.ClassTransient}
	}
	if class, ok := r.ask(response); ok && class != v.class {
		v = verdict{class: class}
	}
	return v
}

// ask asks the hook. A class that does not exist is taken as unknown, which is never wrong.
func (r *Refresher) ask(response Response) (credentials.Class, bool) {
	if r.options.Classify == nil || isRedirect(response.Status) {
		return "", false
	}
	class, ok := r.options.Classify(response)
	switch class {
	case credentials.ClassDead, credentials.ClassTransient:
		return class, ok
	}
	return credentials.ClassUnknown, ok
}

// classify returns the meaning of an answer that is no success.
func classify(response Response) verdict {
	switch {
	case isRedirect(response.Status):
		return verdict{credentials.ClassTransient, "the token URL redirects, and redirects are not followed, " +
			"since they would carry secrets elsewhere; set TokenURL to the address that it leads to"}
	case response.Status == http.StatusTooManyRequests:
		return verdict{credentials.ClassTransient, "too many requests"}
	case response.Status == http.StatusServiceUnavailable:
		return verdict{credentials.ClassTransient, notAvailable}
	}
	if v, ok := codes[response.Code]; ok {
		if v.class == credentials.ClassDead && response.Status >= 500 {
			v = verdict{credentials.ClassUnknown, "an error of the server beside a code that calls the grant " +
				"dead; Classify can tell which to believe"}
		}
		return v
	}
	if says, ok := late[response.Status]; ok {
		return verdict{credentials.ClassUnknown, says}
	}
	if response.Status >= 400 && response.Status <= 499 {
		return verdict{credentials.ClassTransient, cmp.Or(refusals[response.Status], refused)}
	}
	return verdict{class: credentials.ClassUnknown}
}

func isRedirect(status int) bool { return status >= 300 && status <= 399 }

// unanswered makes the error of a request that got no answer.
func (r *Refresher) unanswered(ctx context.Context, err error, sent bool) *credentials.RefreshError {
	e := &credentials.RefreshError{Class: credentials.ClassTransient, Err: cause(ctx, err)}
	host := cmp.Or(r.host(), "the token endpoint")
	ended := errors.Is(e.Err, os.ErrDeadlineExceeded) || e.Err != nil && errors.Is(e.Err, over(ctx))
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case sent && ended:
		e.Reason = host + " did not answer before the exchange's time was over"
	case sent:
		e.Reason = "the connection to " + host + " was lost after the request had been sent"
	case ended:
		e.Reason = "the exchange's time was over before anything was sent to " + host
	case errors.As(e.Err, &dns):
		e.Reason = "the address of " + host + " could not be looked up; nothing was sent"
	case errors.As(e.Err, &certificate):
		e.Reason = "the certificate of " + host + " was not accepted; nothing was sent"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		e.Reason = host + " refused the connection; nothing was sent"
	default:
		e.Reason = host + " was not reached; nothing was sent"
	}
	if sent && r.presents {
		e.Class = credentials.ClassUnknown
	}
	return e
}

// cause returns the part of a failed request's error that callers may look at: the texts of other
// errors quote the URL, or the bytes of a server that does not speak HTTP. A context's error is
// that of ctx, the caller's own; the HTTP client's time-outs are os.ErrDeadlineExceeded.
func cause(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		if ended := over(ctx); ended != nil {
			return ended
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	var timeout net.Error
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var errno syscall.Errno
	switch {
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &certificate):
		return certificate
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return os.ErrDeadlineExceeded
	case errors.As(err, &errno):
		return errno
	}
	return nil
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
	lower := strings.ToLower(code)
	for _, secret := range secrets {
		secret = strings.ToLower(secret)
		if secret != "" && (strings.Contains(lower, secret) || len(code) >= 8 && strings.Contains(secret, lower)) {
			return ""
		}
	}
	return code
}
