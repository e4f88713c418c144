package oauth2refresh

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/latchkey-go/latchkey/credentials"
)

// Options change a [Refresher]. The zero Options are the defaults.
type Options struct {
	// HTTPClient sends the request: its proxy, TLS settings, cookies and Timeout apply. The client
	// is copied; redirects are refused whatever its settings, and if its Transport is an
	// *http.Transport, a clone that keeps no connections is used. Another RoundTripper is used as
	// it is, must not send a request twice, and should pass the request's context on: the context's
	// hooks of net/http/httptrace tell whether there was a connection to send the refresh token on.
	// Without the hooks, each error but that of a dial counts as one after the request was sent.
	// Nil: the default transport's settings.
	HTTPClient *http.Client

	// RevocationURL is the address of the provider's revocation endpoint (RFC 7009), which
	// [Refresher.Revoke] needs. The address must hold no secret.
	RevocationURL string

	// Params, if set, returns parameters that a request has beside the usual ones: audience,
	// resource (RFC 8707), scope, redirect_uri, a tenant from in.Extra, a client assertion (RFC
	// 7523 section 2.2) that is made for each request. A parameter with the name of a usual one
	// stands in its place, and an empty list takes it out; grant_type, refresh_token and code
	// cannot be named. The hook is asked before each request to the provider, with the zero
	// RefreshInput in Exchange and with the refresh token alone in Revoke, and gets half of the
	// time that is left. If it fails, panics or does not return in time, nothing is presented: the
	// error is transient, and wraps the hook's, whose text is not shown. The hook may be called
	// concurrently.
	Params func(ctx context.Context, in credentials.RefreshInput) (url.Values, error)

	// Header, if set, likewise returns header fields of the request, in place of those of the same
	// names: an API key, or an idempotency key made of in.Fence. Those that describe the body
	// cannot be named.
	Header func(ctx context.Context, in credentials.RefreshInput) (http.Header, error)

	// PlainBasic sends the client's id and secret as they are in HTTP Basic, for providers that do
	// not decode them as RFC 6749 section 2.3.1 has it. PlainBasic needs AuthStyleInHeader.
	PlainBasic bool

	// Decode, if set, returns the grant of an answer with a status of success (2xx), or false for
	// an answer that it leaves to this package: a success that this package reads, or no success.
	// The hook is for providers whose successes look otherwise; [DecodeAt] makes one for those that
	// put them into an object. Lifetimes are those of [credentials.Grant]: Never for a token that
	// does not end. A grant without access token counts as false. The hook may be called
	// concurrently.
	Decode func(Response) (credentials.Grant, bool)

	// Classify, if set, returns the class of an answer that is no success, or false for an answer
	// that it leaves to this package. The hook is for providers that speak in their own way, is
	// asked neither about redirects nor where there was no answer, and may be called concurrently.
	Classify func(Response) (credentials.Class, bool)
}

// Response is a provider's answer, as [Options].Classify sees it.
type Response struct {
	// Status is the HTTP status, such as 400.
	Status int

	// Code is the error code, such as "invalid_grant": the parameter "error" (RFC 6749 section 5.2)
	// or, from providers that have it elsewhere, "error.code", "errors", "code", "status" and the
	// like. "" if there is none, or none that looks like an error code: words of letters, joined by
	// '_', '-' or '.'.
	Code string

	// Header has the answer's header fields.
	Header http.Header

	// Body is the body, at most 1 MiB; zero if there is none. The body may quote tokens, so it is a
	// Secret: Reveal it to look into it, and show it nowhere.
	Body credentials.Secret
}

// text describes the answer without the header's fields, which may have tokens in them.
func (r Response) text() string {
	return fmt.Sprintf("oauth2refresh.Response{Status:%d Code:%q}", r.Status, r.Code)
}

// Format implements [fmt.Formatter]: no verb shows more than Status and Code.
func (r Response) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.text()) }

// MarshalText implements [encoding.TextMarshaler] for encoding/json and log/slog, and shows the
// same as Format.
func (r Response) MarshalText() ([]byte, error) { return []byte(r.text()), nil }
