package oauth2refresh

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

// standardExtra are the parameters beside the tokens that standards name (RFC 6749 section 5.1;
// OpenID Connect Core 1.0 section 3.1.3.3). An [oauth2.Token] does not list those that it has.
var standardExtra = []string{"scope", "token_type", "id_token"}

// GrantFrom returns a token of golang.org/x/oauth2 as a put takes it now: from a store of the
// program's own that is given up for this one, or from oauth2.Config.Exchange
// ([Refresher.Exchange] does without). The lifetime is what is left until t.Expiry, or t.ExpiresIn
// where there is no Expiry; zero if t has neither, so that the put counts the token as one without
// expiration. An access token that has expired is left out, and the first caller has the grant
// refreshed.
//
// The grant has the entries scope, token_type and id_token, and the refresh token's lifetime
// (refresh_expires_in, refresh_token_expires_in, x_refresh_token_expires_in), if t still has the
// provider's answer: JSON that was made of t has it no longer. Other entries cannot be listed; add
// those that callers need to the grant's Extra by their names, from t.Extra.
func GrantFrom(t *oauth2.Token) credentials.Grant {
	p := parametersOf(t)
	grant := credentials.Grant{
		AccessToken:     credentials.NewSecret(t.AccessToken),
		RefreshToken:    credentials.NewSecret(t.RefreshToken),
		RefreshLifetime: p.refreshLifetime(),
		Extra:           p.extra(),
	}
	if t.Expiry.IsZero() {
		grant.Lifetime = duration(float64(t.ExpiresIn))
		return aged(grant, 0)
	}
	left, age := min(time.Until(t.Expiry), maxDuration), time.Duration(0)
	if t.ExpiresIn > 0 { // else nobody knows when the token was issued
		age = max(duration(float64(t.ExpiresIn))-left, 0)
	}
	grant.Lifetime = cmp.Or(left+age, -1)
	return aged(grant, age)
}

// parametersOf returns the parameters of the answer that t still has.
func parametersOf(t *oauth2.Token) parameters {
	p := make(parameters)
	for _, name := range slices.Concat(standardExtra, refreshLifetimes) {
		switch value := t.Extra(name).(type) {
		case string:
			if value != "" {
				p[name] = parameter{value, quoted}
			}
		case float64:
			p[name] = parameter{strconv.FormatFloat(value, 'g', -1, 64), plain}
		case int64: // a form has no types, and x/oauth2 takes digits for a number
			p[name] = parameter{strconv.FormatInt(value, 10), plain}
		}
	}
	return p
}

// aged returns the grant as a put takes it, that time after its lifetimes began. An access token
// that has expired is left out. A refresh token that has expired stays, with a lifetime that a put
// refuses with a remedy.
func aged(grant credentials.Grant, age time.Duration) credentials.Grant {
	if grant.Lifetime != 0 {
		grant.Lifetime -= age
		if grant.Lifetime <= 0 {
			grant.AccessToken = credentials.Secret{}
		}
	}
	if grant.AccessToken.IsZero() {
		grant.Lifetime = 0
	}
	if grant.RefreshLifetime > 0 {
		grant.RefreshLifetime = cmp.Or(grant.RefreshLifetime-age, -1)
	}
	return grant
}
