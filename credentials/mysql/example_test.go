package mysql_test

import (
	"context"
	"database/sql"
	"log"
	"net/http/httptest"

	_ "github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
)

// A pool, a store, a manager with one service, and a token.
func Example() {
	ctx, request := context.Background(), httptest.NewRequest("GET", "https://api.github.com/user", nil)

	db, err := sql.Open("mysql", "app:secret@tcp(127.0.0.1:3306)/app?interpolateParams=true")
	check(err)
	store, err := mysql.NewStore(db, nil) // your pool: never closed, never tuned
	check(err)
	check(store.Check(ctx)) // is the server new enough, the table there and of this version?

	m, err := credentials.NewManager(store, credentials.Services{
		"github": providers.GitHub.Service("client-id", "client-secret"),
	}, nil)
	check(err)
	defer m.Close(ctx) // lets exchanges end, and saves their results

	token, err := m.Token(ctx, credentials.Key{Service: "github", Account: "alice"})
	check(err)
	token.SetAuthHeader(request.Header)

	log.Println("valid until", token.Expiry, "- and", token.Value, "cannot be printed by accident")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
