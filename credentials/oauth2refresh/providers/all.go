package providers

import (
	"slices"
	"time"
)

const day = 24 * time.Hour

// Pages that state facts of several providers: endpoints of golang.org/x/oauth2, and the
// integrations of Nango, which are in use.
const (
	xOAuth2 = "https://github.com/golang/oauth2/blob/master/endpoints/endpoints.go"
	nango   = "https://github.com/NangoHQ/nango/blob/master/packages/providers/providers.yaml"
)

// all are the presets, by title.
var all = []Provider{
	Asana, Atlassian, Box, Dropbox, ExactOnline, Fitbit, GitHub, GitLab, Google, HubSpot, Intuit,
	LinkedIn, Microsoft, Salesforce, Shopify, Slack, Spotify, Strava, X, Xero, Zoho, Zoom,
}

// All returns the presets, ordered by their titles.
func All() []Provider { return slices.Clone(all) }
