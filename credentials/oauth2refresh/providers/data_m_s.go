package providers

import (
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

const microsoftTokens = "https://learn.microsoft.com/en-us/entra/identity-platform/refresh-tokens"

// Microsoft is Entra ID, for Microsoft 365 and Azure.
var Microsoft = Provider{
	Name: "microsoft", Title: "Microsoft",
	TokenURL: fact("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", nango),
	Places:   "the tenant's id, common, organizations or consumers",
	AuthStyle: fact(oauth2.AuthStyleInParams, "https://learn.microsoft.com/en-us/answers/questions/1080136/"+
		"response-from-oauth2-v2-0-token-does-not-include-r"),
	Rotation:  fact(AlwaysRotates, microsoftTokens),
	Reuse:     fact(ReuseEndsNothing, microsoftTokens),
	IdleLimit: fact(90*day, microsoftTokens),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"interaction_required","error_description":"AADSTS50076: Due to a ` +
				`configuration change, you must use multi-factor authentication."}`,
		}, "https://github.com/microsoft/vscode-azureappservice/issues/2592"),
		fact(Refusal{
			Class: credentials.ClassDead,
			Body: `{"error":"invalid_grant","error_description":"AADSTS700082: The refresh token has ` +
				`expired due to inactivity."}`,
		}, "https://www.microsoftpartnercommunity.com/t5/Multi-Factor-Authentication-MFA/"+
			"OAuth-Refresh-token-has-expired-after-90-days/td-p/9200"),
	},
	Notes: []Fact[string]{
		fact("A refresh token of a single-page app lives for 24 hours.", microsoftTokens),
	},
}

const (
	salesforceRotation = "https://help.salesforce.com/s/articleView?id=005316711&language=en_US&type=1"
	salesforceBusy     = "https://help.salesforce.com/s/articleView?" +
		"id=release-notes.rn_security_refresh_token_error.htm&release=252&type=5"
)

// Salesforce is that of production, sandboxes and one's own domain.
var Salesforce = Provider{
	Name: "salesforce", Title: "Salesforce",
	TokenURL: fact("https://{host}/services/oauth2/token", nango),
	Places:   "login.salesforce.com, test.salesforce.com or MYDOMAIN.my.salesforce.com",
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://developer.salesforce.com/docs/atlas.en-us.214.0.api_placeorder.meta/"+
			"api_placeorder/intro_understanding_refresh_token_oauth.htm"),
	RevocationURL: fact("https://{host}/services/oauth2/revoke",
		"https://developer.salesforce.com/docs/platform/mobile-sdk/guide/oauth-revoking-tokens.html"),
	Rotation: fact(MayRotate, salesforceRotation),
	Reuse:    fact(ReuseEndsGrant, salesforceRotation),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassTransient, Status: 400, Says: `token request is already being processed`,
			Body: `{"error":"invalid_grant",` +
				`"error_description":"token request is already being processed"}`,
		}, salesforceBusy),
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant","error_description":"expired access/refresh token"}`,
		}, "https://www.nango.dev/blog/salesforce-oauth-refresh-token-invalid-grant"),
	},
	Notes: []Fact[string]{
		fact("Refresh tokens rotate if the app's settings say so.", salesforceRotation),
	},
}

const (
	shopifySDK     = "https://github.com/Shopify/shopify-app-js"
	shopifyRefresh = "https://shopify.dev/changelog/more-resilient-refreshes-for-expiring-offline-access-tokens"
)

// Shopify is that of offline access tokens which expire. Each shop is a service of its own.
var Shopify = Provider{
	Name: "shopify", Title: "Shopify",
	TokenURL:  fact("https://{shop}.myshopify.com/admin/oauth/access_token", nango),
	Places:    "the shop's name in its myshopify.com address",
	AuthStyle: fact(oauth2.AuthStyleInParams, shopifySDK),
	Rotation: fact(AlwaysRotates, "https://shopify.dev/docs/apps/build/security/credentials-and-data/"+
		"use-expiring-offline-access-tokens"),
	Lifetime: fact(time.Hour,
		"https://shopify.dev/changelog/offline-access-tokens-now-support-expiry-and-refresh"),
	IdleLimit: fact(90*day, "https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/"+
		"offline-access-tokens"),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant"}`,
		}, "https://nango.dev/blog/shopify-oauth-refresh-token-invalid-grant"),
	},
	Notes: []Fact[string]{
		fact("A refresh token may be used again until its successor is used, for at most 30 days from its "+
			"first use.", shopifyRefresh),
	},
}

const (
	slackRotation = "https://docs.slack.dev/authentication/using-token-rotation"
	slackAccess   = "https://docs.slack.dev/reference/methods/oauth.v2.access"
)

// Slack is that of apps with token rotation.
var Slack = Provider{
	Name: "slack", Title: "Slack",
	TokenURL:  fact("https://slack.com/api/oauth.v2.access", xOAuth2),
	AuthStyle: fact(oauth2.AuthStyleInHeader, slackAccess),
	Rotation:  fact(AlwaysRotates, slackRotation),
	Lifetime:  fact(12*time.Hour, slackRotation),
	Success:   fact(`{"ok":true}`, slackAccess),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 200,
			Body: `{"ok":false,"error":"invalid_refresh_token"}`,
		}, "https://github.com/slackapi/node-slack-sdk/issues/2038"),
	},
	Notes: []Fact[string]{
		fact("The answer to an authorization code has a person's token in authed_user, the answer to a "+
			"refresh token at the top.", "https://github.com/NVIDIA/nemoclaw-community/issues/122"),
	},
}

const spotifyRefresh = "https://developer.spotify.com/documentation/web-api/tutorials/refreshing-tokens"

// Spotify is https://www.spotify.com.
var Spotify = Provider{
	Name: "spotify", Title: "Spotify",
	TokenURL:      fact("https://accounts.spotify.com/api/token", spotifyRefresh),
	AuthStyle:     fact(oauth2.AuthStyleInHeader, spotifyRefresh),
	Rotation:      fact(MayRotate, spotifyRefresh),
	Lifetime:      fact(time.Hour, spotifyRefresh),
	GrantLifetime: fact(180*day, spotifyRefresh),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant","error_description":"Refresh token revoked"}`,
		}, "https://github.com/ramsayleung/rspotify/issues/396"),
	},
}

const stravaAuth = "https://developers.strava.com/docs/authentication/"

// Strava is https://www.strava.com.
var Strava = Provider{
	Name: "strava", Title: "Strava",
	TokenURL:  fact("https://www.strava.com/oauth/token", stravaAuth),
	AuthStyle: fact(oauth2.AuthStyleInParams, stravaAuth),
	Rotation:  fact(MayRotate, stravaAuth),
	Lifetime:  fact(6*time.Hour, stravaAuth),
	Early:     fact(time.Hour, stravaAuth),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"message":"Bad Request","errors":[{"resource":"RefreshToken",` +
				`"field":"refresh_token","code":"invalid"}]}`,
		}, "https://github.com/dreeveapp/dreeve/issues/1449"),
	},
	Notes: []Fact[string]{
		fact("Until an hour before its end, the endpoint answers with the present access token.", stravaAuth),
		fact("An exchange that brings a new refresh token ends the old one at once.", stravaAuth),
	},
}
