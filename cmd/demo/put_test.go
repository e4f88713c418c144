package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseGrant(t *testing.T) {
	g, err := parseGrant([]byte(`{"token": "tok", "lifetime": "90s",
		"refresh_token": "ref", "refresh_lifetime": "720h", "extra": {"scope": "read"}}`), "on stdin")
	must(t, err)
	scope := g.Extra["scope"]
	if g.AccessToken.Reveal() != "tok" || g.RefreshToken.Reveal() != "ref" || scope.Reveal() != "read" {
		t.Errorf("tokens or extra are not what was given")
	}
	if g.Lifetime != 90*time.Second || g.RefreshLifetime != 720*time.Hour {
		t.Errorf("lifetimes = %v, %v", g.Lifetime, g.RefreshLifetime)
	}
	if _, err := parseGrant([]byte(`{}`), "on stdin"); err != nil {
		t.Errorf("a grant of nothing, for client credentials: %v", err)
	}
}

func TestParseGrantErrorsShowNoSecret(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"nothing":            {``, "no grant on stdin"},
		"null":               {`null`, "the grant is null"},
		"empty token":        {`{"refresh_token": ""}`, `"refresh_token" is empty`},
		"null token":         {`{"token": null}`, `"token" is empty`},
		"a bare token":       {`hunter2`, "not JSON"},
		"a string":           {`"hunter2"`, "JSON type string"},
		"half":               {`{"token": "hunter2`, "ends too soon"},
		"unknown member":     {`{"hunter2": "token"}`, "none of token, refresh_token"},
		"a number":           {`{"token": 4242}`, `"token" has the JSON type number`},
		"nested extra":       {`{"extra": {"a": {"hunter2": 1}}}`, "JSON type object"},
		"lifetime in words":  {`{"token": "t", "lifetime": "hunter2"}`, `"lifetime" is not a duration`},
		"lifetime in digits": {`{"token": "t", "lifetime": 3600}`, `"lifetime" has the JSON type number`},
		"lifetime of zero":   {`{"token": "t", "lifetime": "0s"}`, `"lifetime" is 0`},
		"two":                {`{"token": "hunter2"} {"token": "hunter2"}`, "followed by something else"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseGrant([]byte(test.in), "on stdin")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("parseGrant = %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "4242") {
				t.Errorf("the error quotes the grant: %v", err)
			}
		})
	}
}
