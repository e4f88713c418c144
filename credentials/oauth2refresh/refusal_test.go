package oauth2refresh_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// refusals are answers as real providers give them. sure says that the meaning is known, so that
// the refusals do not add up to the grant's end.
var refusals = []struct {
	name   string
	status int
	body   string
	class  credentials.Class
	code   string
	sure   bool
	says   string
}{
	// Dead, in other words.
	{"GitHub", 200, `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired."}`,
		dead, "bad_refresh_token", true, "does not work"},
	{"HubSpot", 400, `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token","correlationId":"4e21a1b5"}`,
		dead, "BAD_REFRESH_TOKEN", true, "does not work"},
	{"OpenAI", 401, `{"error":{"message":"Your refresh token has already been used.","type":"invalid_request_error","param":null,` +
		`"code":"refresh_token_reused"}}`, dead, "refresh_token_reused", true, "does not work"},
	{"Fitbit", 400, `{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid"}],"success":false}`,
		dead, "invalid_grant", true, "revoked"},
	{"Slack", 200, `{"ok":false,"error":"invalid_refresh_token"}`, dead, "invalid_refresh_token", true, "does not work"},
	{"Strava", 400, `{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}`,
		dead, "invalid_refresh_token", true, "does not work"},
	{"Zoho", 200, `{"error":"invalid_code"}`, dead, "invalid_code", true, "does not work"},
	{"Microsoft", 400, `{"error":"interaction_required","error_description":"AADSTS50076","error_codes":[50076],"suberror":"basic_action"}`,
		dead, "interaction_required", true, "sign in"},
	{"OpenID Connect", 400, `{"error":"login_required"}`, dead, "login_required", true, "sign in"},
	{"DeviantArt", 400, `{"error":"invalid_request","error_description":"The refresh_token is invalid."}`,
		dead, "invalid_request", true, "does not work"},
	{"X", 400, `{"error":"invalid_request","error_description":"Value passed for the token was invalid."}`,
		dead, "invalid_request", true, "does not work"},
	{"Atlassian", 403, `{"error":"unauthorized_client","error_description":"refresh_token is invalid"}`,
		dead, "unauthorized_client", true, "does not work"},
	{"Exact Online, dead", 400, `{"error":"invalid_request","error_description":"The refresh token expired at 1/1/2026"}`,
		dead, "invalid_request", true, "does not work"},
	{"a phrase beside a code that nobody knows", 400, `{"error":"oops","error_description":"Unknown or invalid refresh token."}`,
		dead, "oops", true, "does not work"},
	{"a phrase that only names the token", 400, `{"error":"oops","error_description":"the refresh token used in the request"}`,
		transient, "oops", false, "not known"},
	{"a phrase beside a word that is clear", 401, `{"error":"invalid_client","error_description":"refresh token is invalid for this client"}`,
		transient, "invalid_client", true, "ClientID"},
	{"a phrase of a server that failed", 500, `{"error":"invalid_request","error_description":"refresh token is invalid"}`,
		unknown, "invalid_request", true, "Classify"},
	{"a code in capitals", 400, `{"error":"INVALID_GRANT"}`, dead, "INVALID_GRANT", true, "revoked"},
	{"a code of joined words", 400, `{"errorCode":"InvalidGrant"}`, dead, "InvalidGrant", true, "revoked"},
	{"404 with the reason", 404, `{"error":"invalid_grant"}`, dead, "invalid_grant", true, "revoked"},
	{"a known word behind an unknown one", 400, `{"error":"oauth_failure","code":"invalid_grant"}`, dead, "invalid_grant", true, "revoked"},
	{"list of words", 400, `{"errors":["invalid_grant"]}`, dead, "invalid_grant", true, "revoked"},

	// Refused, about something else.
	{"GitHub's client", 200, `{"error":"incorrect_client_credentials"}`, transient, "incorrect_client_credentials", true, "ClientSecret"},
	{"Slack's client", 200, `{"ok":false,"error":"bad_client_secret"}`, transient, "bad_client_secret", true, "ClientSecret"},
	{"Slack's pace", 200, `{"ok":false,"error":"ratelimited"}`, transient, "ratelimited", true, "fewer requests"},
	{"the provider's own fault", 400, `{"error":"server_error"}`, transient, "server_error", true, "failed"},
	{"the same as a 500", 500, `{"error":"server_error"}`, unknown, "server_error", true, "how far"},
	{"firewall", 403, `<html>Request blocked</html>`, transient, "", true, "let this client in"},
	{"firewall with 400", 400, "\n<!doctype html><p>blocked", transient, "", true, "without a reason"},
	{"404 of a router", 404, `{"message":"no Route matched with those values"}`, transient, "", true, "TokenURL"},
	{"401 without a reason", 401, `{"message":"Unauthorized"}`, transient, "", true, "ClientID"},

	// Refused, and nobody knows why.
	{"Exact Online", 400, `{"error":"access_denied","error_description":"Rate limit exceeded: access_token not expired"}`,
		transient, "access_denied", false, "too early"},
	{"overlapping requests at fosite, as others make them", 400, `{"error":"invalid_request","error_description":` +
		`"Multiple concurrent requests: the refresh token is invalid for this one"}`,
		transient, "invalid_request", false, "malformed"},
	{"a code that nobody knows", 400, `{"error":"computer_says_no"}`, transient, "computer_says_no", false, "not known"},
	{"the same with 404", 404, `{"error":{"code":"NO_SUCH_THING"}}`, transient, "NO_SUCH_THING", false, "not known"},
	{"the same with 200", 200, `{"ok":false,"error":"computer_says_no"}`, transient, "computer_says_no", false, "not known"},
	{"no code", 400, `{"message":"no"}`, transient, "", false, "without a reason"},
	{"no body", 400, ``, transient, "", false, "without a reason"},

	// No refusal.
	{"a status that is no code", 200, `{"status":"success","data":{}}`, unknown, "", true, "has no access_token"},
	{"500 with a code that nobody knows", 500, `{"error":"computer_says_no"}`, unknown, "computer_says_no", true, "500"},
	{"408 with a code that nobody knows", 408, `{"error":"timeout"}`, unknown, "timeout", true, "time was over"},
}

