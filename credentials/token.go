package credentials

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Never is a duration without end: of a token without expiration, of a credential that is never
// due.
const Never = time.Duration(math.MaxInt64)

// MaxTokenLength is the longest access or refresh token that stores keep, in bytes. Sealed tokens
// have room beside it in a column of 64 KiB.
const MaxTokenLength = 60 << 10

// MaxExtraSize is how much stores keep of the entries that came beside a token, in bytes of JSON.
const MaxExtraSize = 60 << 10

// ErrInvalidGrant is wrapped by the errors of [Grant.Validate]. Nothing was written.
var ErrInvalidGrant = errors.New("invalid grant")

// Token is an access token that is committed in the store, with the entries that came beside it.
type Token struct {
	// Value is the access token.
	Value Secret

	// Expiry is when the token ends, by this host's clock; zero if it does not expire or nobody
	// knows when.
	Expiry time.Time

	extra map[string]Secret
	id    TokenID // zero: not known, as the program made the Token itself
}

// is reports whether both are the same token: by row and version, since a provider may send the
// same text again, or by their texts where the program has only that.
func (t Token) is(other Token) bool {
	if t.id == (TokenID{}) || other.id == (TokenID{}) {
		return t.Value.Equal(other.Value)
	}
	return t.id == other.id
}

// lives reports whether the token is good for so long from now.
func (t Token) lives(life time.Duration) bool {
	return t.Expiry.IsZero() || time.Until(t.Expiry) >= life
}

// olderThan reports whether a later version of the same row brought the other token.
func (t Token) olderThan(other Token) bool {
	return t.id.Row == other.id.Row && t.id.Version < other.id.Version
}

// Extra returns the entry that the provider sent beside the token under that name, such as "scope",
// "token_type" or "instance_url" (RFC 6749 section 5.1 lets a provider send more than it lists);
// the zero Secret if it sent none.
func (t Token) Extra(name string) Secret { return t.extra[name] }

// SetAuthHeader sets the header field Authorization of a request to "Bearer" and the token (RFC
// 6750 section 2.1): token.SetAuthHeader(request.Header). The header is an [net/http.Header], or
// any that sets fields so. The zero Token sets nothing.
//
// The scheme is Bearer whatever Extra("token_type") says: providers that send another word there
// ("bot", say) mean Bearer. A token of a type that takes more than this header, such as DPoP (RFC
// 9449), is turned down by its API.
func (t Token) SetAuthHeader(header interface{ Set(name, value string) }) {
	if !t.Value.IsZero() {
		header.Set("Authorization", "Bearer "+t.Value.Reveal())
	}
}

// Grant is a provider's answer, or the result of a person's authorization: tokens, and for how
// long. Lifetimes are durations from the moment at which the request was sent or, for a put, from
// now.
type Grant struct {
	// AccessToken is the access token. It must be set in a [Refresher]'s answer. It may be empty in
	// a put that seeds a credential with a refresh token alone, or with nothing (client
	// credentials): the first caller then exchanges.
	AccessToken Secret

	// RefreshToken is presented by the next exchange. Zero in a Refresher's answer: the provider
	// sent none, the one in use stays (RFC 6749 section 6).
	RefreshToken Secret

	// Lifetime is the access token's ("expires_in"). Zero: the provider did not say. The service's
	// DefaultLifetime then applies to an answer. A put knows no service, so a put token of lifetime
	// zero has no expiration, and is kept until it is reported: give the remaining lifetime, or
	// leave the access token out and have it refreshed. Negative is refused in a put. In an answer,
	// lifetimes below a second are taken as one second: the token was issued just now, and
	// providers round down.
	Lifetime time.Duration

	// RefreshLifetime is the refresh token's own. Zero: the provider did not say. The credential is
	// due before it ends.
	RefreshLifetime time.Duration

	// Extra has the entries that came beside the token and that callers need with it, as secret as
	// the token. An answer's entries are laid over those in the store: providers leave out entries
	// that did not change (RFC 6749 section 5.1, scope). Entries of one token, such as id_token, go
	// with that token. At most MaxExtraSize; entries of an answer
	// that do not fit are left out.
	Extra map[string]Secret
}

// Validate reports whether the grant can be put, in an error that wraps [ErrInvalidGrant] and
// contains no secret.
func (g Grant) Validate() error {
	size := 0
	for name, value := range g.Extra {
		size += extraSize(name, value)
	}
	switch {
	case g.Lifetime < 0:
		return fmt.Errorf("%w: the token expired %v ago; "+
			"give its remaining lifetime, or leave the token out and have it refreshed", ErrInvalidGrant, -g.Lifetime)
	case g.RefreshLifetime < 0:
		return fmt.Errorf("%w: the refresh token expired %v ago; authorize the account again",
			ErrInvalidGrant, -g.RefreshLifetime)
	case g.AccessToken.IsZero() && g.Lifetime > 0:
		return fmt.Errorf("%w: a lifetime of %v, but no token", ErrInvalidGrant, g.Lifetime)
	case size > MaxExtraSize:
		return fmt.Errorf("%w: the entries beside the token take %d bytes of JSON, at most %d are kept",
			ErrInvalidGrant, size, MaxExtraSize)
	}
	if fault := cmp.Or(tokenFault(g.AccessToken), tokenFault(g.RefreshToken)); fault != "" {
		return fmt.Errorf("%w: a token %s", ErrInvalidGrant, fault)
	}
	return nil
}

// tokenFault says why stores cannot keep a token, "" if they can. RFC 6749 (appendix A.12 and A.17)
// has tokens of printable ASCII; the store keeps what providers send, but for a zero byte in front,
// by which sealed tokens are told apart.
func tokenFault(token Secret) string {
	switch text := token.Reveal(); {
	case len(text) > MaxTokenLength:
		return fmt.Sprintf("of more than %d bytes", MaxTokenLength)
	case strings.HasPrefix(text, "\x00"):
		return "that begins with a zero byte"
	}
	return ""
}

// DueIn returns when the grant is due if it is put now: ahead of the end of its token and of its
// refresh token, by the default policy (see the function DueIn), since a put knows no service; at
// once if it has no token.
func (g Grant) DueIn() time.Duration {
	if g.AccessToken.IsZero() {
		return 0
	}
	return min(DueIn(cmp.Or(g.Lifetime, Never)), DueIn(cmp.Or(g.RefreshLifetime, Never)))
}

// DueIn returns when a token with that remaining life is due under the default policy: in the last
// fifth of its life, and no more than 5 minutes before its end.
func DueIn(lifetime time.Duration) time.Duration {
	if lifetime == Never {
		return Never
	}
	return lifetime - min(lifetime/5, 5*time.Minute)
}

// TokenID names one token of a credential: the row, and its TokenVersion. The text of a token does
// not tell it from the next one where a provider sends the same again.
type TokenID struct {
	Row     uint64
	Version uint64
}

// extraSize is the size of an entry of Extra: its JSON.
func extraSize(name string, value Secret) int {
	encoded, err := json.Marshal([]string{name, value.Reveal()})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return len(encoded)
}
