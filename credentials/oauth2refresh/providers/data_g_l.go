package providers

import (
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

const (
	githubRefresh = "https://docs.github.com/en/enterprise-server@3.14/apps/creating-github-apps/" +
		"authenticating-with-a-github-app/refreshing-user-access-tokens"
	githubExpiring = "https://developer.github.com/changes/" +
		"2020-04-30-expiring-user-to-server-access-tokens-for-github-apps/"
)

// GitHub is that of user access tokens which expire, of GitHub Apps.
var GitHub = Provider{
	Name: "github", Title: "GitHub",
	TokenURL:     fact("https://github.com/login/oauth/access_token", xOAuth2),
	AuthStyle:    fact(oauth2.AuthStyleInParams, githubExpiring),
	Rotation:     fact(AlwaysRotates, githubRefresh),
	Lifetime:     fact(8*time.Hour, githubRefresh),
	EndsOldToken: fact(true, githubRefresh),
	IdleLimit:    fact(180*day, githubRefresh),
	Success:      fact(`{"refresh_token_expires_in":15897600}`, githubRefresh),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 200,
			Body: `{"error":"bad_refresh_token",` +
				`"error_description":"The refresh token passed is incorrect or expired."}`,
		}, "https://github.com/getsentry/junior/pull/620"),
	},
}

const gitlabOAuth = "https://docs.gitlab.com/api/oauth2/"

// GitLab is gitlab.com and every installation of one's own.
var GitLab = Provider{
	Name: "gitlab", Title: "GitLab",
	TokenURL:         fact("https://{host}/oauth/token", gitlabOAuth),
	Places:           "gitlab.com",
	AuthStyle:        fact(oauth2.AuthStyleInParams, gitlabOAuth),
	RevocationURL:    fact("https://{host}/oauth/revoke", gitlabOAuth),
	Rotation:         fact(AlwaysRotates, gitlabOAuth),
	Lifetime:         fact(2*time.Hour, gitlabOAuth),
	EndsOldToken:     fact(true, gitlabOAuth),
	SendsRedirectURI: fact(true, gitlabOAuth),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant","error_description":` +
				`"The provided authorization grant is invalid, expired, revoked, does not match ` +
				`the redirection URI used in the authorization request, or was issued to another client."}`,
		}, "https://github.com/oauth2-proxy/oauth2-proxy/issues/1473"),
	},
}

const googleOAuth = "https://developers.google.com/identity/protocols/oauth2#expiration"

// Google is Google Workspace, YouTube and every other API of Google's.
var Google = Provider{
	Name: "google", Title: "Google",
	TokenURL: fact("https://oauth2.googleapis.com/token",
		"https://github.com/golang/oauth2/blob/master/google/google.go"),
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://github.com/golang/oauth2/blob/master/google/google.go"),
	IdleLimit: fact(180*day, googleOAuth),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant",` +
				`"error_description":"Token has been expired or revoked."}`,
		}, "https://www.nango.dev/blog/google-oauth-invalid-grant-token-has-been-expired-or-revoked"),
	},
	Notes: []Fact[string]{
		fact("A refresh token lives for 7 days while the app's status is Testing.", googleOAuth),
		fact("An account has 100 refresh tokens for each client; the next ends the oldest.", googleOAuth),
	},
}

// HubSpot is https://www.hubspot.com.
var HubSpot = Provider{
	Name: "hubspot", Title: "HubSpot",
	TokenURL: fact("https://api.hubapi.com/oauth/v1/token",
		"https://developers.hubspot.com/docs/api-reference/legacy/authentication/oauth-tokens/v1/guide"),
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://developers.hubspot.com/docs/api-reference/legacy/authentication/oauth-tokens/v1/guide"),
	Lifetime: fact(30*time.Minute,
		"https://developers.hubspot.com/changelog/upcoming-expiration-of-oauth-access-tokens-is-changing"),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}`,
		}, "https://www.nango.dev/blog/hubspot-oauth-bad-refresh-token"),
	},
	Notes: []Fact[string]{
		fact("The newer endpoints say invalid_grant beside the same status.", "https://developers.hubspot.com/"+
			"changelog/new-oauth-v3-api-endpoints-and-standardized-error-responses"),
	},
}

const (
	intuitSDK    = "https://github.com/intuit/oauth-jsclient/blob/master/src/OAuthClient.js"
	intuitReadme = "https://github.com/intuit/oauth-jsclient"
	intuitPolicy = "https://blogs.intuit.com/2025/11/12/important-changes-to-refresh-token-policy"
)

// Intuit is QuickBooks Online.
var Intuit = Provider{
	Name: "intuit", Title: "Intuit QuickBooks",
	TokenURL:      fact("https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer", intuitSDK),
	AuthStyle:     fact(oauth2.AuthStyleInHeader, intuitSDK),
	Rotation:      fact(MayRotate, "https://github.com/intuit/oauth-jsclient/issues/74"),
	Lifetime:      fact(time.Hour, intuitReadme),
	IdleLimit:     fact(100*day, intuitPolicy),
	GrantLifetime: fact(5*365*day, intuitPolicy),
	Success:       fact(`{"x_refresh_token_expires_in":8726400}`, intuitReadme),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant",` +
				`"error_description":"Incorrect or invalid refresh token"}`,
		}, "https://github.com/routablehq/python-quickbooks/issues/397"),
	},
	Notes: []Fact[string]{
		fact("A refresh token ends 24 hours after the next one was received; another page says at once "+
			"(https://github.com/intuit/QuickBooks-V3-PHP-SDK/issues/454).", intuitReadme),
		fact("The refresh token's value changes every 24 to 26 hours.",
			"https://github.com/intuit/oauth-jsclient/issues/74"),
	},
}

const linkedinRefresh = "https://learn.microsoft.com/en-us/linkedin/shared/authentication/" +
	"programmatic-refresh-tokens"

// LinkedIn is that of partners to whom LinkedIn gives refresh tokens.
var LinkedIn = Provider{
	Name: "linkedin", Title: "LinkedIn",
	TokenURL: fact("https://www.linkedin.com/oauth/v2/accessToken",
		"https://github.com/golang/oauth2/blob/master/linkedin/linkedin.go"),
	AuthStyle: fact(oauth2.AuthStyleInParams,
		"https://github.com/golang/oauth2/blob/master/linkedin/linkedin.go"),
	Lifetime:      fact(60*day, linkedinRefresh),
	GrantLifetime: fact(365*day, linkedinRefresh),
}
