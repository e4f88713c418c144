// Package providers has what a service needs to know of some OAuth 2.0 providers, as data.
//
//	credentials.Services{
//		"xero":       providers.Xero.Service(clientID, clientSecret),
//		"salesforce": providers.Salesforce.At("login.salesforce.com").Service(clientID, clientSecret),
//	}
//
// Each fact stands beside the page that states it: see [Fact]. Where no page was found the fact is
// left out, so that "not stated" can be told from "no". docs/providers.md lists
// them.
//
// Facts become policy in one place, [Provider.Service], whose comment has the rules. A program
// that knows better changes the service, or a copy of the preset:
//
//	xero := providers.Xero
//	xero.Lifetime = providers.Fact[time.Duration]{Value: 20 * time.Minute, Source: "our contract"}
//
// The facts are those of the day on which the pages were read. Providers change them, mostly with
// notice: read the page before a grant depends on it.
package providers

//go:generate go test -run ^TestPageHasThePresets$ . -update
