package oauth2refresh

import (
	"context"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

// expiryDelta is how long before its Expiry an [oauth2.ReuseTokenSource] takes a token for expired.
const expiryDelta = 10 * time.Second

// reuse is for how long an [oauth2.ReuseTokenSource] serves a token of [TokenSource] without
// asking for it again.
const reuse = time.Second

// TokenSource returns the source's tokens for an SDK that takes an [oauth2.TokenSource]. Each call
// of Token asks source.Token with ctx, which has to live as long as the SDK's client: a request's
// context is too short. The errors are those of source.Token, and [errors.Is] finds them through
// the error of an HTTP client.
//
// The Expiry of a token is the moment from which it has to be asked for again: 11 seconds from now,
// or the token's own end if that is earlier. SDKs keep a token until its Expiry comes near, and one
// that was replaced meanwhile would be served until then. [oauth2.NewClient] and most SDKs put an
// [oauth2.ReuseTokenSource] around each source, which takes a token for expired 10 seconds before
// its Expiry: so a token is served for one second at most without being asked for again. A cache
// that serves a token to its very Expiry does so for 11 seconds at most. Asking costs less than a
// microsecond, so a longer time would save nothing. A shorter one would make [oauth2.Token.Valid]
// false from the beginning, and there are SDKs that refuse such a token. An SDK that plans work of
// its own by the token's end, such as the renewal of a certificate, needs a TokenSource of the
// program's that sets Expiry to [credentials.Token].Expiry.
//
// An SDK that takes an *http.Client is served better by bearer.Client, which asks before each
// request and has a token replaced that the API turns down (401). No SDK reports a 401 to a
// TokenSource.
//
// The type of the tokens is Bearer, as in credentials.Token.SetAuthHeader. Extra has scope,
// token_type and id_token where the provider sent them; other entries are in
// [credentials.Token].Extra. There is no refresh token: nothing but the manager may present it. An
// [oauth2.Token] shows its token wherever it is printed.
func TokenSource(ctx context.Context, source *credentials.Source) oauth2.TokenSource {
	return tokenSource{ctx, source}
}

type tokenSource struct {
	ctx    context.Context
	source *credentials.Source
}

// Token implements [oauth2.TokenSource].
func (s tokenSource) Token() (*oauth2.Token, error) {
	held, err := s.source.Token(s.ctx)
	if err != nil {
		return nil, err
	}
	t := &oauth2.Token{
		AccessToken: held.Value.Reveal(),
		TokenType:   "Bearer",
		Expiry:      time.Now().Add(expiryDelta + reuse),
	}
	if !held.Expiry.IsZero() && held.Expiry.Before(t.Expiry) {
		t.Expiry = held.Expiry
	}
	var extra map[string]any
	for _, name := range standardExtra {
		if value := held.Extra(name); !value.IsZero() {
			if extra == nil {
				extra = make(map[string]any, len(standardExtra))
			}
			extra[name] = value.Reveal()
		}
	}
	if extra != nil {
		t = t.WithExtra(extra)
	}
	return t, nil
}