// TestRefusals: codes are found wherever they stand, and mean what they say. Transient refusals
// whose reason nobody knows say so.
func TestRefusals(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			url := refusing(t, tt.status, tt.body)
			_, err := refresh(t, url, "refresh-1")
			e := fails(t, err, "refresh-1")
			if e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("got %s (%s) %q; want %s (%s), %q in it",
					e.Class, e.Code, e.Reason, tt.class, tt.code, tt.says)
			}
			if e.Unclassified == tt.sure {
				t.Errorf("got Unclassified %v; want %v", e.Unclassified, !tt.sure)
			}
			robot := oauth2refresh.NewClientCredentials(clientConfig(url))
			if _, err = robot.Refresh(t.Context(), credential("")); fails(t, err).Unclassified {
				t.Error("client credentials: got Unclassified; want nothing that could end")
			}
		})
	}
}

// refusing starts a token endpoint that answers so.
func refusing(t *testing.T, status int, body string) string {
	t.Helper()
	return answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(body, "<") {
			w.Header().Set("Content-Type", "text/html")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// TestInvalidRequestAfterAnInterruption: another request with the same token may be under way, and
// the one that loses gets invalid_request (Ory fosite).
func TestInvalidRequestAfterAnInterruption(t *testing.T) {
	in := credential("refresh-1")
	in.Interrupted.By = "another"
	url := refusing(t, 400, `{"error":"invalid_request"}`)
	_, err := oauth2refresh.New(config(url)).Refresh(t.Context(), in)
	if e := fails(t, err); e.Class != unknown || !strings.Contains(e.Reason, "overlapped") {
		t.Errorf("got %v; want unknown, which says that requests overlapped", e)
	}
}

// TestClassifyLeavesNothingUnclassified: a hook that knows the answer has the last word.
func TestClassifyLeavesNothingUnclassified(t *testing.T) {
	r := oauth2refresh.New(config(refusing(t, 400, `{"error":"computer_says_no"}`))).With(oauth2refresh.Options{
		Classify: func(oauth2refresh.Response) (credentials.Class, bool) { return transient, true },
	})
	_, err := r.Refresh(t.Context(), credential("refresh-1"))
	if e := fails(t, err); e.Unclassified || e.Class != transient {
		t.Errorf("got %v, unclassified: %v", e, e.Unclassified)
	}
}
