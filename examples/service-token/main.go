// Command service-token shares the token of one client credentials grant among workers: here
// goroutines, and all processes that use the table. One of them exchanges, all get the token.
//
//	MYSQL_DSN='app:secret@tcp(127.0.0.1:3306)/app' TOKEN_URL=https://… CLIENT_SECRET=… \
//	API_URL=https://… go run ./examples/service-token
package main

import (
	"context"
	"database/sql"
	"log"
	"os"
	"sync"

	_ "github.com/go-sql-driver/mysql"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

const billing = "billing" // names the service, in the policy and in the key

func main() {
	db := must(sql.Open("mysql", os.Getenv("MYSQL_DSN")))
	defer db.Close()
	manager := must(credentials.NewManager(must(mysql.NewStore(db, nil)), credentials.Services{billing: {
		Refresher: oauth2refresh.NewClientCredentials(clientcredentials.Config{
			ClientID: "billing-worker", ClientSecret: os.Getenv("CLIENT_SECRET"),
			TokenURL: os.Getenv("TOKEN_URL"), AuthStyle: oauth2.AuthStyleInHeader,
		}),
		ClientCredentials: true, // nobody authorizes: the first ask makes the row
	}}, nil))
	defer manager.Close(context.Background()) // saves the result of an exchange that is under way

	source := must(manager.Source(credentials.Key{Service: billing}))
	client := bearer.Client(source)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			response := must(client.Get(os.Getenv("API_URL")))
			_ = response.Body.Close()
			log.Print("the API answered ", response.Status)
		})
	}
	workers.Wait()
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err) // it names the credential, the cause and the remedy, and has no secret
	}
	return value
}
