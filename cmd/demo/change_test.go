package main

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

var alice = credentials.Key{Service: "xero", Account: "alice"}

// useStore has the command find a private server, as useServer does, and returns the store there,
// which has alice's refresh token.
func useStore(t *testing.T, database string) *mysql.Store {
	t.Helper()
	useServer(t, database)
	ok(t, "", "migrate", "up")
	ok(t, `{"refresh_token": "SECRET"}`, "put", "xero", "alice")
	db, err := sql.Open("mysql", private.server.DSN(database))
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	store, err := mysql.NewStore(db, nil)
	must(t, err)
	return store
}

// claim makes a claim on alice's credential that must succeed.
func claim(t *testing.T, store *mysql.Store, id string, lease time.Duration) credentials.Credential {
	t.Helper()
	c, err := store.Claim(t.Context(), alice, credentials.Claim{ID: id, Holder: "web-1", Lease: lease})
	must(t, err)
	if c.Lease.ID != id {
		t.Fatalf("the claim was not made: %+v", c.Lease)
	}
	return c
}

func TestDisableAndEnable(t *testing.T) {
	store := useStore(t, "disable")
	demo(t, "", "disable", "xero", "alice", "--dry-run").ends(0).shows("xero/alice would be disabled").
		hides("level=INFO", "SECRET")
	fields{"state": "no token yet"}.in(t, ok(t, "", "get", "xero", "alice"))

	held := claim(t, store, "exchange", time.Hour)
	demo(t, "", "disable", "xero", "alice", "--by", "ann, ticket 7").ends(0).
		shows("xero/alice disabled", "exchange of web-1", "will be stored").
		says(`msg="credential disabled"`, "credential=xero/alice", `by="ann, ticket 7"`).hides("SECRET")
	c := ok(t, "", "get", "xero", "alice")
	fields{"state": "disabled", "due_in": nil}.in(t, c)
	fields{"by": "ann, ticket 7"}.in(t, c["disabled"])
	demo(t, "", "get", "xero", "alice").ends(0).shows("by ann, ticket 7")
	demo(t, "", "list", "--state", "disabled").ends(0).shows("alice")
	demo(t, "", "disable", "xero", "alice").ends(0).shows("was disabled already, by ann, ticket 7")
	fields{"disabled": false, "state": "disabled"}.in(t, ok(t, "", "disable", "xero", "alice"))

	must(t, store.Save(t.Context(), held.Fence(), credentials.Renewal{
		Grant: credentials.Grant{AccessToken: credentials.NewSecret("SECRET-2"), Lifetime: time.Hour, RefreshLifetime: credentials.Never},
	}))
	fields{"state": "disabled", "token": "[redacted]"}.in(t, ok(t, "", "get", "xero", "alice"))

	demo(t, "", "enable", "xero", "alice", "--dry-run").ends(0).shows("would be enabled", "by ann, ticket 7")
	demo(t, "", "enable", "xero", "alice", "--if-version", "1").ends(exitFailed).says("left as it is", "version 1")
	fields{"enabled": true, "dry_run": false}.in(t, ok(t, "", "enable", "xero", "alice"))
	fields{"enabled": false}.in(t, ok(t, "", "enable", "xero", "alice"))
	fields{"state": "due"}.in(t, ok(t, "", "get", "xero", "alice"))
}

func TestRelease(t *testing.T) {
	store := useStore(t, "release")
	demo(t, "", "release", "xero", "alice").ends(exitFailed).says("no lease stands in the row").hides("level=INFO")
	claim(t, store, "live", time.Hour)
	demo(t, "", "release", "xero", "alice").ends(exitFailed).says("the lease of web-1 ends in", "--live")
	demo(t, "", "release", "xero", "alice", "--live", "--dry-run").ends(0).shows("would be released", "web-1")
	fields{"state": "being refreshed"}.in(t, ok(t, "", "get", "xero", "alice"))
	demo(t, "", "release", "xero", "alice", "--live").ends(0).shows("xero/alice released", "outcome of its exchange is unknown").
		says(`msg="credential released"`)
	c := ok(t, "", "get", "xero", "alice")
	fields{"state": "no token yet", "lease": nil}.in(t, c)
	fields{"by": "web-1"}.in(t, c["interrupted"])

	claim(t, store, "ended", time.Microsecond)
	fields{"state": "interrupted"}.in(t, ok(t, "", "get", "xero", "alice"))
	fields{"released": true}.in(t, ok(t, "", "release", "xero", "alice"))
}

