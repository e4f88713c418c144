package oauth2refresh_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
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

// The authorization callback exchanges the code and stores the grant, under the user's key.
func ExampleRefresher_Exchange() {
	endpoint, err := provider.Start("", provider.New(provider.Options{})) // the provider's part
	if err != nil {
		log.Fatal(err)
	}
	defer endpoint.Close()
	config := oauth2.Config{ClientID: "app", RedirectURL: "https://app.example/callback", Endpoint: oauth2.Endpoint{
		AuthURL: endpoint.URL + "/authorize", TokenURL: endpoint.TokenURL(), AuthStyle: oauth2.AuthStyleInParams}}
	refresher, store := oauth2refresh.New(config), memstore.New()
	callback := func(r *http.Request, verifier string) error { // of the user's session, as is the account
		grant, err := refresher.Exchange(r.Context(), r.FormValue("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			return err
		}
		return store.Put(r.Context(), credentials.Key{Service: "calendar", Account: "alice"}, grant)
	}

	verifier := oauth2.GenerateVerifier()
	consent, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", // the browser's part
		config.AuthCodeURL("", oauth2.S256ChallengeOption(verifier)), nil))
	if err != nil {
		log.Fatal(err)
	}
	back := httptest.NewRequest("GET", consent.Header.Get("Location"), nil)
	fmt.Println("the first time:", callback(back, verifier))
	fmt.Println("again:", callback(back, verifier))
	// Output:
	// the first time: <nil>
	// again: exchange of an authorization code: dead (invalid_grant): the provider answered 400 Bad Request and says "the authorization code does not work": the authorization code has expired, was used already or was issued to another client, or the redirect URL or the code verifier is not that of the authorization request; send the person to the provider again
}

// An SDK gets a client, or a TokenSource, and asks it before each request.
func ExampleTokenSource() {
	var source *credentials.Source // from Manager.Source
	ctx := context.Background()    // lives as long as the client

	client := oauth2.NewClient(ctx, oauth2refresh.TokenSource(ctx, source))
	fmt.Println(client.Timeout)
	// Output: 0s
}

// A program gives its own table of tokens up for the store.
func ExampleGrantFrom() {
	old := &oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(-time.Minute)}
	grant := oauth2refresh.GrantFrom(old)
	fmt.Println("access token kept:", !grant.AccessToken.IsZero())
	fmt.Println("refresh token kept:", !grant.RefreshToken.IsZero())
	// Output:
	// access token kept: false
	// refresh token kept: true
}
