// Package oauth2refresh is the [credentials.Refresher] for OAuth 2.0: the refresh token grant (RFC 6749 section 6) and
// the client credentials grant (section 4.4), on the configurations of golang.org/x/oauth2.
//
//	credentials.Services{
//		"github": {Refresher: oauth2refresh.New(githubConfig)},
//		"robot":  {Refresher: oauth2refresh.NewClientCredentials(robotConfig)},
//	}
//
// A refresh token may be single-use, so nothing here presents one twice: the AuthStyle has to be named, since x/oauth2
// finds it out by trying; redirects are not followed; the request's body can be sent once, so that neither HTTP/1.1 nor
// HTTP/2 repeats it behind our back; and every exchange has a connection of its own, since a kept one that the server
// has just closed swallows the request, and then nobody knows what became of it.
//
// # What a failure means for the refresh token
//
// Each error is a [*credentials.RefreshError]. Its class, in the order in which it is decided:
//
//	nothing was sent: no connection, no TLS, ctx over       transient
//	connection lost or time over after it was sent          unknown
//	3xx                                                     transient  (a redirect, not followed)
//	what Options.Classify says of the answer                as it says
//	429, 503                                                transient  (refused before it was looked at)
//	invalid_grant, but not with a 5xx                       rejected
//	invalid_client, unauthorized_client, invalid_scope,
//	  unsupported_grant_type, temporarily_unavailable …     transient  (a mistake in the configuration kills no grant)
//	invalid_request                                         unknown
//	401, 403, 404, 405, 408 and other refusals of any body  transient
//	200 that is cut off, unreadable or has no access_token  unknown
//	every other 4xx and 5xx                                 unknown
//
// A 500, 502 or 504 does not say how far the provider got, so it is unknown. invalid_request is, because Ory fosite and
// Hydra give it to the loser of two overlapping presentations: the refresh token may well have been used up, by the
// other one, and to present it once more would then revoke the whole family. Others give it for a dead grant. Where it
// can be told apart, Options.Classify does.
//
// Client credentials have nothing that could be used up: what would be unknown or rejected is transient there, unless
// Options.Classify says otherwise.
//
// # What leaves this package
//
// No error has a token, a client secret or a part of the provider's answer in its text or in what it wraps, apart from
// the error code, and that only where it looks like one. The hook Options.Classify sees the answer's body.
package oauth2refresh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
)

// DefaultTimeout bounds an exchange whose context has no deadline. Those of a credentials.Manager have one.
const DefaultTimeout = 30 * time.Second

// Options are what a [Refresher] need not have.
type Options struct {
	// HTTPClient sends the request: its proxy, TLS settings, cookies and Timeout apply. It is copied; redirects are
	// refused whatever it says, and if its Transport is an *http.Transport, a clone that keeps no connections is used.
	// Another RoundTripper is used as it is, and must not send a request twice. Nil: the default transport's settings.
	HTTPClient *http.Client

	// Classify, if set, says what an answer means that is no success, and false for those that it leaves to this
	// package. It is for providers that speak in their own way. It is not asked about redirects, nor where there was no
	// answer. It may be called concurrently.
	Classify func(Response) (credentials.Class, bool)
}

// Response is a provider's answer, as [Options].Classify sees it.
type Response struct {
	// Status is the HTTP status, such as 400.
	Status int

	// Code is the parameter "error" (RFC 6749 section 5.2), such as "invalid_grant"; "" if there is none, or none that
	// looks like an error code: words of letters, joined by '_', '-' or '.'. The Body has it in any case.
	Code string

	// Header has the answer's header fields.
	Header http.Header

	// Body is the body, up to 1 MiB of it; zero if it is empty. It may quote tokens, so it is a Secret: Reveal it to
	// look into it, and show it nowhere.
	Body credentials.Secret
}

// Refresher exchanges refresh tokens or client credentials. It may be used concurrently. Make it with [New] or
// [NewClientCredentials].
type Refresher struct {
	style    oauth2.AuthStyle
	tokenURL string
	clientID string
	secret   string

	// exchange sends the token request. Its result is the transport's to read.
	exchange func(ctx context.Context, refreshToken string) error

	// presents: a refresh token is presented. Otherwise it is the client's own credentials.
	presents bool

	// invalid is what else is wrong with the configuration.
	invalid error

	options Options
	client  http.Client
}

