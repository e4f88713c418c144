package oauth2refresh_test

import (
	"fmt"
	"net/http"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/testkit/leak"
)

// TestNothingSecretIsPrinted: no exported type shows the client secret, the token URL's path and
// query, or the answer's header and body, whatever the verb and wherever the value stands; nor do
// they lead reflection to it. A type that is new has to be added.
func TestNothingSecretIsPrinted(t *testing.T) {
	const mark = "SECRET"
	tokenURL := "https://" + mark + ":" + mark + "@login.example/" + mark + "?key=" + mark
	style := oauth2.AuthStyleInParams
	rotating := oauth2refresh.New(oauth2.Config{
		ClientID: "app", ClientSecret: mark, Endpoint: oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: style},
	})
	robot := oauth2refresh.NewClientCredentials(clientcredentials.Config{
		ClientID: "app", ClientSecret: mark, TokenURL: tokenURL, AuthStyle: style,
		EndpointParams: map[string][]string{"key": {mark}},
	})
	response := oauth2refresh.Response{
		Status: 400, Code: "invalid_grant",
		Header: http.Header{"Set-Cookie": {"session=" + mark}, mark: {""}}, Body: credentials.NewSecret(mark),
	}
	options := oauth2refresh.Options{HTTPClient: &http.Client{}}
	values := map[string][]any{
		"Refresher": {
			rotating, *rotating, robot, rotating.With(options),
			struct{ r *oauth2refresh.Refresher }{rotating}, struct{ r oauth2refresh.Refresher }{*rotating},
			credentials.Service{Refresher: rotating}, credentials.Services{"it": {Refresher: robot}},
			struct{ s credentials.Services }{credentials.Services{"it": {Refresher: robot}}},
			[]credentials.Refresher{rotating},
		},
		"Response": {response, &response, []oauth2refresh.Response{response}},
		"Options":  {options, &options},
	}
	types, err := leak.ExportedTypes(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range types {
		if len(values[name]) == 0 {
			t.Errorf("a value of %s is missing", name)
		}
		for _, v := range values[name] {
			if text := leak.Printed(v, mark); text != "" {
				t.Errorf("%T shows a secret: %s", v, text)
			}
			if text := leak.Reached(v, mark); text != "" && name != "Response" {
				t.Errorf("%T leads to %q", v, text)
			}
		}
	}
	for want, v := range map[string]any{
		`oauth2refresh.Refresher of client "app" at "login.example"`: rotating,
		`oauth2refresh.Refresher of client "" at ""`:                 oauth2refresh.Refresher{},
		`oauth2refresh.Response{Status:400 Code:"invalid_grant"}`:    response,
		`oauth2refresh.Response{Status:0 Code:""}`:                   oauth2refresh.Response{},
	} {
		if got := fmt.Sprintf("%+v", v); got != want {
			t.Errorf("%T is printed as %s; want %s", v, got, want)
		}
	}
}
