package provider_test

import (
	"net/http"
	"net/url"
	"testing"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/internal/provider"
)

const callback = "https://app.example/callback?tenant=7"

// authorized asks for the authorization of alice and returns the answer at the callback.
func (e endpoint) authorized(change url.Values) (status int, answer url.Values) {
	e.t.Helper()
	query := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "state": {"s"}, "login_hint": {"alice"},
	}
	for name, values := range change {
		query[name] = values
	}
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.URL+"/authorize?"+query.Encode(), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		e.t.Fatal(err)
	}
	_ = response.Body.Close()
	location, err := response.Location()
	if err != nil {
		return response.StatusCode, nil
	}
	return response.StatusCode, location.Query()
}

func (e endpoint) exchange(code, verifier string, change url.Values) answer {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"app"}, "redirect_uri": {callback},
	}
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	for name, values := range change {
		form[name] = values
	}
	return e.post(e.t.Context(), form)
}

func TestAuthorizationCode(t *testing.T) {
	e := start(t, provider.Options{})
	const verifier = "a verifier"
	challenge := url.Values{
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
	status, at := e.authorized(challenge)
	if status != http.StatusFound || at.Get("state") != "s" || at.Get("tenant") != "7" {
		t.Fatalf("got %d, %v; want a redirect with state and the query of redirect_uri", status, at)
	}
	code := at.Get("code")
	for name, refused := range map[string]func() answer{
		"no verifier":    func() answer { return e.exchange(code, "", nil) },
		"other verifier": func() answer { return e.exchange(code, "another", nil) },
		"other client":   func() answer { return e.exchange(code, verifier, url.Values{"client_id": {"other"}}) },
		"other redirect": func() answer { return e.exchange(code, verifier, url.Values{"redirect_uri": {"https://evil.example"}}) },
		"no such code":   func() answer { return e.exchange("code-1", verifier, nil) },
	} {
		t.Run(name, func(t *testing.T) { e.refused(refused(), 400, "invalid_grant") })
	}
	access, refresh := e.issued(e.exchange(code, verifier, nil))
	if got := e.last(); got.Account != "alice" || got.Grant != "authorization_code" || got.Next != e.Serial(refresh) {
		t.Errorf("got %+v; want alice's code", got)
	}
	if account, ok := e.Validate(access); account != "alice" || !ok {
		t.Errorf("Validate: got %q, %v; want alice, true", account, ok)
	}
	e.refused(e.exchange(code, verifier, nil), 400, "invalid_grant")
	if _, ok := e.Validate(access); ok || e.Current("alice", refresh) {
		t.Error("a code that came back leaves its tokens alive; want them revoked")
	}
}

func TestAuthorizationCodeWithoutChallenge(t *testing.T) {
	e := start(t, provider.Options{})
	_, at := e.authorized(nil)
	e.refused(e.exchange(at.Get("code"), "a verifier", nil), 400, "invalid_grant")
	e.issued(e.exchange(at.Get("code"), "", nil))
}

func TestAuthorizationRefused(t *testing.T) {
	e := start(t, provider.Options{})
	for _, test := range []struct {
		name   string
		change url.Values
		status int
		code   string
	}{
		{"no client", url.Values{"client_id": nil}, 400, ""},
		{"no redirect_uri", url.Values{"redirect_uri": nil}, 400, ""},
		{"implicit flow", url.Values{"response_type": {"token"}}, 302, "unsupported_response_type"},
		{"plain challenge", url.Values{"code_challenge": {"v"}}, 302, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, at := e.authorized(test.change)
			if status != test.status || at.Get("error") != test.code || at.Get("code") != "" {
				t.Errorf("got %d, %v; want %d, %q", status, at, test.status, test.code)
			}
		})
	}
}

func TestUserinfo(t *testing.T) {
	e := start(t, provider.Options{})
	_, access := e.RegisterWithToken("alice")
	for token, want := range map[string]int{access: http.StatusOK, "access-1": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.URL+"/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("got %d; want %d", response.StatusCode, want)
		}
	}
}
