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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// judge returns the grant of an answer, or the error that tells its meaning. ctx is the caller's
// own; the hooks have to return before bound ends.
func (r *Refresher) judge(
	ctx, bound context.Context, a *answer, p presentation,
) (credentials.Grant, error) {
	got, unreadable := a.parameters()
	success := a.status >= 200 && a.status <= 299
	response := Response{Status: a.status, Header: a.header, Body: credentials.NewSecret(string(a.body))}
	if success {
		if grant, ok := r.success(bound, a, got, response); ok {
			if !r.presents { // RFC 6749 section 4.4.3 has none; nothing would present it
				grant.RefreshToken, grant.RefreshLifetime = credentials.Secret{}, 0
			}
			return grant, nil
		}
	}

	var said string
	response.Code, said = a.words(got, append([]string{r.secret.Reveal()}, p.secrets...))
	v := r.verdict(bound, response, statement{
		description: got.described(), page: a.page(), overlapped: p.overlapped,
	})
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
	if v.says != "" {
		said += ": " + v.says
	}
	e := &credentials.RefreshError{
		Class: v.class, Code: response.Code, Reason: said[:min(len(said), maxReason)], Err: cause(ctx, a.broken),
		Unclassified: v.unclassified,
	}
	if v.class != credentials.ClassDead {
		e.RetryAt = a.retryAt()
	}
	return credentials.Grant{}, e
}

// words returns the answer's code, and for people the status with what the answer says besides,
// without the secrets that were sent and those that the answer has itself.
func (a *answer) words(got parameters, sent []string) (code, said string) {
	secrets := slices.Clone(sent)
	for _, p := range []parameters{got, got.object(nests[0]), got.object(nests[1])} {
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			secrets = append(secrets, p.str(name))
		}
	}
	status := strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
	failed := a.status < 200 || a.status > 299
	return got.code(failed, secrets...), "the provider answered " + status + got.details(secrets...)
}

// retryAt returns when the answer asks to try again; the zero time if it does not ask.
func (a *answer) retryAt() time.Time {
	now := time.Now()
	if delay := retryAfter(a.status, a.header, now); delay > 0 {
		return now.Add(delay)
	}
	return time.Time{}
}

// verdict returns the meaning of an answer that is no success, for this refresher.
func (r *Refresher) verdict(ctx context.Context, response Response, s statement) verdict {
	v := classify(response, s)
	if !r.presents { // nothing could be used up, or dead
		if v.unclassified = false; v.class != credentials.ClassTransient {
			v = verdict{class: credentials.ClassTransient}
		}
	}
	if class, ok := r.ask(ctx, response); ok {
		if v.unclassified = false; class != v.class {
			v = verdict{class: class}
		}
	}
	return v
}

// ask asks the hook. A class that does not exist is taken as unknown, which is never wrong.
func (r *Refresher) ask(ctx context.Context, response Response) (credentials.Class, bool) {
	classify := r.options.Classify
	if classify == nil || isRedirect(response.Status) {
		return "", false
	}
	class, ok := consult(ctx, func() (credentials.Class, bool) { return classify(response) })
	switch class {
	case credentials.ClassDead, credentials.ClassTransient:
		return class, ok
	}
	return credentials.ClassUnknown, ok
}

// statement is the part of an answer that is no success which speaks for itself.
type statement struct {
	description string // for people
	page        bool   // the body is a page, as of a firewall
	overlapped  bool   // another request of the same token may be under way
}

// classify returns the meaning of an answer that is no success.
func classify(response Response, s statement) verdict {
	status := response.Status
	switch {
	case isRedirect(status):
		return verdict{class: credentials.ClassTransient, says: "the token URL redirects, and redirects are not " +
			"followed, since they would carry secrets elsewhere; set TokenURL to the address that it leads to"}
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && exhausted(response.Header):
		return verdict{class: credentials.ClassTransient, says: "too many requests"}
	case status == http.StatusServiceUnavailable:
		return verdict{class: credentials.ClassTransient, says: notAvailable}
	}
	if v, ok := s.meaning(response); ok {
		switch {
		case status >= 500 && v.class == credentials.ClassDead:
			return verdict{class: credentials.ClassUnknown, says: "an error of the server beside a code that calls " +
				"the grant dead; Classify can tell which to believe"}
		case status >= 500 && (v.own || v.unclassified):
			return verdict{class: credentials.ClassUnknown, says: "the provider failed, and does not say how far it got"}
		}
		return v
	}
	if says, ok := late[status]; ok {
		return verdict{class: credentials.ClassUnknown, says: says}
	}
	if status < 400 || status > 499 {
		return verdict{class: credentials.ClassUnknown}
	}
	says, said := refusals[status]
	return verdict{
		class: credentials.ClassTransient, says: cmp.Or(says, refused), unclassified: !said && !s.page,
	}
}

// meaning returns the meaning of the answer's code; false if the answer has none, or none but the
// words of its status.
func (s statement) meaning(response Response) (verdict, bool) {
	word := normal(response.Code)
	v, known := codes[word]
	switch {
	case word == "", response.Status == http.StatusUnauthorized && word == "unauthorized",
		response.Status == http.StatusForbidden && word == "forbidden", late[response.Status] != "" && !known:
		return verdict{}, false
	case !known:
		v = verdict{class: credentials.ClassTransient, says: foreign, unclassified: true}
	}
	switch {
	case (v.unclassified || word == "unauthorized_client") && saysDead(s.description):
		return deadToken, true
	case word == "invalid_request" && s.overlapped:
		// Ory fosite and Hydra answer so to the loser of two overlapping presentations.
		return verdict{class: credentials.ClassUnknown, says: overlapped}, true
	}
	return v, true
}

func isRedirect(status int) bool { return status >= 300 && status <= 399 }

// unanswered makes the error of a request that got no answer.
func unanswered(ctx context.Context, err error, sent bool, host string) *credentials.RefreshError {
	e := &credentials.RefreshError{Class: credentials.ClassTransient, Err: cause(ctx, err)}
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
	if sent {
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
