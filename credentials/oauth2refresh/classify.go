package oauth2refresh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// verdict is what an answer means, and what to tell people.
type verdict struct {
	class credentials.Class
	says  string
}

// codes are the error codes whose meaning is known: RFC 6749 sections 5.2 and 4.1.2.1, RFC 8628, RFC 8707, RFC 9449.
// The client is authenticated before the refresh token is looked at (RFC 6749 section 6), so what is wrong with the
// request itself leaves the token alone.
var codes = map[string]verdict{
	"invalid_grant":           {credentials.Rejected, "the refresh token is invalid, expired, revoked, or was issued to another client"},
	"invalid_client":          {credentials.Transient, "client authentication failed; check ClientID, ClientSecret and AuthStyle"},
	"unauthorized_client":     {credentials.Transient, "the client may not use this grant; check the app's settings at the provider"},
	"unsupported_grant_type":  {credentials.Transient, "the provider does not know this grant; check TokenURL and the app's settings"},
	"invalid_scope":           {credentials.Transient, "the scope is not granted; check Scopes"},
	"invalid_target":          {credentials.Transient, "the resource is not granted; check the parameters of the request"},
	"invalid_dpop_proof":      {credentials.Transient, "the provider asks for DPoP, which is not supported"},
	"use_dpop_nonce":          {credentials.Transient, "the provider asks for DPoP, which is not supported"},
	"temporarily_unavailable": {credentials.Transient, "the provider is not available for now"},
	"slow_down":               {credentials.Transient, "the provider asks for fewer requests"},
	"server_error":            {credentials.Unknown, "the provider failed, and does not say how far it got"},
	"invalid_request": {credentials.Unknown, "the request is malformed, or another exchange of the same refresh token overlapped it; " +
		"check the app's settings, and whether anything else uses the grant"},
}

// refusals are the statuses that say, with any body, that the request was not processed.
var refusals = map[int]string{
	http.StatusUnauthorized:                "client authentication failed; check ClientID, ClientSecret and AuthStyle",
	http.StatusForbidden:                   "the provider does not let this client in; check the app's settings and the network",
	http.StatusNotFound:                    "there is no token endpoint; check TokenURL",
	http.StatusMethodNotAllowed:            "this is no token endpoint; check TokenURL",
	http.StatusNotAcceptable:               "this is no token endpoint; check TokenURL",
	http.StatusProxyAuthRequired:           "the proxy wants authentication; check the HTTP client's proxy",
	http.StatusRequestTimeout:              "the request did not arrive in time",
	http.StatusRequestEntityTooLarge:       "the request is too large for the provider",
	http.StatusUnsupportedMediaType:        "this is no token endpoint; check TokenURL",
	http.StatusMisdirectedRequest:          "the server does not answer for this host; check TokenURL",
	http.StatusTooEarly:                    "the provider wants the request again, later",
	http.StatusRequestHeaderFieldsTooLarge: "the request is too large for the provider",
}

// judge reads an answer.
func (r *Refresher) judge(a *answer, presented credentials.Secret) (credentials.Grant, error) {
	p, unreadable := a.parameters()
	success := a.status >= 200 && a.status <= 299
	if success && p.str("access_token") != "" {
		grant := p.grant()
		if !r.presents { // RFC 6749 section 4.4.3 has none; nothing would present it
			grant.RefreshToken, grant.RefreshLifetime = credentials.Secret{}, 0
		}
		return grant, nil
	}

	response := Response{
		Status: a.status,
		Code: errorCode(p.str("error"),
			presented.Reveal(), r.secret, p.str("access_token"), p.str("refresh_token"), p.str("id_token")),
		Header: a.header,
		Body:   credentials.NewSecret(string(a.body)),
	}
	v := classify(response)
	if !r.presents && v.class != credentials.Transient { // there is nothing that could be used up, or dead
		v = verdict{class: credentials.Transient}
	}
	if class, ok := r.ask(response); ok && class != v.class {
		v = verdict{class: class}
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
	reason := "the provider answered " + strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
	if v.says != "" {
		reason += ": " + v.says
	}
	e := &credentials.RefreshError{Class: v.class, Code: response.Code, Reason: reason, Err: cause(a.broken)}
	if v.class != credentials.Rejected {
		now := time.Now()
		if delay := retryAfter(a.header, now); delay > 0 {
			e.RetryAt = now.Add(delay)
		}
	}
	return credentials.Grant{}, e
}

// ask asks the hook. A class that does not exist is taken as unknown, the one that is never wrong.
func (r *Refresher) ask(response Response) (credentials.Class, bool) {
	if r.options.Classify == nil || isRedirect(response.Status) {
		return "", false
	}
	class, ok := r.options.Classify(response)
	switch class {
	case credentials.Rejected, credentials.Transient:
		return class, ok
	}
	return credentials.Unknown, ok
}

// classify says what an answer that is no success means.
func classify(response Response) verdict {
	switch {
	case isRedirect(response.Status):
		return verdict{credentials.Transient, "the token URL redirects, and redirects are not followed, since they would carry " +
			"secrets elsewhere; set TokenURL to the address that it leads to"}
	case response.Status == http.StatusTooManyRequests:
		return verdict{credentials.Transient, "too many requests"}
	case response.Status == http.StatusServiceUnavailable:
		return verdict{credentials.Transient, "the provider is not available for now"}
	}
	if v, ok := codes[response.Code]; ok {
		if v.class == credentials.Rejected && response.Status >= 500 {
			v = verdict{credentials.Unknown, "an error of the server beside a code that calls the grant dead; Classify can tell which to believe"}
		}
		return v
	}
	if says, ok := refusals[response.Status]; ok {
		return verdict{credentials.Transient, says}
	}
	return verdict{class: credentials.Unknown}
}

func isRedirect(status int) bool { return status >= 300 && status <= 399 }

// unanswered makes the error of a request that got no answer.
func (r *Refresher) unanswered(err error, sent bool) *credentials.RefreshError {
	e := &credentials.RefreshError{Class: credentials.Transient, Err: cause(err)}
	host := "the token endpoint"
	if u, err := url.Parse(r.tokenURL); err == nil && u.Host != "" {
		host = u.Host
	}
	ended := errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled)
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
		e.Class = credentials.Unknown
	}
	return e
}

// cause returns the part of a failed request's error that callers may look at: the texts of the others quote the URL, or
// what a server sent that does not speak HTTP.
func cause(err error) error {
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
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
	case errors.As(err, &timeout) && timeout.Timeout():
		return context.DeadlineExceeded
	case errors.As(err, &errno):
		return errno
	}
	return nil
}

// codeWords is what an error code looks like. Tokens have digits, or change case in the middle.
var codeWords = regexp.MustCompile(`^(?:[A-Z]?[a-z]+|[A-Z]+)(?:[_.-](?:[A-Z]?[a-z]+|[A-Z]+))*$`)

// errorCode returns code if it looks like one (words of letters, each small, capitalized or in capitals, joined by '_',
// '-' or '.'; at most 64 bytes) and is none of the secrets, else "". Some servers put sentences there.
func errorCode(code string, secrets ...string) string {
	if len(code) > 64 || !codeWords.MatchString(code) {
		return ""
	}
	for _, secret := range secrets {
		if secret != "" && (strings.Contains(code, secret) || len(code) >= 8 && strings.Contains(secret, code)) {
			return ""
		}
	}
	return code
}
