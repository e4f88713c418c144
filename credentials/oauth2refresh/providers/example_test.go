package providers_test

import (
	"fmt"
	"log"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
)

// Exact Online refuses a renewal until half a minute before the token's end, so its tokens are due
// only then.
func ExampleProvider_Service() {
	service := providers.ExactOnline.At("nl").Service("my-app", "from your secret store")
	fmt.Println("due", service.RefreshAhead, "ahead")
	// Output:
	// due 15s ahead
}

// A place that is missing is found when the manager is built.
func ExampleProvider_At() {
	_, err := credentials.NewManager(memstore.New(), credentials.Services{
		"salesforce": providers.Salesforce.Service("my-app", "from your secret store"),
	}, nil)
	fmt.Println(err)
	// Output:
	// credentials.NewManager: service "salesforce": providers: Salesforce has more than one token endpoint; say with At what stands for {host} in https://{host}/services/oauth2/token, such as login.salesforce.com, test.salesforce.com or MYDOMAIN.my.salesforce.com
}

// A refresher with a RedirectURL also turns the codes of authorization callbacks into grants.
func ExampleProvider_Options() {
	endpoint, err := providers.Slack.Endpoint()
	if err != nil {
		log.Fatal(err)
	}
	slack := oauth2refresh.New(oauth2.Config{
		ClientID: "my-app", ClientSecret: "from your secret store",
		Endpoint: endpoint, RedirectURL: "https://app.example/callback",
	}).With(providers.Slack.Options())

	service := providers.Slack.Service("my-app", "from your secret store")
	service.Refresher = slack
	fmt.Println(slack) // slack.Exchange is for the callback's handler
	// Output:
	// oauth2refresh.Refresher of client "my-app" at "slack.com"
}
