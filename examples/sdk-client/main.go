// Command sdk-client has an SDK's requests carry a stored token, through the SDK's *http.Client.
package main

import (
	"context"
	"database/sql"
	"log"
	"os"

	_ "github.com/go-sql-driver/mysql"
	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

func main() {
	store := must(mysql.NewStore(must(sql.Open("mysql", os.Getenv("MYSQL_DSN"))), nil))
	tickets := oauth2refresh.New(oauth2.Config{ClientID: "app", ClientSecret: os.Getenv("CLIENT_SECRET"),
		Endpoint: oauth2.Endpoint{TokenURL: os.Getenv("TOKEN_URL"), AuthStyle: oauth2.AuthStyleInParams}})
	manager := must(credentials.NewManager(store, credentials.Services{"tickets": {Refresher: tickets}}, nil))
	defer manager.Close(context.Background())
	source := must(manager.Source(credentials.Key{Service: "tickets", Account: "alice"}))

	client := bearer.Client(source)
	response := must(client.Get(os.Getenv("API_URL"))) // or github.NewClient(client), and the like
	log.Print("the API answered ", response.Status)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
