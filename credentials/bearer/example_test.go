package bearer_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// An API has turned alice's token down ahead of its end: the client exchanges the token, and sends
// the request once more.
func Example() {
	ctx := context.Background()
	key := credentials.Key{Service: "github", Account: "alice"}
	store := memstore.New() // a service has one of package mysql
	check(store.Put(ctx, key, credentials.Grant{
		AccessToken: credentials.NewSecret("revoked"), Lifetime: time.Hour,
	}))
	exchange := func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
		return credentials.Grant{AccessToken: credentials.NewSecret("next"), Lifetime: time.Hour}, nil
	}
	m, err := credentials.NewManager(store, credentials.Services{
		"github": {Refresher: credentials.RefresherFunc(exchange)}, // or one of package oauth2refresh
	}, nil)
	check(err)
	defer m.Close(ctx)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer revoked" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "hello alice")
	}))
	defer server.Close()

	source, err := m.Source(key)
	check(err)
	client := bearer.Client(source)
	response, err := client.Get(server.URL)
	check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(err)
	fmt.Println(response.StatusCode, string(text))
	// Output: 200 hello alice
}

// A server acts for the user of each request, over one pool of connections.
func ExampleTransport_sourceFor() {
	type userKey struct{}
	var m *credentials.Manager
	client := &http.Client{Transport: &bearer.Transport{
		SourceFor: func(r *http.Request) (*credentials.Source, error) {
			user, _ := r.Context().Value(userKey{}).(string)
			return m.Source(credentials.Key{Service: "github", Account: user})
		},
	}}
	_ = client
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
