package oauth2refresh_test

import (
	"maps"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// TestNestedSuccesses: a success may stand elsewhere than at the top. A refresh token that is not
// found is lost, and the next presentation is a reuse.
func TestNestedSuccesses(t *testing.T) {
	never := func(r oauth2refresh.Response) (credentials.Grant, bool) { // VK: 0 means without end
		grant, ok := oauth2refresh.DecodeAt()(r)
		if grant.Lifetime == 1 {
			grant.Lifetime = credentials.Never
		}
		return grant, ok
	}
	tests := []struct {
		name, body string
		decode     func(oauth2refresh.Response) (credentials.Grant, bool)
		lifetime   time.Duration
		extra      map[string]string
	}{
		{"Lark", `{"code":0,"msg":"success","data":{"access_token":"a","refresh_token":"r","expires_in":7200,"scope":"x"}}`, nil,
			2 * time.Hour, map[string]string{"code": "0", "msg": "success", "scope": "x"}},
		{"a person at Slack", `{"ok":true,"app_id":"A1","authed_user":{"id":"U1","access_token":"a","refresh_token":"r","expires_in":43200}}`, nil,
			12 * time.Hour, map[string]string{"ok": "true", "app_id": "A1", "id": "U1"}},
		{"at the top, with a person's beside it", `{"access_token":"a","refresh_token":"r","authed_user":{"access_token":"other"}}`, nil,
			0, map[string]string{}},
		{"Twitch", `{"access_token":"a","refresh_token":"r","scope":["chat:read","chat:edit"]}`, nil,
			0, map[string]string{"scope": "chat:read chat:edit"}},
		{"in a place of its own", `{"result":{"token":{"access_token":"a","refresh_token":"r","expires_in":60}}}`,
			oauth2refresh.DecodeAt("result", "token"), time.Minute, map[string]string{}},
		{"a hook that finds nothing leaves it", `{"access_token":"a","refresh_token":"r"}`,
			oauth2refresh.DecodeAt("result"), 0, map[string]string{}},
		{"VK's token without end", `{"access_token":"a","refresh_token":"r","expires_in":0}`, never, credentials.Never, map[string]string{}},
		{"a hook that panics", `{"access_token":"a","refresh_token":"r"}`,
			func(oauth2refresh.Response) (credentials.Grant, bool) { panic("secret") }, 0, map[string]string{}},
		{"a hook that returns nothing", `{"access_token":"a","refresh_token":"r"}`,
			func(oauth2refresh.Response) (credentials.Grant, bool) { return credentials.Grant{}, true }, 0, map[string]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := oauth2refresh.New(config(refusing(t, 200, tt.body))).With(oauth2refresh.Options{Decode: tt.decode})
			grant, err := r.Refresh(t.Context(), credential("refresh-1"))
			if err != nil || grant.AccessToken.Reveal() != "a" || grant.RefreshToken.Reveal() != "r" {
				t.Fatalf("got %q, %q, error %v; want both tokens",
					grant.AccessToken.Reveal(), grant.RefreshToken.Reveal(), err)
			}
			if got := revealed(grant.Extra); grant.Lifetime != tt.lifetime || !maps.Equal(got, tt.extra) {
				t.Errorf("got lifetime %v, extra %v; want %v, %v", grant.Lifetime, got, tt.lifetime, tt.extra)
			}
		})
	}
}

// TestDecodeIsAskedAboutSuccesses: a refusal is none of the hook's, and client credentials have no
// refresh token whatever the hook says.
func TestDecodeIsAskedAboutSuccesses(t *testing.T) {
	asked := 0
	options := oauth2refresh.Options{Decode: func(oauth2refresh.Response) (credentials.Grant, bool) {
		asked++
		return credentials.Grant{AccessToken: credentials.NewSecret("a"), RefreshToken: credentials.NewSecret("r")}, true
	}}
	r := oauth2refresh.New(config(refusing(t, 400, `{"error":"invalid_grant"}`))).With(options)
	if _, err := r.Refresh(t.Context(), credential("refresh-1")); fails(t, err).Class != dead || asked != 0 {
		t.Errorf("got %v, and the hook was asked %d times; want dead, and no question", err, asked)
	}
	robot := oauth2refresh.NewClientCredentials(clientConfig(refusing(t, 200, `{}`))).With(options)
	grant, err := robot.Refresh(t.Context(), credential(""))
	if err != nil || !grant.RefreshToken.IsZero() || asked != 1 {
		t.Errorf("got refresh token set: %v, error %v, asked %d times", !grant.RefreshToken.IsZero(), err, asked)
	}
}
