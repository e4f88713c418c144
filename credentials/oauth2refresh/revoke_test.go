package oauth2refresh_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// TestRevoke: the provider ends the grant, in either way to authenticate, and again is no error.
func TestRevoke(t *testing.T) {
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		s := serve(t, provider.Options{ClientID: clientID, ClientSecret: clientSecret})
		token := s.Provider.Register("alice")
		c := config(s.TokenURL())
		c.Endpoint.AuthStyle = style
		r := oauth2refresh.New(c).With(oauth2refresh.Options{RevocationURL: s.RevocationURL()})
		for range 2 {
			if err := r.Revoke(t.Context(), credentials.NewSecret(token)); err != nil {
				t.Fatal(err)
			}
		}
		if s.Provider.Current("alice", token) {
			t.Error("the grant lives on")
		}
	}
}

// TestRevocationRequest: it is that of RFC 7009 section 2.1, with what the hooks add.
func TestRevocationRequest(t *testing.T) {
	var got url.Values
	c := config("https://login.example/token")
	c.Endpoint.AuthStyle, c.ClientSecret = oauth2.AuthStyleInParams, ""
	r := oauth2refresh.New(c).With(oauth2refresh.Options{
		RevocationURL: answering(t, func(_ http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			got = r.PostForm
		}),
		Params: func(_ context.Context, in credentials.RefreshInput) (url.Values, error) {
			return url.Values{"client_assertion": {"of " + in.RefreshToken.Reveal()}}, nil
		},
	})
	if err := r.Revoke(t.Context(), credentials.NewSecret("refresh-1")); err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"token": {"refresh-1"}, "token_type_hint": {"refresh_token"}, "client_id": {clientID},
		"client_assertion": {"of refresh-1"},
	}
	if got.Encode() != want.Encode() {
		t.Errorf("got form %v; want %v", got, want)
	}
}

// TestRevocationThatFails: the error says what to do, whether to try again, and no secret.
func TestRevocationThatFails(t *testing.T) {
	answer := func(status int, body string) string {
		return answering(t, func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	hang := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	tests := []struct {
		name, url string
		edit      func(*oauth2.Config)
		token     string
		class     credentials.Class
		says      string
	}{
		{name: "refused", url: answer(400, `{"error":"unsupported_token_type","error_description":"no letters-only here"}`),
			token: "letters-only", class: transient, says: `(unsupported_token_type): the provider answered 400 Bad Request and says "no [...] here"`},
		{name: "the client", url: answer(401, `{"error":"invalid_client"}`), token: "letters-only",
			class: transient, says: "(invalid_client)"},
		{name: "a grant's word", url: answer(400, `{"error":"invalid_grant"}`), token: "letters-only",
			class: transient, says: "(invalid_grant)"},
		{name: "503", url: answer(503, ``), token: "letters-only", class: unknown, says: "503"},
		{name: "redirected", url: answer(302, ``), token: "letters-only", class: transient, says: "302"},
		{name: "no answer", url: hang, token: "letters-only", class: unknown, says: "did not answer"},
		{name: "not reached", url: closed(), token: "letters-only", class: transient, says: "nothing was sent"},
		{name: "no URL", token: "letters-only", class: transient, says: "RevocationURL is empty"},
		{name: "no address", url: "login.example/s3cret", token: "letters-only",
			class: transient, says: "RevocationURL is no address"},
		{name: "no token", url: hang, class: transient, says: "no refresh token"},
		{name: "no client", url: hang, edit: func(c *oauth2.Config) { c.ClientID = "" }, token: "letters-only",
			class: transient, says: "ClientID"},
		{name: "no style", url: hang, edit: func(c *oauth2.Config) { c.Endpoint.AuthStyle = 0 }, token: "letters-only",
			class: transient, says: "AuthStyle"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config("https://login.example/token")
			if tt.edit != nil {
				tt.edit(&c)
			}
			client := &http.Client{Timeout: 200 * time.Millisecond}
			r := oauth2refresh.New(c).With(oauth2refresh.Options{RevocationURL: tt.url, HTTPClient: client})
			before := time.Now()
			err := r.Revoke(t.Context(), credentials.NewSecret(tt.token))
			if err == nil {
				t.Fatal("got no error")
			}
			e := fails(t, err, tt.token)
			if e.Class != tt.class || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "revoke it again") {
				t.Errorf("got %v; want %s, %q in it", err, tt.class, tt.says)
			}
			if strings.Contains(err.Error(), "letters-on") || strings.Contains(err.Error(), "s3cret") ||
				errors.Is(err, credentials.ErrGrantDead) {
				t.Errorf("got %v; want no secret, and no dead grant", err)
			}
			if strings.Contains(tt.says, "answered") {
				between(t, e.RetryAt, before, time.Minute)
			}
			if tt.url == hang && tt.says == "did not answer" && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got cause %v; want the client's time-out", e.Err)
			}
		})
	}
}
