package oauth2refresh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

// Revoke tells the provider at Options.RevocationURL that the refresh token is not needed any more
// (RFC 7009), which ends its grant: for an account that a person disconnects, after
// credentials.Disconnect has removed it. The client authenticates as for a refresh, and Params and
// Header add to the request. The request is sent once; ctx bounds it, and DefaultTimeout where ctx
// has no deadline.
//
// Revocation is best effort. After an error the grant may live on at the provider, and Revoke may
// be called again: a token that is unknown or was revoked before is no error (section 2.2). The
// error shows no secret and no part of the answer but what the reason of a refresh shows; it wraps
// a [*credentials.RefreshError] whose RetryAt says when to try again, if the provider does, and
// whose Class is transient where the provider refused or nothing was sent, else unknown.
func (r *Refresher) Revoke(ctx context.Context, refreshToken credentials.Secret) error {
	if err := r.checkRevocation(refreshToken); err != nil {
		return &revocationError{misconfigured(err)}
	}
	callers := ctx
	ctx, cancel := bounded(ctx)
	defer cancel()
	add, failed := r.addition(ctx, credentials.RefreshInput{RefreshToken: refreshToken})
	if failed != nil {
		return &revocationError{failed}
	}
	request, err := r.revocation(ctx, refreshToken)
	if err != nil { // which quotes the URL
		return &revocationError{misconfigured(errors.New("oauth2refresh: RevocationURL cannot be used in a request"))}
	}
	once := &transport{base: r.client.Transport, add: add}
	client := r.client
	client.Transport = once
	_, err = client.Do(request)
	if once.answer == nil {
		return &revocationError{unanswered(callers, err, once.close(err), request.URL.Host)}
	}
	if once.answer.status >= 200 && once.answer.status <= 299 {
		return nil
	}
	got, _ := once.answer.parameters()
	code, said := once.answer.words(got, append(add.secrets(), refreshToken.Reveal(), r.secret.Reveal()))
	refused := &credentials.RefreshError{
		Class: credentials.ClassTransient, Code: code, Reason: said, RetryAt: once.answer.retryAt(),
	}
	if once.answer.status >= 500 || late[once.answer.status] != "" {
		refused.Class = credentials.ClassUnknown
	}
	return &revocationError{refused}
}

// revocation makes the request.
func (r *Refresher) revocation(ctx context.Context, refreshToken credentials.Secret) (*http.Request, error) {
	form := url.Values{"token": {refreshToken.Reveal()}, "token_type_hint": {"refresh_token"}}
	if r.style == oauth2.AuthStyleInParams {
		form.Set("client_id", r.clientID)
		if !r.secret.IsZero() {
			form.Set("client_secret", r.secret.Reveal())
		}
	}
	body := strings.NewReader(form.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.options.RevocationURL, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if r.style == oauth2.AuthStyleInHeader {
		request.SetBasicAuth(url.QueryEscape(r.clientID), url.QueryEscape(r.secret.Reveal()))
	}
	return request, nil
}

// checkRevocation reports a mistake for which nothing is sent.
func (r *Refresher) checkRevocation(refreshToken credentials.Secret) error {
	u, err := url.Parse(r.options.RevocationURL)
	switch {
	case r.options.RevocationURL == "":
		return errors.New("oauth2refresh: Options.RevocationURL is empty; " +
			"set it to the provider's revocation endpoint (RFC 8414: revocation_endpoint)")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return errors.New("oauth2refresh: Options.RevocationURL is no address; set it to https://HOST/PATH")
	case r.clientID == "":
		return errNoClient
	case refreshToken.IsZero():
		return errors.New("oauth2refresh: there is no refresh token to revoke")
	}
	return r.checkStyle()
}

// revocationError is a failed revocation.
type revocationError struct{ failure *credentials.RefreshError }

// Error names the failure and the remedy.
func (e *revocationError) Error() string {
	code := ""
	if e.failure.Code != "" {
		code = fmt.Sprintf(" (%s)", e.failure.Code)
	}
	return fmt.Sprintf("revocation of a refresh token: %s%s: %s; the grant may live on at the provider: "+
		"revoke it again, or have the person end it there",
		e.failure.Class, code, cmp.Or(e.failure.Reason, "failed"))
}

// Unwrap returns the failure.
func (e *revocationError) Unwrap() error { return e.failure }
