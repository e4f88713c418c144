package providers

import (
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

// Fact is a value with the page that states it. The zero Fact is not stated.
type Fact[T any] struct {
	Value  T
	Source string // the page's address
}

// Stated reports whether a page states the fact. Value means nothing otherwise.
func (f Fact[T]) Stated() bool { return f.Source != "" }

// fact returns a stated fact.
func fact[T any](value T, source string) Fact[T] { return Fact[T]{value, source} }

// Provider is what is known of a provider's token endpoint. A copy may be changed; the lists of the
// presets must not be. Where a page counts in months, a month is 30 days, and a year 365.
type Provider struct {
	// Name is the preset's, in small letters and hyphens, such as "exact-online".
	Name string

	// Title is the provider's name as people write it.
	Title string

	// TokenURL is the address of the token endpoint, with a placeholder, such as {domain}, where
	// regions, tenants or installations have addresses of their own: [Provider.At] fills it.
	TokenURL Fact[string]

	// Places are examples for the placeholder, "" where there is none.
	Places string

	// AuthStyle is the way in which the endpoint takes the client's id and secret.
	AuthStyle Fact[oauth2.AuthStyle]

	// RevocationURL is the address of the revocation endpoint (RFC 7009), which takes the client's
	// id and secret as the token endpoint does. The address may have the same placeholder.
	RevocationURL Fact[string]

	// Rotation says whether an exchange replaces the refresh token.
	Rotation Fact[Rotation]

	// Grace is for how long a refresh token that was used still works.
	Grace Fact[time.Duration]

	// Reuse says which grants end when a used refresh token comes back after the grace.
	Reuse Fact[Reuse]

	// Lifetime is that of an access token.
	Lifetime Fact[time.Duration]

	// EndsOldToken says whether an exchange ends the access token before it.
	EndsOldToken Fact[bool]

	// IdleLimit is for how long a refresh token may stay unused.
	IdleLimit Fact[time.Duration]

	// GrantLifetime is how long after its authorization a grant ends, however much it is used.
	GrantLifetime Fact[time.Duration]

	// Early is how long before an access token's end the endpoint begins to replace it.
	Early Fact[time.Duration]

	// SendsRedirectURI says whether a refresh request has to name the redirect_uri of the
	// authorization. The credential's entry redirect_uri (Grant.Extra of a put) is sent then, where
	// there is one.
	SendsRedirectURI Fact[bool]

	// Success is an object of JSON: the members in which an answer with a token differs from that
	// of RFC 6749 section 5.1, or which it has besides, with the values of an example.
	Success Fact[string]

	// Refusals are answers that mean something about the grant, with their meaning. The first that
	// fits an answer counts.
	Refusals []Fact[Refusal]

	// Notes are sentences for people: what else is peculiar.
	Notes []Fact[string]

	place string // fills the placeholder of TokenURL
}

// Rotation says whether an exchange replaces the refresh token. A manager takes each answer as it
// is: a refresh token that it has is stored, and one that it lacks leaves the present one in place.
type Rotation string

// The kinds of rotation.
const (
	// NeverRotates: the refresh token of the authorization stays.
	NeverRotates Rotation = "never"

	// MayRotate: some exchanges bring a new refresh token, or those of some apps do.
	MayRotate Rotation = "sometimes"

	// AlwaysRotates: each exchange brings a new refresh token.
	AlwaysRotates Rotation = "always"
)

// Reuse says which grants end when a used refresh token comes back after the grace.
type Reuse string

// The effects of reuse.
const (
	// ReuseEndsNothing: the provider refuses the token at most.
	ReuseEndsNothing Reuse = "nothing"

	// ReuseEndsGrant ends the grant whose refresh token came back: its newest token too.
	ReuseEndsGrant Reuse = "the grant"

	// ReuseEndsMore ends further grants, such as all of the client or of the person.
	ReuseEndsMore Reuse = "further grants"
)

// Refusal is an answer without token, and its meaning for the grant.
type Refusal struct {
	// Class is the meaning.
	Class credentials.Class

	// Status is the HTTP status. Zero: the page does not show it, and any below 500 will do.
	Status int

	// Says is a part of the body that tells the answer from others, whatever the case of its
	// letters. Zero: its error code does, and package oauth2refresh knows the code.
	Says string

	// Body is an example.
	Body string
}
