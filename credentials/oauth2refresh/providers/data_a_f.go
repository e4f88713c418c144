package providers

import (
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

// Asana is https://app.asana.com.
var Asana = Provider{
	Name: "asana", Title: "Asana",
	TokenURL: fact("https://app.asana.com/-/oauth_token",
		"https://developers.asana.com/docs/oauth"),
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://github.com/Asana/node-asana/blob/master/lib/auth/app.js"),
	RevocationURL: fact("https://app.asana.com/-/oauth_revoke",
		"https://developers.asana.com/docs/oauth"),
}

const (
	atlassianRefresh = "https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens/"
	atlassianRotates = "https://community.developer.atlassian.com/t/" +
		"updated-31-january-2022-action-required-deprecating-persistent-refresh-tokens/54172"
)

// Atlassian is the OAuth 2.0 (3LO) of Jira, Confluence and the rest of Atlassian's cloud.
var Atlassian = Provider{
	Name: "atlassian", Title: "Atlassian",
	TokenURL:  fact("https://auth.atlassian.com/oauth/token", atlassianRefresh),
	AuthStyle: fact(oauth2.AuthStyleInParams, atlassianRefresh),
	Rotation:  fact(AlwaysRotates, atlassianRefresh),
	Grace:     fact(10*time.Minute, atlassianRotates),
	Reuse:     fact(ReuseEndsGrant, atlassianRotates),
	Lifetime: fact(time.Hour,
		"https://community.developer.atlassian.com/t/refresh-token-expire-after-36000-seconds/60806/2"),
	IdleLimit:     fact(90*day, atlassianRotates),
	GrantLifetime: fact(365*day, atlassianRotates),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 403,
			Body: `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`,
		}, atlassianRefresh),
		fact(Refusal{
			Class: credentials.ClassDead, Status: 403, Says: `refresh_token is invalid`,
			Body: `{"error":"unauthorized_client","error_description":"refresh_token is invalid"}`,
		}, "https://github.com/raycast/extensions/issues/11836"),
	},
}

const boxRefresh = "https://developer.box.com/guides/authentication/tokens/refresh"

// Box is https://www.box.com.
var Box = Provider{
	Name: "box", Title: "Box",
	TokenURL: fact("https://api.box.com/oauth2/token",
		"https://developer.box.com/reference/post-oauth2-token--refresh"),
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://developer.box.com/reference/post-oauth2-token--refresh"),
	RevocationURL: fact("https://api.box.com/oauth2/revoke",
		"https://developer.box.com/guides/authentication/tokens/revoke"),
	Rotation: fact(AlwaysRotates, boxRefresh),
	Lifetime: fact(time.Hour,
		"https://developer.box.com/reference/post-oauth2-token--refresh"),
	IdleLimit: fact(60*day, boxRefresh),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead,
			Body:  `{"error":"invalid_grant","error_description":"Refresh token has expired"}`,
		}, "https://docs.pingidentity.com/r/en-us/pingfederate-box-connector/"+
			"pingfederate_box_connector_troubleshooting"),
	},
}

const dropboxSDK = "https://github.com/dropbox/dropbox-sdk-python/blob/main/dropbox/dropbox_client.py"

// Dropbox is https://www.dropbox.com.
var Dropbox = Provider{
	Name: "dropbox", Title: "Dropbox",
	TokenURL:  fact("https://api.dropboxapi.com/oauth2/token", xOAuth2),
	AuthStyle: fact(oauth2.AuthStyleInParams, dropboxSDK),
	Rotation:  fact(NeverRotates, dropboxSDK),
	Lifetime: fact(4*time.Hour,
		"https://dropboxforum.com/discussions/101000014/access-token/544001/replies/544017"),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error_description":"refresh token is invalid or revoked","error":"invalid_grant"}`,
		}, "https://github.com/dropbox/dropbox-sdk-dotnet/issues/232"),
	},
}

const exactLifetimes = "https://forums.invantive.com/t/" +
	"wat-is-de-levensduur-van-een-oauth-access-token-op-exact-online/1419"

// ExactOnline is Exact Online, the accounting. Its countries have hosts of their own.
var ExactOnline = Provider{
	Name: "exact-online", Title: "Exact Online",
	TokenURL: fact("https://start.exactonline.{domain}/api/oauth2/token", nango),
	Places:   "nl, be, de, fr, es, co.uk or com",
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://github.com/picqer/exact-php-client/blob/master/src/Picqer/Financials/Exact/Connection.php"),
	Rotation:  fact(AlwaysRotates, "https://github.com/picqer/exact-php-client/issues/300"),
	Lifetime:  fact(10*time.Minute, exactLifetimes),
	IdleLimit: fact(30*day, exactLifetimes),
	Early:     fact(30*time.Second, "https://docs.nango.dev/integrations/all/exact-online"),
	Success:   fact(`{"expires_in":"600"}`, exactLifetimes),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassTransient, Status: 400, Says: `access_token not expired`,
			Body: `{"error":"access_denied",` +
				`"error_description":"Rate limit exceeded: access_token not expired"}`,
		}, "https://github.com/websmurf/laravel-exact-online/issues/31"),
		fact(Refusal{
			Class: credentials.ClassDead, Status: 401, Says: `Old refresh token used`,
			Body: `{"error":"unauthorized_client","error_description":"Old refresh token used."}`,
		}, "https://github.com/picqer/exact-php-client/issues/644"),
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400, Says: `The refresh token expired at`,
			Body: `{"error":"invalid_request",` +
				`"error_description":"The refresh token expired at …"}`,
		}, "https://github.com/websmurf/laravel-exact-online/issues/23"),
	},
	Notes: []Fact[string]{
		fact("A refresh token lapses only when its successor is used.", exactLifetimes),
	},
}

const (
	fitbitRefresh = "https://dev.fitbit.com/build/reference/web-api/authorization/refresh-token/"
	fitbitRevoke  = "https://dev.fitbit.com/build/reference/web-api/authorization/revoke-token"
)

// Fitbit is https://www.fitbit.com.
var Fitbit = Provider{
	Name: "fitbit", Title: "Fitbit",
	TokenURL:      fact("https://api.fitbit.com/oauth2/token", fitbitRefresh),
	AuthStyle:     fact(oauth2.AuthStyleInHeader, fitbitRefresh),
	RevocationURL: fact("https://api.fitbit.com/oauth2/revoke", fitbitRevoke),
	Rotation:      fact(AlwaysRotates, fitbitRefresh),
	Lifetime: fact(8*time.Hour,
		"https://dev.fitbit.com/build/reference/web-api/developer-guide/best-practices"),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"errors":[{"errorType":"invalid_grant",` +
				`"message":"Refresh token invalid: …"}],"success":false}`,
		}, "https://github.com/home-assistant/core/issues/141223"),
	},
	Notes: []Fact[string]{
		fact("A refresh token does not expire until it is used.", fitbitRefresh),
		fact("Revocation ends every grant of the same person to the app.", fitbitRevoke),
	},
}
