package oauth2refresh_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// A service whose accounts authorized the app: the refresh token of each is in its row.
func Example() {
	endpoint, err := provider.Start("", provider.New(provider.Options{Lifetime: 8 * time.Hour})) // the provider's part
	if err != nil {
		log.Fatal(err)
	}
	defer endpoint.Close()

	github := oauth2refresh.New(oauth2.Config{
		ClientID:     "Iv1.8a61f9b3a7aba766",
		ClientSecret: "from your secret store",
		Endpoint: oauth2.Endpoint{
			TokenURL:  endpoint.TokenURL(),
			AuthStyle: oauth2.AuthStyleInParams, // must be named; see Check
		},
	})

	// The manager makes this call under a claim, and saves the grant before anyone sees it.
	alice := credentials.RefreshInput{RefreshToken: credentials.NewSecret(endpoint.Provider.Register("alice"))}
	grant, err := github.Refresh(context.Background(), alice)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("token:", grant.AccessToken)
	fmt.Println("for:", grant.Lifetime)
	fmt.Println("next refresh token sent:", !grant.RefreshToken.IsZero())

	// A second time, the provider takes the old refresh token for stolen.
	_, err = github.Refresh(context.Background(), alice)
	fmt.Println("again:", errors.Is(err, credentials.ErrGrantDead))
	// Output:
	// token: [redacted]
	// for: 8h0m0s
	// next refresh token sent: true
	// again: true
}

// An endpoint without AuthStyle is refused when the manager is built, and not when the first token
// runs out.
func ExampleRefresher_Check() {
	r := oauth2refresh.New(oauth2.Config{
		ClientID: "app",
		Endpoint: oauth2.Endpoint{TokenURL: "https://login.example/token"},
	})
	fmt.Println(r.Check())
	// Output:
	// oauth2refresh: AuthStyle is not set, and x/oauth2 would find it out by presenting the same refresh token again; set AuthStyleInParams where the provider takes client_secret_post, else AuthStyleInHeader
}

// A service acts for itself; its row is made at the first ask, and holds no refresh token.
func ExampleNewClientCredentials() {
	services := credentials.Services{
		"robot": {Refresher: oauth2refresh.NewClientCredentials(clientcredentials.Config{
			ClientID:     "robot",
			ClientSecret: "from your secret store",
			TokenURL:     "https://login.example/token",
			AuthStyle:    oauth2.AuthStyleInHeader,
			Scopes:       []string{"invoices.read"},
		}), ClientCredentials: true},
	}
	fmt.Println(len(services))
	// Output: 1
}

// A provider says in its own way that a grant is dead.
func ExampleOptions_classify() {
	config := oauth2.Config{
		ClientID: "app",
		Endpoint: oauth2.Endpoint{TokenURL: "https://login.example/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	services := credentials.Services{
		// GitHub answers with status 200 and a code of its own.
		"github": {Refresher: oauth2refresh.New(config).With(oauth2refresh.Options{
			Classify: func(r oauth2refresh.Response) (credentials.Class, bool) {
				return credentials.ClassDead, r.Code == "bad_refresh_token"
			},
		})},
		// Glewlwyd answers 400 without a body.
		"glewlwyd": {Refresher: oauth2refresh.New(config).With(oauth2refresh.Options{
			Classify: func(r oauth2refresh.Response) (credentials.Class, bool) {
				return credentials.ClassDead, r.Status == http.StatusBadRequest && r.Body.IsZero()
			},
		})},
	}
	fmt.Println(len(services))
	// Output: 2
}
