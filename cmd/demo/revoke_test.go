package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// delete --revoke ends the grant of the newest refresh token: that of the row, or the one that an
// exchange under way brings.
func TestDeleteRevokes(t *testing.T) {
	p := startProvider(t, provider.Options{})
	store := useStore(t, "revoke")
	put := func() (refreshToken string) {
		t.Helper()
		refreshToken = p.Provider.Register("alice")
		ok(t, fmt.Sprintf(`{"refresh_token": %q}`, refreshToken), "put", "xero", "alice")
		return refreshToken
	}
	revoke := []string{"delete", "xero", "alice", "--revoke", p.RevocationURL(), "--client-id", "any"}

	token := put()
	demo(t, "", append(revoke, "--dry-run")...).ends(0).shows("would be deleted")
	if !p.Provider.Current("alice", token) {
		t.Error("a dry run revoked the grant")
	}
	demo(t, "", revoke...).ends(0).shows("xero/alice deleted").says(`msg="grant revoked"`).hides(token)
	if p.Provider.Current("alice", token) {
		t.Error("the grant lives on")
	}

	put()
	newest := p.Provider.Register("alice") // as if the exchange had brought it
	held := claim(t, store, "exchange", time.Minute)
	saved := make(chan error)
	go func() {
		for {
			c, err := store.Get(t.Context(), alice)
			if err == nil && c.Disabled.By == "" {
				continue
			}
			saved <- store.Save(t.Context(), held.Fence(), credentials.Renewal{Grant: credentials.Grant{
				AccessToken: credentials.NewSecret("access"), RefreshToken: credentials.NewSecret(newest),
				Lifetime: time.Hour, RefreshLifetime: credentials.Never,
			}, DueIn: time.Hour})
			return
		}
	}()
	demo(t, "", revoke...).ends(0).hides(newest)
	must(t, <-saved)
	if p.Provider.Current("alice", newest) {
		t.Error("the grant that the exchange brought lives on")
	}
}

// A provider that is not there is not in the way of the deletion, and the exit status says that it
// was not told.
func TestDeleteThatCannotRevoke(t *testing.T) {
	useStore(t, "norevoke")
	demo(t, "", "delete", "xero", "alice", "--revoke", "http://127.0.0.1:1/revoke", "--client-id", "any").
		ends(exitFailed).shows("xero/alice deleted").says("is deleted, but its grant may live on", "nothing was sent").
		hides("SECRET")
	demo(t, "", "get", "xero", "alice").ends(exitFailed).says("there is no credential")
}

func TestRevokeCommandLines(t *testing.T) {
	for _, line := range []struct {
		args []string
		says string
	}{
		{[]string{"xero", "alice", "--revoke", "https://login.example/revoke"}, "--client-id"},
		{[]string{"xero", "alice", "--revoke", "login.example", "--client-id", "any"}, "https://HOST/PATH"},
		{[]string{"xero", "alice", "--revoke", "https://login.example", "--client-id", "any", "--auth-style", "x"}, "header or body"},
		{[]string{"xero", "alice", "--client-id", "any"}, "goes with --revoke"},
		{[]string{"--service", "xero", "--revoke", "https://login.example", "--client-id", "any"}, "for one credential"},
	} {
		demo(t, "", append([]string{"delete"}, line.args...)...).ends(exitUsage).says(line.says)
	}
}
