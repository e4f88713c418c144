// Command per-user calls an API for each user, with the token that the user granted.
package main

import (
	"database/sql"
	"errors"
	"io"
	"log"
	"net/http"
	"os"

	_ "github.com/go-sql-driver/mysql"
	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

func main() {
	config := oauth2.Config{ClientID: "app", ClientSecret: os.Getenv("CLIENT_SECRET"),
		RedirectURL: "http://" + os.Getenv("LISTEN") + "/callback", Endpoint: oauth2.Endpoint{
			AuthURL: os.Getenv("AUTH_URL"), TokenURL: os.Getenv("TOKEN_URL"), AuthStyle: oauth2.AuthStyleInHeader}}
	refresher, request := oauth2refresh.New(config), must(http.NewRequest("GET", os.Getenv("API_URL"), nil))
	store := must(mysql.NewStore(must(sql.Open("mysql", os.Getenv("MYSQL_DSN"))), nil))
	manager := must(credentials.NewManager(store, credentials.Services{"calendar": {Refresher: refresher}}, nil))
	key := func(r *http.Request) credentials.Key { // your session names the user, and no header
		return credentials.Key{Service: "calendar", Account: r.Header.Get("User")}
	}
	http.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		var response *http.Response
		source, err := manager.Source(key(r))
		if err == nil { // a token that the API turns down (401) is replaced, and the request sent again
			response, err = bearer.Client(source).Do(request.Clone(r.Context()))
		}
		switch {
		case errors.Is(err, credentials.ErrNotFound), errors.Is(err, credentials.ErrGrantDead):
			verifier := oauth2.GenerateVerifier() // ties the code to this browser (RFC 9700 section 2.1)
			http.SetCookie(w, &http.Cookie{Name: "verifier", Value: verifier, Path: "/callback", HttpOnly: true})
			http.Redirect(w, r, config.AuthCodeURL("", oauth2.S256ChallengeOption(verifier)), http.StatusFound)
		case err != nil:
			log.Print(err) // it names the credential, the cause and the remedy, and has no secret
			http.Error(w, "please try again later", http.StatusServiceUnavailable)
		default:
			defer response.Body.Close()
			w.WriteHeader(response.StatusCode)
			_, _ = io.Copy(w, response.Body)
		}
	})
	http.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		verifier, err := r.Cookie("verifier")
		if err == nil {
			var grant credentials.Grant
			grant, err = refresher.Exchange(r.Context(), r.FormValue("code"), oauth2.VerifierOption(verifier.Value))
			if err == nil {
				err = store.Put(r.Context(), key(r), grant)
			}
		}
		if err != nil {
			log.Print(err)
			http.Error(w, "please log in again", http.StatusBadGateway)
			return
		}
		http.Redirect(w, r, "/me", http.StatusFound)
	})
	log.Fatal(http.ListenAndServe(os.Getenv("LISTEN"), nil)) // examples/server shows an orderly end
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
