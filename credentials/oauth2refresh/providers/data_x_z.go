package providers

import (
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
)

const xRefresh = "https://github.com/trypostit/trypost/issues/126"

// X is https://x.com, once Twitter.
var X = Provider{
	Name: "x", Title: "X",
	TokenURL: fact("https://api.x.com/2/oauth2/token",
		"https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code"),
	AuthStyle: fact(oauth2.AuthStyleInHeader,
		"https://docs.x.com/fundamentals/authentication/oauth-2-0/user-access-token"),
	Rotation: fact(AlwaysRotates, xRefresh),
	Reuse:    fact(ReuseEndsGrant, xRefresh),
	Lifetime: fact(2*time.Hour,
		"https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code"),
	IdleLimit: fact(180*day, xRefresh),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400, Says: `Value passed for the token was invalid`,
			Body: `{"error":"invalid_request",` +
				`"error_description":"Value passed for the token was invalid."}`,
		}, "https://github.com/trypostit/trypost"),
	},
	Notes: []Fact[string]{
		fact("An authorization brings a refresh token if the scope has offline.access.",
			"https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code"),
	},
}

const xeroFAQ = "https://developer.xero.com/faq/oauth2"

// Xero is https://www.xero.com.
var Xero = Provider{
	Name: "xero", Title: "Xero",
	TokenURL:  fact("https://identity.xero.com/connect/token", nango),
	AuthStyle: fact(oauth2.AuthStyleInHeader, "https://community.xero.com/developer/discussion/105714701/"),
	Rotation:  fact(AlwaysRotates, xeroFAQ),
	Grace:     fact(30*time.Minute, xeroFAQ),
	Lifetime:  fact(30*time.Minute, xeroFAQ),
	IdleLimit: fact(60*day, xeroFAQ),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"error":"invalid_grant"}`,
		}, "https://community.xero.com/developer/discussion/125347287"),
	},
}

const (
	zohoRefresh  = "https://zoho.com/recruit/developer-guide/apiv2/refresh.html"
	zohoValidity = "https://zoho.com/crm/developer/docs/api/v4/token-validity.html"
)

// Zoho is https://www.zoho.com. Its data centres have hosts of their own.
var Zoho = Provider{
	Name: "zoho", Title: "Zoho",
	TokenURL:  fact("https://accounts.zoho.{domain}/oauth/v2/token", zohoRefresh),
	Places:    "com, eu, in, com.au, jp or com.cn",
	AuthStyle: fact(oauth2.AuthStyleInParams, zohoRefresh),
	Rotation:  fact(NeverRotates, zohoRefresh),
	Lifetime:  fact(time.Hour, zohoValidity),
	Success: fact(`{"expires_in":3600000,"expires_in_sec":3600}`,
		"https://zoho.com.cn/writer/help/api/v1/oauth-step4.html"),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassTransient, Says: `too many requests`,
			Body: `{"error_description":"You have made too many requests continuously. ` +
				`Please try again after some time.","error":"Access Denied","status":"failure"}`,
		}, zohoValidity),
		fact(Refusal{
			Class: credentials.ClassDead, Status: 200,
			Body: `{"error":"invalid_code"}`,
		}, "https://github.com/Weble/ZohoBooksApi/issues/84"),
	},
	Notes: []Fact[string]{
		fact("A refresh token does not expire.", zohoValidity),
		fact("A refresh token may be presented ten times in ten minutes.", zohoValidity),
		fact("Some data centres give expires_in in milliseconds.",
			"https://github.com/Weble/ZohoClient/issues/11"),
	},
}

const zoomRefresh = "https://devsupport.zoom.us/hc/en-us/articles/" +
	"360060332931-Extending-the-expiration-for-an-OAuth-access-token"

// Zoom is https://zoom.us.
var Zoom = Provider{
	Name: "zoom", Title: "Zoom",
	TokenURL:  fact("https://zoom.us/oauth/token", zoomRefresh),
	AuthStyle: fact(oauth2.AuthStyleInHeader, zoomRefresh),
	Rotation:  fact(AlwaysRotates, zoomRefresh),
	Lifetime:  fact(time.Hour, zoomRefresh),
	Refusals: []Fact[Refusal]{
		fact(Refusal{
			Class: credentials.ClassDead, Status: 400,
			Body: `{"reason":"Invalid Token!","error":"invalid_grant"}`,
		}, "https://github.com/raycast/extensions/issues/10896"),
	},
}