// New returns a Refresher that presents a credential's refresh token. Config needs a ClientID, and in its Endpoint a
// TokenURL and an AuthStyle other than the zero one. What is wrong with it is reported by [Refresher.Check], which
// credentials.NewManager calls, and by every Refresh.
func New(config oauth2.Config) *Refresher {
	r := &Refresher{
		style:    config.Endpoint.AuthStyle,
		tokenURL: config.Endpoint.TokenURL,
		clientID: config.ClientID,
		secret:   config.ClientSecret,
		presents: true,
		exchange: func(ctx context.Context, refreshToken string) error {
			_, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
			return err
		},
	}
	return r.With(Options{})
}

// NewClientCredentials returns a Refresher that presents the client's own credentials; it asks nothing of the row but
// that it exists. Config needs what [New] says of its own.
func NewClientCredentials(config clientcredentials.Config) *Refresher {
	r := &Refresher{
		style:    config.AuthStyle,
		tokenURL: config.TokenURL,
		clientID: config.ClientID,
		secret:   config.ClientSecret,
		exchange: func(ctx context.Context, _ string) error {
			_, err := config.Token(ctx)
			return err
		},
	}
	if _, twice := config.EndpointParams["scope"]; twice && len(config.Scopes) > 0 {
		r.invalid = errors.New("oauth2refresh: both Scopes and EndpointParams name the scope; keep Scopes")
	}
	return r.With(Options{})
}

// With returns a copy of r that works with these options, in place of all that it had.
func (r *Refresher) With(options Options) *Refresher {
	c := *r
	c.options = options
	c.client = http.Client{}
	if options.HTTPClient != nil {
		c.client = *options.HTTPClient
	}
	c.client.Transport = unshared(c.client.Transport)
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// Check reports what is wrong with the configuration and how to put it right, nil if nothing is. It contains no secret.
func (r *Refresher) Check() error {
	if r.exchange == nil {
		return errors.New("oauth2refresh: a Refresher that was not made with New or NewClientCredentials; use one of them")
	}
	if r.tokenURL == "" {
		return errors.New("oauth2refresh: TokenURL is empty; set it to the address of the provider's token endpoint")
	}
	// The error of url.Parse quotes the URL, which may have a key in its query.
	u, err := url.Parse(r.tokenURL)
	switch {
	case err != nil:
		return errors.New("oauth2refresh: TokenURL cannot be parsed; set it to https://HOST/PATH of the provider's token endpoint")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("oauth2refresh: TokenURL has the scheme %q and the host %q; set it to https://HOST/PATH of the provider's token endpoint",
			u.Scheme, u.Host)
	}
	if r.clientID == "" {
		return errors.New("oauth2refresh: ClientID is empty; set the id that the provider gave to the app")
	}
	switch r.style {
	case oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams:
		return r.invalid
	case oauth2.AuthStyleAutoDetect:
		return errors.New("oauth2refresh: AuthStyle is AuthStyleAutoDetect, which on any error presents the same refresh token again; " +
			"set AuthStyleInHeader (HTTP Basic) or AuthStyleInParams (client_secret in the body), whichever the provider wants")
	default:
		return fmt.Errorf("oauth2refresh: AuthStyle is %d; set AuthStyleInHeader or AuthStyleInParams", r.style)
	}
}

// Refresh implements [credentials.Refresher]. It presents c.RefreshToken once, or the client's credentials, unless ctx
// is over by then. Its errors are of type [*credentials.RefreshError]; the package comment says which class means what.
//
// A token's lifetime is expires_in; one that is zero or negative is taken as a second, since the token was just issued.
// The refresh token's is refresh_expires_in, refresh_token_expires_in or x_refresh_token_expires_in. Every other string,
// number or boolean in the answer, token_type and id_token too, goes to Grant.Extra.
func (r *Refresher) Refresh(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
	if err := r.Check(); err != nil {
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Transient, Reason: err.Error(), Err: err}
	}
	if r.presents && c.RefreshToken.IsZero() {
		return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Rejected, Reason: "no refresh token is stored"}
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}

	// The answer is read here and not by x/oauth2, which cannot tell an absent expires_in from 0, and which throws a
	// whole grant away for an expires_in such as 3600.0.
	once := &transport{base: r.client.Transport}
	client := r.client
	client.Transport = once
	err := r.exchange(context.WithValue(ctx, oauth2.HTTPClient, &client), c.RefreshToken.Reveal())
	if once.answer == nil {
		return credentials.Grant{}, r.unanswered(err, once.close())
	}
	return r.judge(once.answer, c.RefreshToken)
}
