// Package oauth2refresh is the [credentials.Refresher] for OAuth 2.0: the refresh token grant (RFC
// 6749 section 6) and the client credentials grant (section 4.4), on the configurations of
// golang.org/x/oauth2.
//
//	credentials.Services{
//		"github": {Refresher: oauth2refresh.New(githubConfig)},
//		"robot":  {Refresher: oauth2refresh.NewClientCredentials(robotConfig)},
//	}
//
// A refresh token may be single-use, so nothing here presents one twice. Redirects are not
// followed. The request's body can be sent once, so that neither HTTP/1.1 nor HTTP/2 repeats it
// behind our back. Every exchange has a connection of its own, since a kept connection that the
// server has just closed swallows the request, and then nobody knows whether the provider saw it.
//
// [Refresher.Exchange] turns the code of an authorization callback into a grant to put, [GrantFrom]
// does so with an [oauth2.Token], and [TokenSource] serves SDKs. [Refresher.Revoke] ends a grant at
// the provider.
//
// Real token endpoints differ from the standard. Package providers has what is known of some. For
// others, hooks of [Options] add parameters and header fields to a request, read successes of
// another form and tell what a refusal means. A hook of the request that fails presents nothing; a
// hook of the answer that fails leaves the answer to this package.
//
// # AuthStyle
//
// The AuthStyle has to be named, since x/oauth2 finds it out by trying: on any error it presents
// the same refresh token, or the same code, once more. The endpoints of
// golang.org/x/oauth2/endpoints and of most of its subpackages do not name one:
//
//	endpoint := endpoints.GitHub
//	endpoint.AuthStyle = oauth2.AuthStyleInParams
//
// A provider's metadata (RFC 8414, /.well-known/openid-configuration) lists under
// token_endpoint_auth_methods_supported the ways that it takes: client_secret_post is
// AuthStyleInParams, client_secret_basic is AuthStyleInHeader, also where nothing is listed.
// GitHub, Google, LinkedIn and Microsoft take AuthStyleInParams; Reddit, Slack, Spotify and Xero
// take AuthStyleInHeader. A client without a secret, which uses PKCE, names itself in the body (RFC
// 6749 section 3.2.1): AuthStyleInParams.
//
// Package providers has the endpoints of some providers with their AuthStyle, and the policy that
// follows from their pages.
//
// # What a failure means for the refresh token
//
// Each error is a [*credentials.RefreshError] of a class, in the order in which that is decided:
//
//	nothing was sent: no connection, no TLS, ctx over       transient
//	connection lost or time over after it was sent          unknown
//	3xx                                                     transient  (a redirect, not followed)
//	any other answer, by Options.Classify                   as the hook says
//	429, 503                                                transient  (refused, not looked at)
//	invalid_grant and other words for it, but not with 5xx  dead
//	invalid_client, unauthorized_client, invalid_scope,
//	  unsupported_grant_type, temporarily_unavailable …     transient  (set-up errors kill no grant)
//	invalid_request after an interrupted exchange           unknown
//	408, 460, 499                                           unknown
//	every other 4xx, or 200 with an error code              transient
//	200 that is cut off, unreadable or has no access_token  unknown
//	every other 5xx                                         unknown
//
// Providers have many words for a dead grant, and put them in many places: bad_refresh_token,
// refresh_token_reused, interaction_required, an invalid_request that says "refresh_token is
// invalid"; in "error", "error.code", "errors", "status". Those that the field is known for are
// read wherever they stand.
//
// A 4xx refuses the request (RFC 9110 section 15.5), so a refresh token that the answer does not
// name was not used: the page of a firewall ends no grant, whatever the service's Replay. A dead
// grant that is presented again costs a request, a living one that is given up costs a person's
// time. So a refusal for a reason that nobody knows (an unheard-of code, a 400 without a body) is
// transient and Unclassified: a manager lets the grant come to an end after hours of such refusals,
// as credentials.CodeUnconfirmed says. Options.Classify can tell at once. 408, 460 and 499 speak of
// time: proxies and time-outs around a handler give them while the provider is at work.
//
// A 500, 502 or 504 does not say how far the provider got, so it is unknown. A 200 that is no token
// response is unknown too, since a success that was spoilt on its way looks the same.
// invalid_request is unknown where an earlier exchange was interrupted, because Ory fosite and
// Hydra give it to the loser of two overlapping presentations: the winner may have used up the
// refresh token, and to present the token once more would then revoke the whole family. A
// provider's own fault (server_error) is no refusal of the grant.
//
// Client credentials have nothing that could be used up: an answer that would be unknown or dead is
// transient there, unless Options.Classify says otherwise.
//
// # What leaves this package
//
// No error has a token, a client secret or a part of the provider's answer in its text or in the
// errors that it wraps, apart from error codes that look like ones and the words of a description:
// at most 80 bytes of words of letters and short numbers, none of which was sent or received as a
// secret. The hooks Options.Decode and Options.Classify see the answer's body.
package oauth2refresh

