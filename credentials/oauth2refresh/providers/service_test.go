package providers_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
)

const page = "https://provider.example/docs"

func stated[T any](value T) providers.Fact[T] { return providers.Fact[T]{Value: value, Source: page} }

func TestPolicyFollowsFromFacts(t *testing.T) {
	for _, test := range []struct {
		name string
		p    providers.Provider
		want credentials.Service
	}{
		{name: "nothing is stated"},
		{
			name: "reuse costs nothing",
			p:    providers.Provider{Reuse: stated(providers.ReuseEndsNothing)},
			want: credentials.Service{Replay: credentials.ReplayTwice},
		},
		{
			name: "no rotation",
			p:    providers.Provider{Rotation: stated(providers.NeverRotates)},
			want: credentials.Service{Replay: credentials.ReplayTwice},
		},
		{name: "reuse costs the grant", p: providers.Provider{Reuse: stated(providers.ReuseEndsGrant)}},
		{
			name: "reuse costs further grants",
			p:    providers.Provider{Reuse: stated(providers.ReuseEndsMore)},
			want: credentials.Service{Replay: credentials.NeverReplay},
		},
		{
			name: "lifetime",
			p:    providers.Provider{Lifetime: stated(time.Hour)},
			want: credentials.Service{MaxLifetime: time.Hour},
		},
		{
			name: "idle limit",
			p:    providers.Provider{IdleLimit: stated(60 * 24 * time.Hour)},
			want: credentials.Service{KeepAlive: 30 * 24 * time.Hour},
		},
		{
			name: "renewed from half a minute before the end on",
			p:    providers.Provider{Early: stated(30 * time.Second)},
			want: credentials.Service{RefreshAhead: 15 * time.Second},
		},
		{
			name: "a lifetime, and renewed from half a minute before its end on",
			p: providers.Provider{
				Lifetime: stated(10 * time.Minute), Early: stated(30 * time.Second),
			},
			want: credentials.Service{DefaultLifetime: 10 * time.Minute, RefreshAhead: 15 * time.Second},
		},
		{
			name: "renewed from an hour before the end on, and due as ever",
			p:    providers.Provider{Early: stated(time.Hour)},
		},
		{
			name: "grace and the grant's end change no policy",
			p: providers.Provider{
				Rotation: stated(providers.AlwaysRotates),
				Grace:    stated(time.Minute), GrantLifetime: stated(time.Hour),
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.p.Service("id", "secret")
			got.Refresher = nil
			if got != test.want {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	for _, test := range []struct {
		name  string
		p     providers.Provider
		url   string
		fault []string // parts of the error
	}{
		{name: "one for all", p: providers.Xero, url: "https://identity.xero.com/connect/token"},
		{name: "region", p: providers.Zoho.At("com.au"), url: "https://accounts.zoho.com.au/oauth/v2/token"},
		{name: "shop", p: providers.Shopify.At("my-shop"), url: "https://my-shop.myshopify.com/admin/oauth/access_token"},
		{name: "host and port", p: providers.GitLab.At("git.example:8443"), url: "https://git.example:8443/oauth/token"},
		{
			name: "tenant", p: providers.Microsoft.At("72f988bf-86f1-41af-91ab-2d7cd011db47"),
			url: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token",
		},
		{
			name: "missing", p: providers.Salesforce,
			fault: []string{"Salesforce", "say with At", "{host}", "login.salesforce.com"},
		},
		{name: "superfluous", p: providers.Xero.At("com"), fault: []string{"Xero", `leave At("com") out`}},
		{name: "a whole URL", p: providers.GitLab.At("https://gitlab.com"), fault: []string{`At("https://gitlab.com")`, "gitlab.com"}},
		{name: "another host", p: providers.Shopify.At("evil.example/x"), fault: []string{"Shopify", "{shop}"}},
		{name: "user and host", p: providers.Zoho.At("com@evil.example"), fault: []string{"Zoho"}},
		{name: "a space", p: providers.Zoho.At(" com"), fault: []string{"Zoho"}},
		{name: "a line", p: providers.Zoho.At("com\n"), fault: []string{"Zoho"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.p.Endpoint()
			if test.fault == nil {
				want := oauth2.Endpoint{TokenURL: test.url, AuthStyle: test.p.AuthStyle.Value}
				if err != nil || got != want {
					t.Errorf("got %+v, %v; want %+v", got, err, want)
				}
				return
			}
			for _, part := range test.fault {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, want one with %q", err, part)
				}
			}
			refusesToStart(t, test.p, err)
		})
	}
}

func TestRevocation(t *testing.T) {
	for _, test := range []struct {
		p    providers.Provider
		want string
	}{
		{providers.Box, "https://api.box.com/oauth2/revoke"},
		{providers.Salesforce.At("test.salesforce.com"), "https://test.salesforce.com/services/oauth2/revoke"},
		{providers.GitLab.At("gitlab.com"), "https://gitlab.com/oauth/revoke"},
		{providers.Salesforce, ""},
		{providers.Salesforce.At("a/b"), ""},
		{providers.Zoom, ""},
	} {
		if got := test.p.Options().RevocationURL; got != test.want {
			t.Errorf("%s: got %q, want %q", test.p.Title, got, test.want)
		}
	}
}

// refusesToStart checks that no manager starts with the preset, and that its refresher presents
// nothing.
func refusesToStart(t *testing.T, p providers.Provider, want error) {
	t.Helper()
	service := p.Service("id", "secret")
	_, err := credentials.NewManager(memstore.New(), credentials.Services{p.Name: service}, nil)
	if err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("NewManager: %v, want an error with %q", err, want)
	}
	_, err = service.Refresher.Refresh(context.Background(), credentials.RefreshInput{})
	var failed *credentials.RefreshError
	if !errors.As(err, &failed) || failed.Class != credentials.ClassTransient {
		t.Errorf("Refresh: %v, want a transient *RefreshError", err)
	}
}
