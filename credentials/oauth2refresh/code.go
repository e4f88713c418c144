package oauth2refresh

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

// codeSays are the meanings of error codes in the answer to an authorization code (RFC 6749 section
// 5.2, RFC 7636 section 4.6).
var codeSays = map[string]string{
	"invalid_grant": "the authorization code has expired, was used already or was issued to another " +
		"client, or the redirect URL or the code verifier is not that of the authorization request",
	"invalid_request": "the request is malformed; check RedirectURL, the code verifier and the app's " +
		"settings",
}

// Exchange exchanges the authorization code that the provider sent to the program's callback (RFC
// 6749 section 4.1.3) and returns the grant to put. With PKCE (RFC 7636), opts has an
// [oauth2.VerifierOption] with the verifier of [oauth2.Config.AuthCodeURL]'s challenge. The caller
// has compared the callback's state with that of the person's session; with a verifier that the
// session keeps, and a provider that supports PKCE, no state is needed (RFC 9700 section 2.1). The
// program's RedirectURL is part of the request.
//
// The request is sent as that of a refresh: once, bounded by ctx and by DefaultTimeout where ctx
// has no deadline, without redirects. The lifetimes count from before the request was sent and are
// those that are left on return, as a put takes them. A token that has expired by then is left out,
// and the first caller has the grant refreshed. Grant.Extra is that of Refresh.
//
// An error wraps a [*credentials.RefreshError] whose Class says what the answer means for the code,
// and shows no secret and no part of the answer but an error code. [errors.Is] finds
// [credentials.ErrGrantDead] in it where the provider refused the code (invalid_grant): a code
// works once and for some minutes. A person then has to be sent to the provider again, and also
// after ClassUnknown, as the code may have been used up.
func (r *Refresher) Exchange(
	ctx context.Context, code string, opts ...oauth2.AuthCodeOption,
) (credentials.Grant, error) {
	if failure := r.checkCode(code); failure != nil {
		return credentials.Grant{}, &codeError{failure}
	}
	began := time.Now()
	grant, err := r.present(ctx, presentation{
		send:    func(ctx context.Context) error { return r.authorize(ctx, code, opts) },
		secrets: []string{code, verifier(opts)},
		says:    codeSays,

		overlapped: true, // a browser may send the callback twice
	})
	var failure *credentials.RefreshError
	if errors.As(err, &failure) {
		return credentials.Grant{}, &codeError{failure}
	}
	if grant.Lifetime > 0 { // providers round down, and the token was issued just now
		grant.Lifetime = max(grant.Lifetime, time.Second)
	}
	return aged(grant, time.Since(began)), err
}

// checkCode returns the failure for which nothing is sent; nil if there is none.
func (r *Refresher) checkCode(code string) *credentials.RefreshError {
	if err := r.Check(); err != nil {
		return misconfigured(err)
	}
	if r.authorize == nil {
		return misconfigured(errors.New("oauth2refresh: client credentials take no authorization " +
			"code; use a Refresher that New made"))
	}
	if code == "" {
		return &credentials.RefreshError{Class: credentials.ClassDead,
			Reason: "the callback has no authorization code; its parameter \"error\" may say why"}
	}
	return nil
}

// verifier returns the code verifier among the options, which can be read from a URL alone.
func verifier(opts []oauth2.AuthCodeOption) string {
	u, err := url.Parse(new(oauth2.Config).AuthCodeURL("", opts...))
	if err != nil {
		return ""
	}
	return u.Query().Get("code_verifier")
}

// codeError is a failed exchange of an authorization code.
type codeError struct{ failure *credentials.RefreshError }

// Error names the failure and the remedy.
func (e *codeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "exchange of an authorization code: %s", e.failure.Class)
	if e.failure.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.failure.Code)
	}
	fmt.Fprintf(&b, ": %s", e.failure.Reason)
	switch {
	case e.failure.Class != credentials.ClassTransient:
		b.WriteString("; send the person to the provider again")
	case !e.failure.RetryAt.IsZero():
		b.WriteString("; the next attempt may start at ")
		b.WriteString(e.failure.RetryAt.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// Unwrap returns the failure, so that the error is answered as one of a refresh.
func (e *codeError) Unwrap() error { return e.failure }