import (
	"cmp"
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

// DefaultTimeout bounds an exchange whose context has no deadline. Every context of a
// credentials.Manager has one.
const DefaultTimeout = 30 * time.Second

// Refresher exchanges refresh tokens or client credentials. [New] and [NewClientCredentials] make
// one, which may be used concurrently.
type Refresher struct {
	style    oauth2.AuthStyle
	tokenURL credentials.Secret // it may have a key in its query
	clientID string
	secret   credentials.Secret

	// exchange sends the token request for a refresh token, and authorize the one for an
	// authorization code, nil if there is none. The transport reads the answer.
	exchange  func(ctx context.Context, refreshToken string) error
	authorize func(ctx context.Context, code string, opts []oauth2.AuthCodeOption) error

	presents bool  // a refresh token, and not the client's own credentials
	invalid  error // a fault of the configuration that Check has no rule for

	options Options
	client  http.Client
}

// New returns a Refresher that presents a credential's refresh token. Config needs a ClientID, and
// in its Endpoint a TokenURL and an AuthStyle other than the zero one. Mistakes in it are reported
// by [Refresher.Check], which credentials.NewManager calls, and by every Refresh.
func New(config oauth2.Config) *Refresher {
	r := &Refresher{
		style:    config.Endpoint.AuthStyle,
		tokenURL: credentials.NewSecret(config.Endpoint.TokenURL),
		clientID: config.ClientID,
		secret:   credentials.NewSecret(config.ClientSecret),
		presents: true,
		exchange: func(ctx context.Context, refreshToken string) error {
			_, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
			return err
		},
		authorize: func(ctx context.Context, code string, opts []oauth2.AuthCodeOption) error {
			_, err := config.Exchange(ctx, code, opts...)
			return err
		},
	}
	return r.With(Options{})
}

// NewClientCredentials returns a Refresher that presents the client's own credentials; set
// ClientCredentials of the [credentials.Service] with it, so that no grant has to be put. Config
// needs the same fields as that of [New].
func NewClientCredentials(config clientcredentials.Config) *Refresher {
	r := &Refresher{
		style:    config.AuthStyle,
		tokenURL: credentials.NewSecret(config.TokenURL),
		clientID: config.ClientID,
		secret:   credentials.NewSecret(config.ClientSecret),
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

// Check reports a mistake in the configuration and its remedy, nil if there is none. The error
// contains no secret.
func (r *Refresher) Check() error {
	if r.exchange == nil {
		return errors.New("oauth2refresh: a Refresher that was not made with New or NewClientCredentials; " +
			"use one of them")
	}
	if r.tokenURL.IsZero() {
		return errors.New("oauth2refresh: TokenURL is empty; " +
			"set it to the address of the provider's token endpoint")
	}
	// The error of url.Parse quotes the URL.
	const remedy = "set it to https://HOST/PATH of the provider's token endpoint"
	u, err := url.Parse(r.tokenURL.Reveal())
	switch {
	case err != nil:
		return errors.New("oauth2refresh: TokenURL cannot be parsed; " + remedy)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("oauth2refresh: TokenURL has the scheme %q and the host %q; %s",
			u.Scheme, u.Host, remedy)
	}
	if r.clientID == "" {
		return errNoClient
	}
	if err := r.checkStyle(); err != nil {
		return err
	}
	return r.invalid
}

var errNoClient = errors.New("oauth2refresh: ClientID is empty; set the id that the provider gave to the app")

// checkStyle reports a mistake in how the client authenticates.
func (r *Refresher) checkStyle() error {
	if r.options.PlainBasic && r.style != oauth2.AuthStyleInHeader {
		return errors.New("oauth2refresh: PlainBasic is set, and AuthStyle is not AuthStyleInHeader; change one")
	}
	switch r.style {
	case oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams:
		return nil
	case oauth2.AuthStyleAutoDetect:
		return errors.New("oauth2refresh: AuthStyle is not set, and x/oauth2 would find it out by presenting the " +
			"same refresh token again; set AuthStyleInParams where the provider takes client_secret_post, " +
			"else AuthStyleInHeader")
	default:
		return fmt.Errorf("oauth2refresh: AuthStyle is %d; set AuthStyleInHeader or AuthStyleInParams",
			r.style)
	}
}

// host returns the token endpoint's host, "" if the token URL names none.
func (r *Refresher) host() string {
	u, err := url.Parse(r.tokenURL.Reveal())
	if err != nil {
		return ""
	}
	return u.Host
}

// Format implements [fmt.Formatter]: no verb shows more than the ClientID and the token endpoint's
// host.
func (r Refresher) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "oauth2refresh.Refresher of client %q at %q", r.clientID, r.host())
}

// Refresh implements [credentials.Refresher]. Refresh presents in.RefreshToken once, or the
// client's credentials, unless ctx is over by then. The errors are of type
// [*credentials.RefreshError], with the classes of the package comment, and wrap a context's error
// only if ctx has ended; a time-out of the HTTP client is [os.ErrDeadlineExceeded].
//
// A token's lifetime is expires_in_sec or expires_in; one that is zero or negative is the shortest
// there is, which a manager takes for a second, since the token was just issued. Without these it
// lasts until expires_at, expires_on or expires (seconds or milliseconds since 1970, or a date),
// counted from the answer's Date, or until the claim exp of a token that is a JWT. The refresh
// token's lifetime is refresh_expires_in, refresh_token_expires_in or x_refresh_token_expires_in.
// Every other string, number, boolean or array of strings in the answer, token_type and id_token
// too, goes to Grant.Extra; the strings of an array are joined by spaces, as in scope. A success
// may stand in an object "data" or "authed_user".
func (r *Refresher) Refresh(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
	if err := r.Check(); err != nil {
		return credentials.Grant{}, misconfigured(err)
	}
	if r.presents && in.RefreshToken.IsZero() {
		return credentials.Grant{}, misconfigured(errNoRefreshToken)
	}
	refreshToken := in.RefreshToken.Reveal()
	return r.present(ctx, presentation{
		input:   in,
		send:    func(ctx context.Context) error { return r.exchange(ctx, refreshToken) },
		secrets: []string{refreshToken},

		overlapped: in.Interrupted.By != "",
	})
}

// errNoRefreshToken is a mistake of the configuration, and no word of the provider about a grant.
var errNoRefreshToken = errors.New("oauth2refresh: no refresh token is stored, and nothing was presented; " +
	"put a grant that has one, or use NewClientCredentials if the service needs none")

// misconfigured is the failure of a Refresher whose configuration does not fit, as err says.
func misconfigured(err error) *credentials.RefreshError {
	return &credentials.RefreshError{Class: credentials.ClassTransient, Reason: err.Error(), Err: err}
}

// presentation is one request to the token endpoint.
type presentation struct {
	input   credentials.RefreshInput // zero for an authorization code
	send    func(ctx context.Context) error
	secrets []string          // the request presents them; an answer may repeat them
	says    map[string]string // the meaning of error codes, where it is not that of a refresh

	overlapped bool // an earlier request with the same token or code may be under way
}

// bounded returns ctx with DefaultTimeout, unless ctx has a deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// present sends the request once and returns the grant of its answer; Check has found no mistake.
// The error is a *credentials.RefreshError.
func (r *Refresher) present(ctx context.Context, p presentation) (credentials.Grant, error) {
	callers := ctx
	ctx, cancel := bounded(ctx)
	defer cancel()

	// The answer is read here and not by x/oauth2, which cannot tell an absent expires_in from 0,
	// and which throws a whole grant away for an expires_in such as 3600.0.
	add, failed := r.addition(ctx, p.input)
	if failed != nil {
		return credentials.Grant{}, failed
	}
	p.secrets = append(add.secrets(), p.secrets...)
	once := &transport{base: r.client.Transport, add: add}
	client := r.client
	client.Transport = once
	err := p.send(context.WithValue(ctx, oauth2.HTTPClient, &client))
	if once.answer == nil {
		failed := unanswered(callers, err, once.close(err), cmp.Or(r.host(), "the token endpoint"))
		if !r.presents { // nothing could be used up
			failed.Class = credentials.ClassTransient
		}
		return credentials.Grant{}, failed
	}
	return r.judge(callers, ctx, once.answer, p)
}
