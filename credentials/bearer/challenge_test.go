package bearer

import (
	"net/http"
	"testing"
)

// Fields of RFC 6750 section 3, of RFC 9110 section 11.6.1, and of APIs that know neither well.
func TestTurnsDown(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields []string
		want   bool
	}{
		{"no challenge", nil, true},
		{"empty", []string{""}, true},
		{"no parameters", []string{"Bearer"}, true},
		{"no error", []string{`Bearer realm="example"`}, true},
		{"invalid_token", []string{`Bearer realm="example", error="invalid_token", error_description="expired"`}, true},
		{"unknown code", []string{`Bearer error="token_expired"`}, true},
		{"no code", []string{`Bearer error=""`}, true},
		{"invalid_request", []string{`Bearer error="invalid_request"`}, false},
		{"insufficient_scope", []string{`Bearer realm="example",error="insufficient_scope", scope="a b"`}, false},
		{"step-up", []string{`Bearer error="insufficient_user_authentication", max_age="5"`}, false},
		{"no quotes", []string{`Bearer error=insufficient_scope`}, false},
		{"space around the sign", []string{"Bearer error\t= \"insufficient_scope\" "}, false},
		{"other letters' case", []string{`BEARER Error="insufficient_scope"`}, false},
		{"another scheme's error", []string{`DPoP error="insufficient_scope", algs="ES256"`}, true},
		{"another scheme alone", []string{`Basic realm="example"`}, true},
		{"another scheme before", []string{`Basic realm="a, b", Bearer error="insufficient_scope"`}, false},
		{"another scheme after", []string{`Bearer, Basic error="insufficient_scope"`}, true},
		{"a token68 before", []string{`Negotiate YWJj==, Bearer realm="x", error="insufficient_scope"`}, false},
		{"another field before", []string{`Negotiate`, `Bearer error="insufficient_scope"`}, false},
		{"parameters in a field of their own", []string{`Bearer realm="x"`, `error="insufficient_scope"`}, false},
		{"error in a quoted string", []string{`Bearer realm="x, error=insufficient_scope"`}, true},
		{"escaped quote", []string{`Bearer realm="a\", error=b", error="insufficient_scope"`}, false},
		{"empty elements", []string{`, ,Bearer realm="x",, error="insufficient_scope",`}, false},
		{"open quote", []string{`Bearer realm="x, error="`}, true},
		{"open escape", []string{`Bearer error="insufficient_scope\`, `Bearer error="invalid_request"`}, true},
		{"open quote in another field", []string{`Basic realm="`, `Bearer error="insufficient_scope"`}, false},
		{"error_description alone", []string{`Bearer error_description="insufficient_scope"`}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": test.fields}}
			if got := turnsDown(resp); got != test.want {
				t.Errorf("%q turns the token down: got %v, want %v", test.fields, got, test.want)
			}
		})
	}
}

// No field of whatever form stops a request.
func FuzzChallengeError(f *testing.F) {
	for _, field := range []string{`Bearer realm="a\", b", error="c"`, `="\`, "Bearer error", "\t,\x00=", `"`} {
		f.Add(field, "Basic")
	}
	f.Fuzz(func(_ *testing.T, first, second string) { challengeError([]string{first, second}) })
}