// The row moves on between the command's look and its write.
func TestChangesRefuseARowThatMoved(t *testing.T) {
	store := useStore(t, "moved")
	seen, err := store.Status(t.Context(), alice)
	must(t, err)
	must(t, store.Put(t.Context(), alice, credentials.Grant{RefreshToken: credentials.NewSecret("newer")}))
	moved, err := store.Status(t.Context(), alice)
	must(t, err)
	ch := credentials.Change{Key: alice, By: "ann", Row: seen.Row, Version: seen.Version}
	err = store.Remove(t.Context(), ch)
	if !errors.Is(err, credentials.ErrSuperseded) {
		t.Errorf("Remove of a row that moved: got error %v", err)
	}
	for _, verb := range []string{"disable", "enable", "release", "revive", "delete"} {
		demo(t, "", verb, "xero", "alice", "--if-version", fmt.Sprint(seen.Version)).ends(exitFailed).
			says("xero/alice is left as it is", "look at it again").hides("level=INFO")
	}
	now, err := store.Status(t.Context(), alice)
	must(t, err)
	if now.Version != moved.Version {
		t.Errorf("the row was written: version %d, want %d", now.Version, moved.Version)
	}
	demo(t, "", "delete", "xero", "alice", "--if-version", fmt.Sprint(now.Version)).ends(0).shows("xero/alice deleted")
}

func TestDeleteOfAService(t *testing.T) {
	useStore(t, "deleteall")
	for i := range 3 {
		ok(t, `{"refresh_token": "SECRET"}`, "put", "github", fmt.Sprint("account-", i))
	}
	demo(t, "", "delete", "--service", "github", "--dry-run").ends(0).
		shows("github/account-0\n", "3 credentials of github to delete").hides("xero", "level=INFO")
	demo(t, "", "delete", "--service", "github").ends(exitUsage).says("--yes")
	fields{"deleted": 3.0, "dry_run": false}.in(t, ok(t, "", "delete", "--service", "github", "--yes", "--by", "ann"))
	fields{"deleted": 0.0}.in(t, ok(t, "", "delete", "--service", "github", "--yes"))
	if left := ok(t, "", "list")["credentials"].([]any); len(left) != 1 {
		t.Errorf("%d credentials are left, want one", len(left))
	}
	demo(t, "", "delete", "xero", "alice", "--dry-run").ends(0).shows("xero/alice would be deleted")
	fields{"deleted": true}.in(t, ok(t, "", "delete", "xero", "alice"))
}

func TestReviveOne(t *testing.T) {
	store := useStore(t, "reviveone")
	dies := func(id, code string) {
		t.Helper()
		c := claim(t, store, id, time.Hour)
		must(t, store.Fail(t.Context(), c.Fence(), credentials.Failure{Class: credentials.ClassDead, Code: code}))
	}
	demo(t, "", "revive", "xero", "alice").ends(exitFailed).says("is not dead", "no token yet")
	dies("first", "invalid_grant")
	demo(t, "", "revive", "xero", "alice", "--dry-run").ends(0).shows("would be revived", "invalid_grant")
	fields{"revived": true}.in(t, ok(t, "", "revive", "xero", "alice"))
	dies("second", credentials.CodeInterrupted)
	demo(t, "", "revive", "xero", "alice").ends(exitFailed).says("may have been used up", "--replay")
	fields{"revived": true}.in(t, ok(t, "", "revive", "xero", "alice", "--replay"))
	fields{"state": "no token yet", "failure": nil, "interrupted": nil}.in(t, ok(t, "", "get", "xero", "alice"))
}

func TestChangeCommandLines(t *testing.T) {
	useNoServer(t, "1")
	lines := map[string]line{
		"yes for one":          {"delete|xero|alice|--yes", "--yes is for --service"},
		"account of a service": {"delete|alice|--service|xero|--yes", "takes no arguments"},
		"version of a service": {"delete|--service|xero|--yes|--if-version|3", "for one credential"},
		"odd service":          {"delete|--service|x ero|--yes", "service name"},
		"since for one":        {"revive|xero|alice|--since|1h", "--since is for --service"},
		"replay of a service":  {"revive|--service|xero|--since|1h|--replay", "for one grant"},
	}
	for _, verb := range []string{"disable", "enable", "release", "revive", "delete"} {
		lines[verb+" nothing"] = line{verb, "SERVICE [ACCOUNT]"}
		lines[verb+" by an odd name"] = line{verb + "|xero|alice|--by|änn", "set --by"}
		lines[verb+" by a long name"] = line{verb + "|xero|alice|--by|" + strings.Repeat("a", 256), "set --by"}
	}
	fail(t, exitUsage, "", lines)
}
