package oauth2refresh

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// nests are the objects in which a success may stand: those of Lark and TikTok, and that of a
// person at Slack.
var nests = []string{"data", "authed_user"}

// DecodeAt returns a hook for [Options].Decode that reads the object at that path of a JSON answer
// as this package reads a whole one: DecodeAt("result", "token") reads {"result":{"token":{…}}}.
// Without a path the hook reads the whole answer, for a hook of one's own that changes the grant.
// The hook returns false where there is no access_token.
func DecodeAt(path ...string) func(Response) (credentials.Grant, bool) {
	return func(response Response) (credentials.Grant, bool) {
		a := answer{header: response.Header, body: []byte(response.Body.Reveal())}
		p, err := a.parameters()
		if err != nil {
			return credentials.Grant{}, false
		}
		for _, name := range path {
			p = p.object(name)
		}
		return p.grant(a.date()), p.str("access_token") != ""
	}
}

// success returns the grant of an answer with a status of success, if it can be read. A grant is
// never thrown away because a hook fails: its refresh token may be the only one that works.
func (r *Refresher) success(
	ctx context.Context, a *answer, got parameters, response Response,
) (credentials.Grant, bool) {
	if decode := r.options.Decode; decode != nil && (a.broken == nil || got != nil) {
		grant, ok := consult(ctx, func() (credentials.Grant, bool) { return decode(response) })
		if ok && !grant.AccessToken.IsZero() {
			return grant, true
		}
	}
	if got.str("access_token") != "" {
		return got.grant(a.date()), true
	}
	for _, name := range nests {
		if inner := got.object(name); inner.str("access_token") != "" {
			grant := inner.grant(a.date())
			extra := got.extra()
			maps.Copy(extra, grant.Extra)
			grant.Extra = extra
			return grant, true
		}
	}
	return credentials.Grant{}, false
}

// date returns when the answer was made, by its own clock if it says so.
func (a *answer) date() time.Time {
	date, _ := http.ParseTime(a.header.Get("Date"))
	return cmp.Or(date, time.Now())
}
