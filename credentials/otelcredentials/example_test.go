package otelcredentials_test

import (
	"log"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/otelcredentials"
)

// A manager whose events go to the global providers, which the program sets as OpenTelemetry's SDK
// says. Spans name the accounts.
func ExampleNewObserver() {
	observer, err := otelcredentials.NewObserver(&otelcredentials.Options{Accounts: true})
	if err != nil {
		log.Fatal(err)
	}
	refresher := credentials.RefresherFunc(nil) // oauth2refresh.New(…)
	_, err = credentials.NewManager(memstore.New(), credentials.Services{"github": {Refresher: refresher}},
		&credentials.Options{Observer: observer})
	if err != nil {
		log.Print(err)
	}
}
